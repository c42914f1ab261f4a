"""Edges of the attribution graph, against what happens to the upper concept when the lower one is removed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crp.attribution import RelevanceFlow
from crp.attribution.removal import Removal, explained_value
from crp.concepts import Kinds, Layout, Parts, kind_at, parts_of
from crp.evaluation.evaluation import Figure, Finding, figures_of
from crp.evaluation.measures import rank_correlation, sign_agreement
from crp.evaluation.rankings import gradient_times_part, integrated_gradients
from crp.evaluation.subject import Subject

# The most relevant upper concepts of each sample, and how many edges of each are measured.
_UPPER, _EDGES = 5, 50
# Smaller changes, as a part of the upper concept's value, do not count for signs.
_SMALLEST = 0.01
# Samples in a pass and conditions at a time: outputs of a whole layer are held for each.
_BATCH, _CONDITIONS = 4, 10

_MEANING = (
    "An edge is the relevance that an upper concept sends to a lower one. It is compared with a measured effect: the "
    "lower concept is removed, the part of the model between the two layers runs again, and the value of the upper "
    f"concept falls. In each sample, the {_UPPER} most relevant upper concepts are paired with {_EDGES} active lower "
    "concepts, drawn at random. The value of an upper concept is its activation, with each position weighted by its "
    "relevance per activation; positions where it is inactive have no weight. "
    "Integrated gradients take 20 passes, the other methods one."
)


@dataclass(frozen=True)
class ConceptValue:
    r"""The value of one concept for each sample at the output of a layer: a start, for the part below that layer.

    .. math:: V(a) = \sum w \cdot part_j(a), \qquad w = R / a

    Attributes
    ----------
    weights
        `[N, *layer]`: relevance at the layer, divided by its output; 0 where the output is 0.
    ids
        The concept of each sample.
    concept, layout, layer
        How the layer's output is divided into parts.
    """

    weights: Tensor
    ids: Sequence[int]
    concept: Kinds
    layout: Layout
    layer: str

    def relevance(self, prediction: Tensor) -> Tensor:
        """Weight the concept's part of the layer's output: `[N, *layer]` -> the same."""
        parts = [self._part(row[None], index)[0] for row, index in zip(prediction, self.ids, strict=True)]
        return self.weights.to(prediction) * torch.stack(parts)

    def of_conditions(self, outputs: Tensor) -> Tensor:
        """Compute the value for `K` outputs of each sample, `[K, N, *layer]` -> `[K, N]`, float64."""
        rows = [self._part(outputs[:, row], index) * self.weights[row] for row, index in enumerate(self.ids)]
        return torch.stack([row.flatten(1).sum(1) for row in rows], 1).double()

    def _part(self, outputs: Tensor, index: int) -> Tensor:
        return parts_of(kind_at(self.layer, self.concept), outputs, self.layout, self.layer).part([[index]])[0]

    def name(self, class_names: Sequence[str]) -> str:
        """Describe what it is."""
        return f"concepts of {self.layer}"


def measure_edges(subject: Subject) -> Iterator[Finding]:
    """Compare the edges between every two neighbouring layers with measured changes."""
    for lower, upper in _neighbours(subject):
        found: dict[str, list[np.ndarray]] = defaultdict(list)
        for first, batch in subject.batches(f"edges {lower} to {upper}", _BATCH):
            with subject.flow(batch) as flow:
                for name, values in _measured(subject, flow, batch, lower, upper, subject.seed + first).items():
                    found[name].append(values)
        rows = figures_of(found)
        yield Finding(
            measure="edges",
            title="Edges of the attribution graph",
            meaning=_MEANING,
            place=f"{lower} → {upper}",
            verdict=_verdict(lower, upper, rows["relevance"]),
            columns=("rank correlation", "right sign"),
            rows=rows,
        )


def _neighbours(subject: Subject) -> list[tuple[str, str]]:
    """List pairs (lower, upper) of layers of which one feeds the other around all others."""
    with subject.flow(subject.data[:1]) as flow:
        return [
            (lower, upper)
            for place, lower in enumerate(flow.layers)
            for upper in flow.layers[place + 1 :]
            if flow.reaches(upper, lower, around=set(flow.layers) - {upper, lower})
        ]


def _measured(
    subject: Subject, flow: RelevanceFlow, batch: Tensor, lower: str, upper: str, seed: int
) -> dict[str, np.ndarray]:
    """Return rank correlation and agreement of signs for each sample by way to rank, `[2, N]`."""
    start = subject.target(flow.prediction)
    arriving = flow.down(flow.output_relevance(start), to=upper)[0]
    parts, activation = flow.parts(upper, subject.concept), flow.activation(upper)
    weights = torch.where(activation == 0, 0, arriving / activation)
    chosen = parts.total(arriving).abs().topk(min(_UPPER, parts.size), dim=1).indices.T
    removal = flow.removal_below(upper, lower, subject.concept)
    values = [ConceptValue(weights, ids, subject.concept, flow.layout(upper), upper) for ids in chosen.tolist()]
    between, below = removal.upper, removal.parts
    sent = flow.down(torch.stack([parts.carried_each(arriving, ids) for ids in chosen.tolist()]), start=upper, to=lower)
    ways = {
        "relevance": flow.parts(lower, subject.concept).total(sent),
        "gradient × part": torch.stack([gradient_times_part(between, below, value) for value in values]),
        "integrated gradients": torch.stack([integrated_gradients(between, below, value) for value in values]),
    }
    drawn = _drawn(removal.parts, np.random.default_rng(seed))
    effects = _effects(removal, values, drawn)
    size = np.array([[explained_value(one, removal.upper.prediction).tolist()] for one in values])[:, 0]
    found = {}
    for name, scores in ways.items():
        scores, numbers = scores.double().cpu().numpy(), np.full((2, len(values), len(drawn)), np.nan)
        for row, ids in enumerate(drawn):
            own, truth = scores[:, row, ids], effects[:, row, : len(ids)]
            numbers[0, :, row] = rank_correlation(own, truth)
            numbers[1, :, row] = sign_agreement(own, truth, _SMALLEST * np.abs(size[:, row]))
        found[name] = _mean(numbers)
    return found


def _drawn(parts: Parts, rng: np.random.Generator) -> list[list[int]]:
    """Draw active concepts of each sample."""
    located = parts.activation()
    active = (located.peak()[0] > 0) | (located.trough()[0] < 0)
    rows = [row.nonzero()[:, 0].cpu().numpy() for row in active]
    return [sorted(rng.permutation(row)[:_EDGES].tolist()) for row in rows]


def _effects(removal: Removal, values: Sequence[ConceptValue], drawn: Sequence[Sequence[int]]) -> np.ndarray:
    """Return how much each value falls when a concept below is removed, `[values, N, edges]`."""
    count = max(map(len, drawn))
    # samples with fewer active concepts have conditions in which nothing is removed
    removed = [[*([index] for index in ids), *[[]] * (count - len(ids))] for ids in drawn]
    found = []
    for first in range(0, count, _CONDITIONS):
        outputs = removal.predictions_each([row[first : first + _CONDITIONS] for row in removed])
        found.append(torch.stack([value.of_conditions(outputs) for value in values]))
    before = torch.stack([explained_value(value, removal.upper.prediction).double() for value in values])
    return (before[:, None] - torch.cat(found, 1)).transpose(1, 2).cpu().numpy()


def _mean(numbers: np.ndarray) -> np.ndarray:
    """Average over upper concepts, `[2, values, N]` -> `[2, N]`, without those for which nothing is defined."""
    counted = ~np.isnan(numbers)
    with np.errstate(invalid="ignore"):
        return np.where(counted, numbers, 0).sum(1) / counted.sum(1)


def _verdict(lower: str, upper: str, figures: tuple[Figure, ...]) -> str:
    correlation, sign = (figure.mean for figure in figures)
    if np.isnan(correlation):
        return f"From {lower} to {upper} no edge has an effect, so nothing can be said."
    agrees = "is" if correlation >= 0.9 else "is roughly" if correlation >= 0.7 else "is not"
    return (
        f"From {lower} to {upper}, the order of the edges {agrees} that of the measured changes of the upper concepts "
        f"(rank correlation {correlation:.2f}). Of the edges with an effect of at least {_SMALLEST:.0%}, {sign:.0%} "
        "have the right sign."
    )
