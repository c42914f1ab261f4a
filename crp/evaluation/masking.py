"""Relevance-based feature masking: accuracy with the most relevant concepts alone, and without concepts that oppose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

import numpy as np
import torch
from torch import Tensor

from crp.evaluation.evaluation import Figure, Finding
from crp.evaluation.subject import Subject, is_right

FRACTIONS = (0.05, 0.1, 0.25, 0.5)
_RANDOM = 3

_MEANING = (
    "Concepts are ranked by their mean relevance over the samples, for the class that the network predicts. In all "
    "samples, only the first n are kept, or the first n are removed (Schiller et al. 2019). Last row: in each sample, "
    "the concepts with negative relevance are removed, or as many at random. Accuracy is against the labels or, "
    "without labels, against the network's own predictions. What is removed becomes zero. Random: mean of "
    f"{_RANDOM} draws."
)
_COLUMNS = ("accuracy, kept", "accuracy, removed", "random, kept", "random, removed")


def measure_masking(subject: Subject) -> Iterator[Finding]:
    """Measure accuracy with concepts kept and removed in the order of their mean relevance, at each layer."""
    relevances = _relevances(subject)
    if relevances is None:
        return
    for layer, values in relevances.items():
        yield _finding(subject, layer, values)


def masked_predictions(
    subject: Subject, layer: str, removed: Sequence[Sequence[Sequence[int]]], doing: str = "masking"
) -> Tensor:
    """Compute the predictions for all samples with concepts removed.

    Parameters
    ----------
    subject
        The samples, the model and the kind of concept.
    layer
        Name of the layer.
    removed
        For each of `K` conditions, for each of the `N` samples, the ids of the concepts that are removed.
    doing
        What the progress bar says.

    Returns
    -------
    Tensor
        `[K, N, classes]`.
    """
    found = []
    for first, batch in subject.batches(doing, data=subject.everything):
        with subject.flow(batch) as flow:
            removal = flow.removal(layer, subject.concept)
        rows = [[condition[first + row] for condition in removed] for row in range(len(batch))]
        found.append(removal.predictions_each(rows))
    return torch.cat(found, 1)


def _relevances(subject: Subject) -> dict[str, np.ndarray] | None:
    """Return the relevance of all concepts for the predicted class, `[N, n]` by layer."""
    found: dict[str, list[np.ndarray]] = {layer: [] for layer in subject.layers}
    for _, batch in subject.batches("masking, relevance", data=subject.everything):
        with subject.flow(batch) as flow:
            if flow.prediction.ndim != 2 or flow.prediction.shape[1] < 2:
                return None
            arriving = flow.down(flow.output_relevance(subject.target(flow.prediction)), to=subject.layers)
            for layer in subject.layers:
                parts = flow.parts(layer, subject.concept)
                found[layer].append(parts.total(arriving[layer][0]).double().cpu().numpy())
    return {layer: np.concatenate(values) for layer, values in found.items()}


def _finding(subject: Subject, layer: str, values: np.ndarray) -> Finding:
    samples, count = values.shape
    rng = np.random.default_rng(subject.seed)
    order = np.argsort(-values.mean(0), kind="stable").tolist()
    draws = [rng.permutation(count).tolist() for _ in range(_RANDOM)]
    sizes = [ceil(fraction * count) for fraction in FRACTIONS]
    conditions: list[Sequence[Sequence[int]]] = [[[]] * samples]
    for one in (order, *draws):
        for size in sizes:
            conditions += [[one[size:]] * samples, [one[:size]] * samples]
    negative = [np.flatnonzero(row < 0).tolist() for row in values]
    conditions.append(negative)
    conditions += [[rng.permutation(count)[: len(ids)].tolist() for ids in negative] for _ in range(_RANDOM)]
    predicted = masked_predictions(subject, layer, conditions, f"masking {layer}").argmax(2).cpu().numpy()
    right = np.stack([_right(subject, row, predicted[0]) for row in predicted])
    own, random = right[1 : 1 + 2 * len(sizes)], right[1 + 2 * len(sizes) : 1 + 2 * len(sizes) * (1 + _RANDOM)]
    random = random.reshape(_RANDOM, -1, samples).mean(0)
    nothing = np.full(samples, np.nan)
    rows = {"all concepts": (right[0], nothing, nothing, nothing)}
    for place, (fraction, size) in enumerate(zip(FRACTIONS, sizes, strict=True)):
        rows[f"first {fraction:.0%} ({size})"] = (*own[2 * place : 2 * place + 2], *random[2 * place : 2 * place + 2])
    rows["negative ones removed"] = nothing, right[-1 - _RANDOM], nothing, right[-_RANDOM:].mean(0)
    figures = {name: tuple(map(Figure.of, each)) for name, each in rows.items()}
    return Finding(
        measure="masking",
        title="Accuracy with some of the concepts",
        meaning=_MEANING,
        place=layer,
        verdict=_verdict(layer, figures, sizes[1]),
        columns=_COLUMNS,
        rows=figures,
    )


def _right(subject: Subject, predicted: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return where a prediction is right, 0 or 1."""
    if subject.labels is None:
        return (predicted == before).astype(float)
    return np.array([float(is_right(label, int(best))) for label, best in zip(subject.labels, predicted, strict=True)])


def _verdict(layer: str, rows: dict[str, tuple[Figure, ...]], size: int) -> str:
    before, negative = rows["all concepts"][0].mean, rows["negative ones removed"]
    kept = rows[f"first {FRACTIONS[1]:.0%} ({size})"]
    return (
        f"At {layer}, the {size} concepts with the highest mean relevance alone give an accuracy of "
        f"{kept[0].mean:.0%} (all concepts: {before:.0%}, as many random ones: {kept[2].mean:.0%}). With the negative "
        f"concepts of each sample removed, it is {negative[1].mean:.0%} (as many random ones removed: "
        f"{negative[3].mean:.0%})."
    )
