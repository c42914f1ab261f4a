"""A model prepared for mining: a copy with rules, and the shapes of its layers for the first sample."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from crp.arguments import device_here
from crp.attribution import OUTPUT, RelevanceFlow, Replica, prepare
from crp.attribution.named_starts import output_names
from crp.attribution.repeatability import check_same_in_batches, check_same_output
from crp.attribution.starts import Start
from crp.concepts import Layout
from crp.errors import ModelError, SampleError
from crp.models import PreparedModel, ready_model

from .block_stream import SampleReader, label_table
from .labels import Label
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
    layouts
        What the axes of each layer's output mean.
    classes
        Number of outputs, or of targets if a function defines its own; 1 if the rule is a start.
    outputs
        Number of outputs.
    start
        Where relevance starts: `"logit"`, `"function"` if the target rule is a function that starts it, `"start"` if
        the rule is a start.
    model, composite
        Descriptions for the manifest.
    """

    replica: Replica
    survey: Replica
    layouts: dict[str, Layout]
    classes: int
    outputs: int
    start: str
    model: dict[str, Any]
    composite: dict[str, Any]


def model_subject(
    model: nn.Module | PreparedModel,
    composite: Composite | str | None,
    reader: SampleReader,
    layers: Sequence[str],
    device: str | torch.device | None,
    dtype: torch.dtype | None = None,
    *,
    targets: TargetRule = "prediction",
    classes: int | None = None,
    layouts: Mapping[str, Layout] | None = None,
    in_batches: bool = False,
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
    layouts
        What the axes of some layers' outputs mean; otherwise this is observed.
    in_batches
        Whether to refuse a model for which it matters which samples are in a batch: scores would depend on the blocks.

    Raises
    ------
    ModelError
        If weights are NaN or infinite, or the model cannot be explained.
    InputError
        If a layer is not one of the model's, or the samples do not fit the model.
    """
    if device is not None:
        if isinstance(model, PreparedModel):
            model, composite = model.model, model.composite
        # `to` would move the caller's weights
        model = copy.deepcopy(model).to(device_here(device))
    ready = ready_model(model, composite, reader.like[None])
    model = ready.model
    description = {
        "class": f"{type(model).__module__}.{type(model).__qualname__}",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "weights": ready.weights,
        "output": getattr(model, "explained_output", None),
    }
    found, classes, outputs, start, notes = _probed(
        ready.replica, reader, layers, targets, classes, layouts, in_batches=in_batches
    )
    rules = {**ready.rules, "reason": " ".join([ready.rules["reason"], *notes])}
    survey = ready.replica if dtype is None else prepare(model, ready.composite, dtype=dtype)
    return ModelSubject(ready.replica, survey, found, classes, outputs, start, description, rules)


def _probed(
    replica: Replica,
    reader: SampleReader,
    layers: Sequence[str],
    targets: TargetRule,
    classes: int | None,
    layouts: Mapping[str, Layout] | None,
    *,
    in_batches: bool,
) -> tuple[dict[str, Layout], int, int, str, Sequence[str]]:
    """Find layouts, the numbers of classes and outputs, where relevance starts, and `RelevanceFlow.pass_notes`."""
    # "prediction" stands for all rules with a name: whether they fit the output does not depend on labels
    rule = targets if callable(targets) or isinstance(targets, Start) else "prediction"
    with RelevanceFlow(replica, None, reader.like[None], layers, layouts=layouts) as flow, reader.naming():
        if isinstance(targets, Start):
            classes = 1
        elif classes is None or flow.prediction.ndim == 2:
            classes = flow.prediction.shape[1]
        reader.classes = None if isinstance(targets, Start) else classes
        labels = label_table([_first_label(reader)]) if callable(targets) else torch.tensor([-1])
        # raises an error if the rule does not fit the output
        attribution_targets(rule, flow.prediction, labels, torch.tensor([0]), classes)
        start = "start" if isinstance(targets, Start) else "logit"
        if callable(targets) and starts_relevance(rule_result(targets, flow.prediction, labels)):
            start = "function"
        for layer in layers:
            if not flow.reaches(OUTPUT, layer):
                raise ModelError(f"No relevance can reach layer '{layer}': the output does not depend on it.")
        found = {layer: flow.layout(layer) for layer in layers}
        _check_repeatable(flow, replica, reader, layers)
        if in_batches:
            _check_batches(flow, replica, reader.like)
        return found, classes, len(output_names((), flow.prediction)), start, flow.pass_notes


def _check_repeatable(flow: RelevanceFlow, replica: Replica, reader: SampleReader, layers: Sequence[str]) -> None:
    """Refuse a model that gives different outputs for the same sample, whatever the reason (a counter, a state)."""
    with RelevanceFlow(replica, None, reader.like[None], layers) as again:
        check_same_output(flow.prediction, again.prediction)


def _check_batches(flow: RelevanceFlow, replica: Replica, sample: Tensor) -> None:
    """Refuse a model whose output for a sample `[c, *S]` is another one beside a paler sample than in `flow`, alone."""
    with RelevanceFlow(replica, None, torch.stack([sample, sample / 2])) as beside:
        check_same_in_batches(replica.source, flow.prediction, beside.prediction)


def _first_label(reader: SampleReader) -> Label:
    """Return the label of the first usable sample, which is `reader.like`."""
    for index in range(len(reader)):
        try:
            return reader[index][1]
        except SampleError:
            continue
    return -1
