"""Removing two concepts together, against the sum of their scores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from crp.attribution.removal import Removal, explained_value
from crp.attribution.starts import Start
from crp.evaluation.evaluation import Figure, Finding, figures_of
from crp.evaluation.measures import rank_correlation
from crp.evaluation.rankings import gradient_times_part
from crp.evaluation.subject import Subject

# Pairs of each sample, drawn among its most relevant concepts of either sign.
_PAIRS, _CONCEPTS = 50, 12

_MEANING = (
    f"Two concepts are removed together: {_PAIRS} random pairs of the {_CONCEPTS} most relevant concepts of each "
    "sample. The fall of the output is compared with the sum of the two scores, by rank correlation over pairs. "
    "Concepts that can replace each other have no effect alone and a large one together. The interaction says how far "
    "single effects fail to add up: the mean absolute difference between the effect of a pair and the sum of its "
    "single effects, divided by the mean absolute effect of pairs."
)


def measure_pairs(subject: Subject) -> Iterator[Finding]:
    """Compare sums of two scores with the effect of removing both, at each layer."""
    found: dict[str, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    for first, batch in subject.batches("pairs"):
        with subject.flow(batch) as flow:
            start = subject.target(flow.prediction)
            arriving = flow.down(flow.output_relevance(start), to=subject.layers)
            for layer in subject.layers:
                scores = flow.parts(layer, subject.concept).total(arriving[layer][0])
                removal = flow.removal(layer, subject.concept)
                rng = np.random.default_rng(subject.seed + first)
                for name, numbers in _measured(removal, start, scores, rng).items():
                    found[layer][name].append(numbers)
    for layer in subject.layers:
        rows = figures_of(found[layer])
        yield Finding(
            measure="pairs",
            title="Pairs of concepts",
            meaning=_MEANING,
            place=layer,
            verdict=_verdict(layer, rows),
            columns=("rank correlation", "interaction"),
            rows=rows,
        )


def _measured(removal: Removal, start: Start, relevance: Tensor, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return rank correlation and interaction of each sample by way to score, `[2, N]`."""
    chosen = relevance.abs().topk(min(_CONCEPTS, relevance.shape[1]), dim=1).indices.cpu().numpy()
    first, second = np.triu_indices(chosen.shape[1], 1)
    drawn = [rng.permutation(len(first))[:_PAIRS] for _ in chosen]
    ids = np.stack(
        [np.stack([row[first[some]], row[second[some]]], 1) for row, some in zip(chosen, drawn, strict=True)]
    )
    base = explained_value(start, removal.upper.prediction).double()[:, None]
    together = (base - removal.outputs_each(ids.tolist(), start).T).cpu().numpy()
    alone = (base - removal.outputs_each(chosen[..., None].tolist(), start).T).cpu().numpy()
    single = np.zeros(relevance.shape)
    np.put_along_axis(single, chosen, alone, 1)
    ways = {
        "relevance": relevance,
        "gradient × part": gradient_times_part(removal.upper, removal.parts, start),
        "single effects": torch.from_numpy(single),
    }
    found = {}
    for name, scores in ways.items():
        values = scores.double().cpu().numpy()
        sums = np.take_along_axis(values[:, None], ids, 2).sum(2)
        with np.errstate(invalid="ignore", divide="ignore"):
            interaction = np.abs(together - sums).mean(1) / np.abs(together).mean(1)
        own = interaction if name == "single effects" else np.full(len(sums), np.nan)
        found[name] = np.stack([rank_correlation(sums, together), own])
    return found


def _verdict(layer: str, rows: dict[str, tuple[Figure, ...]]) -> str:
    correlation, interaction = rows["relevance"][0].mean, rows["single effects"][1].mean
    if np.isnan(correlation):
        return f"At {layer}, no pair has an effect, so nothing can be said."
    says = "is" if correlation >= 0.9 else "is roughly" if correlation >= 0.7 else "is not"
    return (
        f"At {layer}, the order of pairs of concepts {says} that of their measured effects (rank correlation "
        f"{correlation:.2f}). Effects of pairs differ from the sums of single effects by {interaction:.0%}."
    )
