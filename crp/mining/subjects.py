"""What is mined: a model with its composite, and a data set; described so that a library can tell them again."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from crp.attribution import OUTPUT, RelevanceFlow, Replica, prepare
from crp.attribution.composites import composite_for
from crp.errors import LibraryError, ModelError, SampleError
from crp.library.fingerprints import data_fingerprint, sample_digest, sampled_indices, weights_fingerprint

from .blocks import SampleReader, check_repeatable

if TYPE_CHECKING:
    # zennit is loaded by crp.attribution alone, which prepares torchvision for it
    from zennit.core import Composite


@dataclass(frozen=True)
class ModelSubject:
    """A model ready to be mined.

    Attributes
    ----------
    replica
        The prepared copy on the device that computes.
    survey
        The same in the precision of the pass over the data set.
    shapes
        Shape `[C, *S]` of each layer's output.
    classes
        Number of outputs.
    model, composite
        Descriptions for the manifest.
    """

    replica: Replica
    survey: Replica
    shapes: dict[str, tuple[int, ...]]
    classes: int
    model: dict[str, Any]
    composite: dict[str, Any]


def model_subject(
    model: nn.Module,
    composite: Composite | None,
    reader: SampleReader,
    layers: Sequence[str],
    device: str | torch.device | None,
    dtype: torch.dtype | None = None,
) -> ModelSubject:
    """Fingerprint a model, put the rules on a copy, and run the first sample through it.

    Raises
    ------
    ModelError
        If weights are NaN or infinite, or the model cannot be explained.
    InputError
        If a layer is not one of the model's, or the samples do not fit the model.
    """
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ModelError(f"The model's '{name}' holds NaN or infinite values.")
    description = {
        "class": f"{type(model).__module__}.{type(model).__qualname__}",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "weights": weights_fingerprint(model),
    }
    if device is not None:
        # `to` would move the caller's weights
        model = copy.deepcopy(model).to(device)
    rules, composite_description = described_rules(model, composite)
    replica = prepare(model, rules)
    shapes, classes = _probed(replica, reader, layers)
    survey = replica if dtype is None else prepare(model, rules, dtype=dtype)
    return ModelSubject(replica, survey, shapes, classes, description, composite_description)


def described_rules(model: nn.Module, composite: Composite | None) -> tuple[Composite, dict[str, Any]]:
    """A composite and what a library says of it; without one, the composite that fits the model."""
    if composite is None:
        fitting = composite_for(model)
        composite, name, reason = fitting.composite, fitting.name, fitting.reason
    else:
        name, reason = type(composite).__name__, "given by the caller"
    rules = defaultdict(list)
    context: dict = {}
    for module_name, module in model.named_modules():
        hook = composite.module_map(context, module_name, module)
        if hook is not None:
            rules[type(hook).__name__].append(module_name)
    canonizers = [type(canonizer).__name__ for canonizer in composite.canonizers]
    return composite, {"name": name, "reason": reason, "rules": dict(rules), "canonizers": canonizers}


def _probed(replica: Replica, reader: SampleReader, layers: Sequence[str]) -> tuple[dict[str, tuple[int, ...]], int]:
    with RelevanceFlow(replica, None, reader.like[None], layers) as flow:
        flow.output_relevance([0])  # refuses an output that is not [N, classes]
        for layer in layers:
            if not flow.reaches(OUTPUT, layer):
                raise ModelError(f"No relevance can reach layer '{layer}': the output does not depend on it.")
        return {layer: tuple(flow.activation(layer).shape[1:]) for layer in layers}, flow.prediction.shape[1]


@dataclass(frozen=True)
class DataSubject:
    """A data set ready to be mined: its reader, the digests of some samples, and its description for the manifest."""

    reader: SampleReader
    digests: dict[int, str]
    data: dict[str, Any]


def data_subject(dataset: object, *, labelled: bool, skip_bad: bool = False) -> DataSubject:
    """Check and fingerprint a data set.

    Parameters
    ----------
    dataset
        Map-style.
    labelled
        Whether every sample must have a label.
    skip_bad
        Whether a sample that cannot be used is no error. It has the digest `""` in the fingerprint.

    Raises
    ------
    InputError
        If it is not map-style, empty, or answers differently when asked twice.
    SampleError
        If a sample cannot be used.
    """
    reader = SampleReader(dataset, labelled, skip_bad)
    digests = sampled_digests(reader, len(reader), skip_bad)
    check_repeatable(_unlabelled(reader), {index: digest for index, digest in digests.items() if digest})
    return DataSubject(
        reader,
        digests,
        {
            "length": len(reader),
            "fingerprint": data_fingerprint(len(reader), digests),
            "shape": list(reader.like.shape),
            "dtype": str(reader.like.dtype).removeprefix("torch."),
        },
    )


def sampled_digests(reader: SampleReader, length: int, skip_bad: bool = False) -> dict[int, str]:
    """Digests of the sampled ones among the first `length` samples; `""` for what is to be skipped."""

    def digest(index: int) -> str:
        if not skip_bad:
            return sample_digest(reader[index][0])
        try:
            return sample_digest(_unlabelled(reader)[index][0])
        except SampleError:
            return ""

    return {index: digest(index) for index in sampled_indices(length)}


def _unlabelled(reader: SampleReader) -> SampleReader:
    """The same without a need for labels: with or without them, it is the same data set."""
    reader = copy.copy(reader)
    reader.labelled = False
    return reader


def check_same(stored: dict[str, Any], given: dict[str, Any], keys: Sequence[str], fact: str) -> None:
    """Refuse a subject whose description differs from the library's.

    Raises
    ------
    LibraryError
        Names the first key that differs, with both values.
    """
    for key in keys:
        if stored.get(key) != given[key]:
            raise LibraryError(f"{fact}: its {key} is {given[key]!r}, and the library has {stored.get(key)!r}.")
