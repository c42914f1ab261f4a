"""`evaluate`: rankings of concepts, measured by removing concepts from the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from crp.arguments import layer_names, whole_number
from crp.attribution.forward_pass import checked_input
from crp.attribution.starts import Logits, Start
from crp.class_names import check_classes
from crp.concepts import ChannelConcept, Kinds
from crp.errors import InputError, nearest, shortened
from crp.evaluation.classes import measure_classes
from crp.evaluation.edges import measure_edges
from crp.evaluation.evaluation import Evaluation, Finding
from crp.evaluation.localisation import measure_localisation
from crp.evaluation.masking import measure_masking
from crp.evaluation.measuring import rankings_of_layers
from crp.evaluation.pairs import measure_pairs
from crp.evaluation.passes import predictions
from crp.evaluation.pixels import measure_pixels
from crp.evaluation.randomisation import measure_randomisation
from crp.evaluation.stability import measure_stability
from crp.evaluation.subject import Subject, is_right
from crp.evaluation.trained import measure_trained
from crp.mining.labels import Label, read_label
from crp.models import PreparedModel, ready_model

if TYPE_CHECKING:
    from zennit.core import Composite

_CHANNELS = ChannelConcept()

# Fractions of a layer's concepts that are removed, or put back.
FRACTIONS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
# What is measured besides rankings, in the order of the report.
MEASURES: Mapping[str, Callable[[Subject], Iterator[Finding]]] = MappingProxyType(
    {
        "trained": measure_trained,
        "edges": measure_edges,
        "pairs": measure_pairs,
        "classes": measure_classes,
        "masking": measure_masking,
        "randomisation": measure_randomisation,
        "stability": measure_stability,
        "localisation": measure_localisation,
        "pixels": measure_pixels,
    }
)
RANKINGS = "rankings"
NAMES = (RANKINGS, *MEASURES)
DEFAULT = (RANKINGS, "trained", "edges", "pairs", "classes")


def evaluate(
    model: nn.Module | PreparedModel,
    data: Tensor,
    layers: Sequence[str],
    *,
    composite: Composite | None = None,
    concept: Kinds = _CHANNELS,
    target: Callable[[Tensor], Start] | None = None,
    fractions: Sequence[float] = FRACTIONS,
    measures: Sequence[str] = DEFAULT,
    labels: Sequence[object] | None = None,
    masks: Tensor | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Evaluation:
    """Measure how far rankings of concepts are what the model uses.

    Concepts are removed from a layer's output, and the rest of the model runs. The ranking of an explanation (the
    relevance of concepts) is compared with the effects of removing single concepts, by rank correlation and sign, and
    concepts are removed and put back in its order. The same is done for baselines: activation, gradient times part,
    integrated gradients at the layer (20 steps), random rankings, and the single effects themselves.

    Parameters
    ----------
    model
        The model, or a prepared one.
    data
        Samples `[N, c, *S]`, 32 to 100 that the model predicts correctly, or of which `labels` say which these are.
        What is removed becomes zero, or the mean of the first 32.
    layers
        Names of the layers.
    composite
        A zennit composite; by default the rules that fit the model. A prepared model has it already.
    concept
        The kind of concept.
    target
        From a prediction `[N, ...]` to what is explained; by default the predicted class of each sample. What starts
        has to follow the output: numbers of the caller stay as they are, whatever is removed. Only "localisation",
        which changes nothing, takes them.
    fractions
        Fractions of concepts at which curves are measured, rising from 0.
    measures
        Names of what is measured, of `crp.evaluation.NAMES`: by default what is quick.
    labels
        The label of each sample. Those that the model predicts wrongly are left out, except where the whole model is
        measured ("trained", "masking"). If fewer than two are left, only "trained" is measured.
    masks
        bool `[N, *S]`, where what the samples show is, for "localisation".
    seed
        Seed of what is drawn at random.
    progress
        Whether to show a progress bar.

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        If there are fewer than two samples, a layer, a fraction or a measure does not fit, or what starts does not
        follow the output.
    ModelError
        If the model cannot be explained, or not be run from a layer upwards.

    Notes
    -----
    Deletion and insertion curves follow Samek et al. (2017) and Petsiuk et al. (2018), at concepts instead of pixels.
    """
    layers = layer_names(layers)
    if not layers:
        raise InputError("Name at least one layer to evaluate.")
    fractions = tuple(float(fraction) for fraction in fractions)
    if fractions[:1] != (0.0,) or list(fractions) != sorted(set(fractions)) or fractions[-1] > 1 or len(fractions) < 2:
        raise InputError(f"Fractions rise from 0 to at most 1, given {fractions}.")
    if not isinstance(data, Tensor) or len(data) < 2:
        raise InputError("An evaluation needs at least two samples, a tensor [N, ...].")
    if masks is not None and (masks.dtype != torch.bool or masks.shape != (len(data), *data.shape[2:])):
        expected = [len(data), *data.shape[2:]]
        raise InputError(f"Masks are bool {expected}, given {masks.dtype} {list(masks.shape)}.")
    if labels is not None and len(labels) != len(data):
        raise InputError(f"There are {len(data)} samples and {len(labels)} labels.")
    seed = whole_number("seed", seed, 0)
    for name in measures:
        if name not in NAMES:
            raise InputError(f"There is no measure {shortened(name)}; {nearest(str(name), NAMES)}")
    ready = ready_model(model, composite, data[:1])
    data = checked_input(ready.model, data)
    labels = None if labels is None else [_label(index, label) for index, label in enumerate(labels)]
    right = torch.ones(len(data), dtype=torch.bool) if labels is None else _right(ready, data, labels)
    explained = target or predicted_class
    subject = Subject(ready, data, right, labels, masks, tuple(layers), concept, explained, seed, progress)
    if right.sum() < 2:
        measures = [name for name in measures if name == "trained"]
        if not measures:
            raise InputError(f"The model predicts {int(right.sum())} samples correctly; at least 2 are needed.")
    return Evaluation(
        rankings_of_layers(subject, fractions) if RANKINGS in measures else (),
        int(right.sum()),
        {
            "versions": {name: version(name) for name in ("crp-atlas", "torch", "zennit", "numpy")},
            "rules": {"name": ready.rules["name"], "reason": ready.rules["reason"]},
            "settings": {"seed": seed},
        },
        tuple(finding for name in MEASURES if name in measures for finding in MEASURES[name](subject)),
    )


def _label(index: int, label: object) -> Label:
    try:
        return read_label(label)
    except InputError as error:
        raise InputError(f"Sample {index} {error}") from None


def _right(model: PreparedModel, data: Tensor, labels: Sequence[Label]) -> Tensor:
    """Return which samples the model predicts correctly, bool `[N]`."""
    output = predictions(model.model, data)
    if output.ndim != 2:
        raise InputError(f"The model's output is {list(output.shape)}, not [N, classes]: labels say nothing about it.")
    check_classes(chain.from_iterable((each,) if isinstance(each, int) else each for each in labels), output.shape[1])
    best = output.argmax(1).tolist()
    return torch.tensor([is_right(label, predicted) for label, predicted in zip(labels, best, strict=True)])


def predicted_class(prediction: Tensor) -> Start:
    """Explain the predicted class of each sample.

    Raises
    ------
    InputError
        If the output is not `[N, classes]`.
    """
    if prediction.ndim != 2:
        raise InputError(f"The model's output is {list(prediction.shape)}, not [N, classes]: give target=.")
    return Logits(prediction.argmax(1))
