"""How stable rankings are under noise and shift, beside how stable the measured effects themselves are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from crp.attribution.starts import Start
from crp.evaluation.evaluation import Figure, Finding, figures_of
from crp.evaluation.measures import rank_correlation
from crp.evaluation.subject import Subject
from crp.values import ConceptMeans

# Noise, as a part of the data's standard deviation, and shift, as a part of the last axis (at least one pixel).
_NOISE, _SHIFT = 0.1, 1 / 32
_COLUMNS = ("relevance", "effects", "changes")

_MEANING = (
    "Each sample is explained again with added noise (normal, a tenth of the data's standard deviation), and shifted "
    "along its last axis by 1/32 (the edge is repeated). Relevance: rank correlation between the concepts' old and new "
    "relevance. Effects: the same for the measured effects of removing them; a true ranking is as stable as these. "
    "Changes: rank correlation between the change of relevance and the change of effect. Other references: effects "
    "where the mean of one half of the samples replaces what is removed, compared with the mean of the other half."
)


def measure_stability(subject: Subject) -> Iterator[Finding]:
    """Compare the stability of relevances with that of measured effects, at each layer."""
    changed = {"noise": _noisy(subject.data, subject.seed), "shift": _shifted(subject.data)}
    halves = _halves(subject)
    found: dict[str, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    for first, batch in subject.batches("stability"):
        before, start = _measured(subject, batch, None)
        for name, data in changed.items():
            after, _ = _measured(subject, data[first : first + len(batch)], start)
            for layer, (relevance, effects) in after.items():
                old = before[layer]
                numbers = (
                    rank_correlation(old[0], relevance),
                    rank_correlation(old[1], effects),
                    rank_correlation(relevance - old[0], effects - old[1]),
                )
                found[layer][name].append(np.stack(numbers))
        with subject.flow(batch) as flow:
            flow.follow_upper_parts(subject.layers)
            for layer in subject.layers:
                removal = flow.removal(layer, subject.concept)
                ids = range(removal.parts.size)
                both = [removal.filled_with(half[layer]).effects(ids, start).cpu().numpy() for half in halves]
                nothing = np.full(len(batch), np.nan)
                found[layer]["other references"].append(np.stack([nothing, rank_correlation(*both), nothing]))
    for layer in subject.layers:
        rows = figures_of(found[layer])
        yield Finding(
            measure="stability",
            title="Stability",
            meaning=_MEANING,
            place=layer,
            verdict=_verdict(layer, rows),
            columns=_COLUMNS,
            rows=rows,
        )


def _measured(
    subject: Subject, batch: Tensor, start: Start | None
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], Start]:
    """Return relevance and effects (zero) of all concepts by layer, and what was explained."""
    with subject.flow(batch) as flow:
        start = start or subject.target(flow.prediction)
        arriving = flow.down(flow.output_relevance(start), to=subject.layers)
        found = {}
        for layer in subject.layers:
            parts = flow.parts(layer, subject.concept)
            relevance = parts.total(arriving[layer][0]).double().cpu().numpy()
            removal = flow.removal(layer, subject.concept)
            found[layer] = relevance, removal.effects(range(parts.size), start).cpu().numpy()
    return found, start


def _noisy(data: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return data + _NOISE * data.std() * torch.randn(data.shape, generator=generator, dtype=torch.float64).to(data)


def _shifted(data: Tensor) -> Tensor:
    """Shift along the last axis; what comes in repeats the edge."""
    length = data.shape[-1]
    places = (torch.arange(length) - max(1, round(length * _SHIFT))).clamp_min(0)
    return data[..., places.to(data.device)]


def _halves(subject: Subject) -> list[dict[str, ConceptMeans]]:
    """Return the means of two halves of the samples at each layer."""
    found = []
    for half in (subject.data[::2], subject.data[1::2]):
        with subject.flow(half) as flow:
            found.append({layer: flow.parts(layer, subject.concept).means() for layer in subject.layers})
    return found


def _verdict(layer: str, rows: dict[str, tuple[Figure, ...]]) -> str:
    noise, truth, changes = (figure.mean for figure in rows["noise"])
    if np.isnan([noise, truth]).any():
        return f"At {layer}, relevance or effects are constant, so nothing can be said."
    says = "as stable as" if abs(noise - truth) <= 0.05 else "more stable than" if noise > truth else "less stable than"
    follow = "follows" if changes >= 0.5 else "hardly follows"
    return (
        f"At {layer}, the ranking is {says} the measured effects (rank correlation with and without noise {noise:.2f}; "
        f"effects {truth:.2f}), and its change {follow} theirs (rank correlation {changes:.2f})."
    )
