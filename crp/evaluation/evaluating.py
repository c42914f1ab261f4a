"""`evaluate`: rankings of concepts, measured by removing concepts from the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from torch import Tensor, nn
from tqdm import tqdm

from crp.arguments import layer_names, whole_number
from crp.attribution import RelevanceFlow
from crp.attribution.removal import removal_in
from crp.attribution.starts import Logits, Start
from crp.concepts import ChannelConcept, Kinds, Parts, kind_at
from crp.errors import InputError
from crp.evaluation.evaluation import Evaluation
from crp.evaluation.measuring import Measurements, measured
from crp.models import PreparedModel, ready_model

if TYPE_CHECKING:
    from zennit.core import Composite

_CHANNELS = ChannelConcept()

# Fractions of a layer's concepts that are removed, or put back.
FRACTIONS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
# Samples in one pass, and those whose mean takes the place of removed parts.
_BATCH, _REFERENCES = 8, 32


def evaluate(
    model: nn.Module | PreparedModel,
    data: Tensor,
    layers: Sequence[str],
    *,
    composite: Composite | None = None,
    concept: Kinds = _CHANNELS,
    target: Callable[[Tensor], Start] | None = None,
    fractions: Sequence[float] = FRACTIONS,
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
        Samples `[N, c, *S]`, 32 to 100 that the model predicts rightly. What is removed becomes zero, or the
        mean of the first 32.
    layers
        Names of the layers.
    composite
        A zennit composite; by default the rules that fit the model. A prepared model has it already.
    concept
        The kind of concept.
    target
        From a prediction `[N, ...]` to what is explained; by default the predicted class of each sample.
    fractions
        Fractions of concepts at which curves are measured, rising from 0.
    seed
        Seed of the random rankings.
    progress
        Whether to show a progress bar.

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        If there are fewer than two samples, or a layer or fraction does not fit.
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
    seed = whole_number("seed", seed, 0)
    ready = ready_model(model, composite, data[:1])
    target = target or predicted_class
    found = {layer: Measurements() for layer in layers}
    with tqdm(total=len(data) * len(layers), desc="evaluating", unit="sample", disable=not progress) as bar:
        references = _references(ready, data, layers, concept)
        for first in range(0, len(data), _BATCH):
            batch = data[first : first + _BATCH]
            with RelevanceFlow(ready.replica, None, batch, layers) as flow:
                start = target(flow.prediction)
                relevance = flow.down(flow.output_relevance(start), to=layers)
                scores = {layer: flow.parts(layer, concept).total(relevance[layer][0]) for layer in layers}
                removals = {layer: removal_in(flow, batch, layer, kind_at(layer, concept)) for layer in layers}
            for layer, removal in removals.items():
                fills = {"zero": removal, "mean": removal.filled_with(references[layer])}
                found[layer].add(measured(fills, start, scores[layer], fractions, seed + first))
                bar.update(len(batch))
    return Evaluation(
        tuple(found[layer].summary(layer, fractions) for layer in layers),
        len(data),
        {
            "versions": {name: version(name) for name in ("crp-atlas", "torch", "zennit", "numpy")},
            "rules": {"name": ready.rules["name"], "reason": ready.rules["reason"]},
            "settings": {"seed": seed},
        },
    )


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


def _references(model: PreparedModel, data: Tensor, layers: Sequence[str], concept: Kinds) -> dict[str, Parts]:
    """Return the parts of the first samples at each layer, whose mean takes the place of what is removed."""
    with RelevanceFlow(model.replica, None, data[:_REFERENCES], layers) as flow:
        return {layer: flow.parts(layer, concept) for layer in layers}
