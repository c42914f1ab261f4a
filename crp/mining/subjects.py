"""What is mined: a model with its composite, and a data set; described so that a library can tell them again."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from crp.attribution import OUTPUT, RelevanceFlow, Replica, prepare
from crp.attribution.composites import composite_for
from crp.concepts import ConceptKind
from crp.errors import LibraryError, ModelError, SampleError, shortened
from crp.library.fingerprints import (
    data_fingerprint,
    options_in,
    sample_digest,
    sampled_indices,
    weights_fingerprint,
)

from .blocks import SampleReader, check_repeatable, label_table
from .targets import TargetRule, answered, asks, questions

if TYPE_CHECKING:
    # zennit is loaded by crp.attribution alone, which prepares torchvision for it
    from zennit.core import Composite

    from crp.library import Library


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
        Number of outputs, or of what else targets count.
    start
        What relevance starts as: `"logit"`, or `"function"` where the rule of targets says it.
    model, composite
        Descriptions for the manifest.
    """

    replica: Replica
    survey: Replica
    shapes: dict[str, tuple[int, ...]]
    classes: int
    start: str
    model: dict[str, Any]
    composite: dict[str, Any]


def model_subject(
    model: nn.Module,
    composite: Composite | None,
    reader: SampleReader,
    layers: Sequence[str],
    device: str | torch.device | None,
    dtype: torch.dtype | None = None,
    *,
    targets: TargetRule = "prediction",
    classes: int | None = None,
) -> ModelSubject:
    """Fingerprint a model, put the rules on a copy, and run the first sample through it.

    `classes` is asked for where the output is not `[N, classes]`; without it, it is the length of the second axis.

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
        "output": getattr(model, "explained_output", None),
    }
    if device is not None:
        # `to` would move the caller's weights
        model = copy.deepcopy(model).to(device)
    rules, composite_description = described_rules(model, composite)
    replica = prepare(model, rules)
    shapes, classes, start = _probed(replica, reader, layers, targets, classes)
    survey = replica if dtype is None else prepare(model, rules, dtype=dtype)
    return ModelSubject(replica, survey, shapes, classes, start, description, composite_description)


def described_rules(model: nn.Module, composite: Composite | None) -> tuple[Composite, dict[str, Any]]:
    """A composite and what a library says of it; without one, the composite that fits the model."""
    if composite is None:
        fitting = composite_for(model)
        composite, name, reason = fitting.composite, fitting.name, fitting.reason
    else:
        name, reason = type(composite).__name__, "given by the caller"
    rules, options = defaultdict(list), defaultdict(set)
    context: dict = {}
    for module_name, module in model.named_modules():
        hook = composite.module_map(context, module_name, module)
        if hook is not None:
            rules[type(hook).__name__].append(module_name)
            options[type(hook).__name__].add(" ".join(options_in(hook)))
    canonizers = [type(canonizer).__name__ for canonizer in composite.canonizers]
    description = {"name": name, "reason": reason, "rules": dict(rules), "canonizers": canonizers}
    return composite, {**description, "options": {rule: sorted(found) for rule, found in options.items()}}


def _probed(
    replica: Replica, reader: SampleReader, layers: Sequence[str], targets: TargetRule, classes: int | None
) -> tuple[dict[str, tuple[int, ...]], int, str]:
    # a rule with a name needs no label to be seen to fit
    rule = targets if callable(targets) else "prediction"
    labels = label_table([_first_label(reader)]) if callable(targets) else torch.tensor([-1])
    with RelevanceFlow(replica, None, reader.like[None], layers) as flow, reader.naming():
        if classes is None or flow.prediction.ndim == 2:
            classes = flow.prediction.shape[1]
        # refuses a rule that does not fit the output
        questions(rule, flow.prediction, labels, torch.tensor([0]), classes)
        own_start = callable(targets) and asks(answered(targets, flow.prediction, labels))
        for layer in layers:
            if not flow.reaches(OUTPUT, layer):
                raise ModelError(f"No relevance can reach layer '{layer}': the output does not depend on it.")
        shapes = {layer: tuple(flow.activation(layer).shape[1:]) for layer in layers}
        return shapes, classes, "function" if own_start else "logit"


def _first_label(reader: SampleReader) -> int | tuple[int, ...]:
    """The label of the first sample that can be used, which is `reader.like`."""
    for index in range(len(reader)):
        try:
            return reader[index][1]
        except SampleError:
            continue
    return -1


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


def check_same(stored: Mapping[str, Any], given: Mapping[str, Any], keys: Sequence[str], fact: str) -> None:
    """Refuse a subject whose description differs from the library's.

    Raises
    ------
    LibraryError
        Names the first key that differs, with both values (of mappings, what differs in them).
    """
    for key in keys:
        ours, theirs = given[key], stored.get(key)
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            differing = [name for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]
            ours, theirs = ({name: values.get(name) for name in differing} for values in (ours, theirs))
        if ours != theirs:
            raise LibraryError(
                f"{fact}: its {key} is {shortened(ours, 200)}, and the library has {shortened(theirs, 200)}."
            )


def check_composite(library: Library, given: Mapping[str, Any]) -> None:
    """Refuse a composite, as `described_rules` describes it, that is another one than the library's.

    Options of rules are read from zennit's objects, so they are compared where zennit is the version that mined.

    Raises
    ------
    LibraryError
    """
    mined = library.manifest["composite"]
    keys = ["name", "rules", "canonizers"]
    if "options" in mined and library.manifest["versions"].get("zennit") == version("zennit"):
        keys.append("options")
    check_same(mined, given, keys, "This is not the composite of the library")


def check_data(library: Library, data: DataSubject) -> None:
    """Refuse a data set that is another one than the library's.

    Raises
    ------
    LibraryError
    """
    keys = ["length", "shape", "dtype", "fingerprint"]
    check_same(library.manifest["data"], data.data, keys, "This is not the data set that was mined")


def check_start(library: Library) -> None:
    """Refuse a library whose relevance a function started: a class alone does not say what that was.

    Raises
    ------
    LibraryError
    """
    if library.manifest["settings"]["start"] != "logit":
        raise LibraryError(
            f"The library '{library.path}' starts relevance as a function says, "
            f"{shortened(library.manifest['settings']['targets'])}, and not as the output of a class: this is not made "
            "for it."
        )


def check_shapes(library: Library, shapes: Mapping[str, tuple[int, ...]], concept: ConceptKind) -> None:
    """Refuse layers whose outputs have another shape, or another number of concepts, than the library says.

    Raises
    ------
    LibraryError
    """
    for layer, shape in shapes.items():
        stored = {"shape": list(library.shape(layer)), "concepts": library.limits(layer).concepts}
        given = {"shape": list(shape), "concepts": concept.size(shape)}
        check_same(stored, given, ["shape", "concepts"], f"This is not the layer '{layer}' of the library")
