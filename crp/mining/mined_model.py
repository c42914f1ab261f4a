"""A model prepared for mining: a copy with rules, and the shapes of its layers for the first sample."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from crp.attribution import OUTPUT, RelevanceFlow, Replica, prepare
from crp.errors import ModelError, SampleError
from crp.library.fingerprints import weights_fingerprint
from crp.models import described_rules

from .block_stream import SampleReader, label_table
from .targets import TargetRule, attribution_targets, rule_result, starts_relevance

if TYPE_CHECKING:
    # zennit is loaded by crp.attribution alone, which prepares torchvision for it
    from zennit.core import Composite


@dataclass(frozen=True)
class ModelSubject:
    """A model prepared for mining.

    Attributes
    ----------
    replica
        The copy with rules, on the device that computes.
    survey
        The same model in the precision of the pass over the data set.
    shapes
        Shape `[C, *S]` of each layer's output.
    classes
        Number of outputs, or of targets if a function numbers them otherwise.
    start
        Where relevance starts: `"logit"`, or `"function"` if the target rule starts it.
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

    Parameters
    ----------
    model, composite, targets
        As in `crp.mine`.
    reader
        The data set.
    layers
        Layers to be mined.
    device
        Where to compute; None for the model's device.
    dtype
        Precision of the pass over the data set; None for the model's own.
    classes
        Number of targets if the output is not `[N, classes]`; by default the length of the output's second axis.

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
        # a copy, because `to` would move the caller's weights
        model = copy.deepcopy(model).to(device)
    rules, composite_description = described_rules(model, composite)
    replica = prepare(model, rules)
    shapes, classes, start = _probed(replica, reader, layers, targets, classes)
    survey = replica if dtype is None else prepare(model, rules, dtype=dtype)
    return ModelSubject(replica, survey, shapes, classes, start, description, composite_description)


def _probed(
    replica: Replica, reader: SampleReader, layers: Sequence[str], targets: TargetRule, classes: int | None
) -> tuple[dict[str, tuple[int, ...]], int, str]:
    # "prediction" stands for all rules with a name: whether they fit the output does not depend on labels
    rule = targets if callable(targets) else "prediction"
    labels = label_table([_first_label(reader)]) if callable(targets) else torch.tensor([-1])
    with RelevanceFlow(replica, None, reader.like[None], layers) as flow, reader.naming():
        if classes is None or flow.prediction.ndim == 2:
            classes = flow.prediction.shape[1]
        # raises an error if the rule does not fit the output
        attribution_targets(rule, flow.prediction, labels, torch.tensor([0]), classes)
        own_start = callable(targets) and starts_relevance(rule_result(targets, flow.prediction, labels))
        for layer in layers:
            if not flow.reaches(OUTPUT, layer):
                raise ModelError(f"No relevance can reach layer '{layer}': the output does not depend on it.")
        shapes = {layer: tuple(flow.activation(layer).shape[1:]) for layer in layers}
        return shapes, classes, "function" if own_start else "logit"


def _first_label(reader: SampleReader) -> int | tuple[int, ...]:
    """Label of the first usable sample, which is `reader.like`."""
    for index in range(len(reader)):
        try:
            return reader[index][1]
        except SampleError:
            continue
    return -1
