"""All rankings of the concepts of layers, measured on some samples: `rankings_of_layers`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil

import numpy as np
import torch
from torch import Tensor

from crp.attribution.removal import Removal, explained_value
from crp.attribution.starts import Start
from crp.evaluation.evaluation import Curve, Figure, LayerEvaluation, RankingEvaluation
from crp.evaluation.measures import area, rank_correlation, sign_agreement, wrong_support
from crp.evaluation.rankings import gradient_times_part, integrated_gradients, random_scores
from crp.evaluation.subject import Subject

# Effects below this part of the explained output do not count for signs.
SMALLEST = 0.01
# Random rankings that curves are compared with.
_RANDOM = 5
# The first samples, whose mean takes the place of removed parts.
_REFERENCES = 32

KINDS = ("deletion", "insertion")


@dataclass
class Measurements:
    """Measurements of samples, collected.

    Attributes
    ----------
    concepts
        Number of concepts of the layer.
    values
        By ranking and what is measured, an array for each batch, `[N]` or `[N, F]`.
    base
        The explained output with all concepts, `[N]` for each batch.
    """

    concepts: int = 0
    values: dict[tuple, list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))
    base: list[np.ndarray] = field(default_factory=list)

    def add(self, other: Measurements) -> None:
        """Add the measurements of other samples."""
        self.concepts = other.concepts
        self.base += other.base
        for key, arrays in other.values.items():
            self.values[key] += arrays

    def summary(self, layer: str, fractions: Sequence[float]) -> LayerEvaluation:
        """Average over samples."""
        names = dict.fromkeys(name for name, *_ in self.values)
        return LayerEvaluation(
            layer, self.concepts, tuple(fractions), tuple(self._ranking(name, np.array(fractions)) for name in names)
        )

    def _ranking(self, name: str, fractions: np.ndarray) -> RankingEvaluation:
        def figures(what: str) -> dict[str, Figure]:
            return {key[2]: Figure.of(np.concatenate(self.values[key])) for key in keys if key[1] == what}

        keys = [key for key in self.values if key[0] == name]
        return RankingEvaluation(
            name=name,
            correlation=figures("correlation"),
            curves={key[1:]: self._curve(key, fractions) for key in keys if key[1] in KINDS},
            sign=figures("sign")["zero"],
            wrong_support=figures("wrong support")["zero"],
        )

    def _curve(self, key: tuple, fractions: np.ndarray) -> Curve:
        outputs, base = np.concatenate(self.values[key]), np.concatenate(self.base)
        random = np.concatenate(self.values["random", *key[1:]])
        areas = _area(outputs, key[1], fractions) / _area(random, key[1], fractions).mean()
        return Curve(tuple((outputs.mean(0) / base.mean()).tolist()), Figure.of(areas))


def rankings_of_layers(subject: Subject, fractions: Sequence[float]) -> tuple[LayerEvaluation, ...]:
    """Measure all rankings of all layers of a subject."""
    found = {layer: Measurements() for layer in subject.layers}
    with subject.flow(subject.data[:_REFERENCES]) as flow:
        means = {layer: flow.parts(layer, subject.concept).means() for layer in subject.layers}
    for first, batch in subject.batches("rankings"):
        with subject.flow(batch) as flow:
            start = subject.target(flow.prediction)
            relevance = flow.down(flow.output_relevance(start), to=subject.layers)
            flow.follow_upper_parts(subject.layers)
            for layer in subject.layers:
                removal = flow.removal(layer, subject.concept)
                fills = {"zero": removal, "mean": removal.filled_with(means[layer])}
                scores = flow.parts(layer, subject.concept).total(relevance[layer][0])
                found[layer].add(measured(fills, start, scores, fractions, subject.seed + first))
    return tuple(found[layer].summary(layer, fractions) for layer in subject.layers)


def measured(
    removals: Mapping[str, Removal], start: Start, relevance: Tensor, fractions: Sequence[float], seed: int
) -> Measurements:
    """Measure all rankings of one layer.

    Parameters
    ----------
    removals
        By name, what takes the place of removed concepts; one is `"zero"`.
    start
        What is explained.
    relevance
        Relevance of each concept, `[N, n]`.
    fractions
        Fractions of concepts at which curves are measured.
    seed
        Seed of the random rankings.
    """
    upper, parts = removals["zero"].upper, removals["zero"].parts
    samples, count = relevance.shape
    base = explained_value(start, upper.prediction).double().cpu().numpy()
    effects = {fill: removal.effects(range(count), start).cpu().numpy() for fill, removal in removals.items()}
    rankings = {
        "relevance": relevance,
        "activation": parts.activation().total,
        "gradient × part": gradient_times_part(upper, parts, start),
        "integrated gradients": integrated_gradients(upper, parts, start),
        "single effects": torch.from_numpy(effects["zero"]),
    }
    smallest = SMALLEST * np.abs(base)

    def of(scores: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
        numbers = {}
        for fill, removal in removals.items():
            numbers["correlation", fill] = rank_correlation(scores, effects[fill])
            numbers["sign", fill] = sign_agreement(scores, effects[fill], smallest)
            numbers["wrong support", fill] = wrong_support(scores, effects[fill], smallest)
            for kind in KINDS:
                numbers[kind, fill] = _outputs(removal, start, scores, fractions, kind)
        return numbers

    found = Measurements(count, base=[base])
    for name, scores in rankings.items():
        for key, values in of(scores.double().cpu().numpy()).items():
            found.values[name, *key].append(values)
    drawn = [of(random_scores(samples, count, seed + number).numpy()) for number in range(_RANDOM)]
    for key in drawn[0]:
        found.values["random", *key].append(np.mean([numbers[key] for numbers in drawn], 0))
    return found


def _outputs(removal: Removal, start: Start, scores: np.ndarray, fractions: Sequence[float], kind: str) -> np.ndarray:
    """Return the explained output along a curve, `[N, F]`."""
    order = np.argsort(-scores, axis=1, kind="stable").tolist()
    counts = [ceil(fraction * scores.shape[1]) for fraction in fractions]
    removed = [[row[:count] if kind == "deletion" else row[count:] for count in counts] for row in order]
    return removal.outputs_each(removed, start).T.cpu().numpy()


def _area(outputs: np.ndarray, kind: str, fractions: np.ndarray) -> np.ndarray:
    change = outputs[:, :1] - outputs if kind == "deletion" else outputs - outputs[:, :1]
    return area(change, fractions)
