"""How well the concepts' relevances of every class add up to its logit: surrogate faithfulness."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from math import ceil

import numpy as np
import torch
from torch import Tensor

from crp.attribution import RelevanceFlow
from crp.evaluation.evaluation import Figure, Finding, figures_of
from crp.evaluation.subject import Subject

# Classes of each sample (those with the highest logits), and the part of the concepts that are kept.
_CLASSES, _KEPT = 20, 0.1
# Random choices of concepts, averaged.
_RANDOM = 5
_COLUMNS = ("correlation", "distance", "same class")

_MEANING = (
    "The sums of the concepts' relevances are taken as the logits of a surrogate of the network (after Kumar and Ahuja "
    f"2025), for the {_CLASSES} classes with the highest logits in each sample. Correlation: between the surrogate's "
    "logits and the network's, over these classes. Distance: the norm of the difference, divided by the norm of the "
    "network's logits. Same class: how often both have the same top class. The surrogate has all concepts, the first "
    f"{_KEPT:.0%} by relevance for the top class, or as many random ones (mean of {_RANDOM} draws)."
)


def measure_classes(subject: Subject) -> Iterator[Finding]:
    """Compare sums of relevances with logits, over classes, at each layer."""
    found: dict[str, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    rng = np.random.default_rng(subject.seed)
    for _, batch in subject.batches("classes"):
        with subject.flow(batch) as flow:
            if flow.prediction.ndim != 2 or flow.prediction.shape[1] < 2:
                return
            logits, chosen = flow.prediction.topk(min(_CLASSES, flow.prediction.shape[1]), dim=1)
            truth = logits.double().cpu().numpy()
            for layer, relevance in _by_class(subject, flow, chosen).items():
                for name, numbers in _surrogates(relevance, truth, rng).items():
                    found[layer][name].append(numbers)
    for layer in subject.layers:
        rows = figures_of(found[layer])
        yield Finding(
            measure="classes",
            title="Do relevances add up to the logits?",
            meaning=_MEANING,
            place=layer,
            verdict=_verdict(layer, rows),
            columns=_COLUMNS,
            rows=rows,
        )


def _by_class(subject: Subject, flow: RelevanceFlow, chosen: Tensor) -> dict[str, np.ndarray]:
    """Return the relevance of every concept for the chosen classes, `[N, classes, n]` by layer."""
    start = torch.zeros(chosen.shape[1], *flow.prediction.shape).to(flow.prediction)
    start.scatter_(2, chosen.T[..., None], flow.prediction.gather(1, chosen).T[..., None])
    arriving = flow.down(start, to=subject.layers)
    return {
        layer: flow.parts(layer, subject.concept).total(arriving[layer]).double().transpose(0, 1).cpu().numpy()
        for layer in subject.layers
    }


def _surrogates(relevance: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Measure surrogates with all, the first and random concepts, `[3, N]` each."""
    samples, _, count = relevance.shape
    kept = ceil(_KEPT * count)
    first = np.argsort(-relevance[:, 0], axis=1, kind="stable")[:, :kept]
    random = [rng.permuted(np.tile(np.arange(count), (samples, 1)), axis=1)[:, :kept] for _ in range(_RANDOM)]
    name = f"first {_KEPT:.0%}"
    return {
        "all concepts": agreement(relevance.sum(2), truth),
        name: agreement(_sum_of(relevance, first), truth),
        f"random {_KEPT:.0%}": np.mean([agreement(_sum_of(relevance, ids), truth) for ids in random], 0),
    }


def _sum_of(relevance: np.ndarray, ids: np.ndarray) -> np.ndarray:
    return np.take_along_axis(relevance, ids[:, None], 2).sum(2)


def agreement(surrogate: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Compare the logits of a surrogate with those of the network.

    Parameters
    ----------
    surrogate, logits
        `[N, classes]`.

    Returns
    -------
    ndarray
        `[3, N]`: Pearson's correlation over classes, NaN where one is constant; length of the difference, as a part of
        the length of the logits; whether the largest is that of the same class.
    """
    centred = [values - values.mean(1, keepdims=True) for values in (surrogate, logits)]
    scale = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = (centred[0] * centred[1]).sum(1) / scale
        distance = np.linalg.norm(surrogate - logits, axis=1) / np.linalg.norm(logits, axis=1)
    return np.stack([correlation, distance, surrogate.argmax(1) == logits.argmax(1)])


def _verdict(layer: str, rows: dict[str, tuple[Figure, ...]]) -> str:
    whole, first, random = (tuple(figure.mean for figure in figures) for figures in rows.values())
    add = "add up to" if whole[1] <= 0.1 else "roughly add up to" if whole[1] <= 0.5 else "do not add up to"
    return (
        f"At {layer}, the relevances of all concepts {add} the logits of the top classes (off by {whole[1]:.0%}). The "
        f"first {_KEPT:.0%} of the concepts alone give the same class in {first[2]:.0%} of the samples, as many random "
        f"ones in {random[2]:.0%}."
    )
