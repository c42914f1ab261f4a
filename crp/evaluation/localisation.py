"""Whether heatmaps lie on what the picture shows, where masks say where that is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from crp.attribution import RelevanceFlow
from crp.attribution.starts import Start
from crp.errors import InputError
from crp.evaluation.evaluation import Figure, Finding, figures_of
from crp.evaluation.passes import input_gradient
from crp.evaluation.subject import Subject, is_measurable
from crp.places import divided_relevance

# Concepts of each layer whose conditional heatmaps are measured, and the margin around a mask in pixels.
_CONCEPTS, _MARGIN = 5, 2
_COLUMNS = ("inside", f"within {_MARGIN} pixels", "pointing", "inside / outside", "context use")

_MEANING = (
    "Positive relevance is compared with the mask of what the sample shows. Columns: the share of it inside the mask; "
    f"the share inside the mask or at most {_MARGIN} pixels away; how often the strongest pixel is that near (pointing "
    "game, Zhang et al. 2018); relevance per pixel inside divided by that outside; and the reverse, the use of context "
    f"(Lapuschkin et al. 2016). Rows of concepts: conditional heatmaps of the {_CONCEPTS} most relevant concepts of "
    "each sample."
)


def measure_localisation(subject: Subject) -> Iterator[Finding]:
    """Compare heatmaps, conditional heatmaps and baselines with masks."""
    if subject.masks_of_data is None:
        raise InputError("Localisation needs masks of what the samples show: give masks=.")
    found: dict[str, list[np.ndarray]] = {}
    generator = torch.Generator().manual_seed(subject.seed)
    for first, batch in subject.batches("localisation"):
        masks = subject.masks_of_data[first : first + len(batch)].to(batch.device)
        with subject.flow(batch) as flow:
            start = subject.shown(flow.prediction)
            measurable = is_measurable(start, flow.prediction)
            maps = {"heatmap": flow.down(flow.output_relevance(start)).sum(2)}
            maps |= {f"concepts of {layer}": _conditional(subject, flow, start, layer) for layer in subject.layers}
        if measurable:  # numbers of the caller have no gradient
            maps["gradient × input"] = (input_gradient(subject.model.model, batch, start) * batch).sum(1)[None]
        maps["random"] = torch.rand(maps["heatmap"].shape, generator=generator).to(batch.device)
        for name, rows in maps.items():
            numbers = torch.stack([torch.stack(located(heatmaps, masks)) for heatmaps in rows])
            found.setdefault(name, []).append(_mean_of_concepts(numbers.cpu().numpy()))
    rows = figures_of(found)
    yield Finding(
        measure="localisation",
        title="Do heatmaps lie on what the samples show?",
        meaning=_MEANING,
        place="masks",
        verdict=_verdict(rows),
        columns=_COLUMNS,
        rows=rows,
    )


def located(heatmaps: Tensor, masks: Tensor, margin: int = _MARGIN) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Compare positive relevance with masks.

    Parameters
    ----------
    heatmaps
        `[N, *S]`, one to three axes.
    masks
        bool `[N, *S]`: where what is looked for is.
    margin
        Pixels around the mask that count for the second and third number, in each direction and diagonally.

    Returns
    -------
    tuple of Tensor
        Share of positive relevance inside the mask; inside it or its margin; 1 if the strongest pixel is in the mask or
        its margin, else 0; positive relevance per pixel inside divided by outside; and the reverse. Each float64 `[N]`,
        NaN where there is no positive relevance, or the mask is empty or everything.
    """
    heatmaps = heatmaps.double()
    pool = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[heatmaps.ndim - 2]
    near = pool(masks[:, None].double(), 2 * margin + 1, 1, margin)[:, 0]
    inside = masks.flatten(1).double()
    within, beyond = divided_relevance(heatmaps, masks)
    total = within + beyond
    defined = (total > 0) & (inside.sum(1) > 0) & (inside.sum(1) < inside.shape[1])
    per_pixel_in, per_pixel_out = within / inside.sum(1), beyond / (1 - inside).sum(1)
    strongest = near.flatten(1).gather(1, heatmaps.flatten(1).argmax(1, keepdim=True))[:, 0]
    numbers = (
        within / total,
        divided_relevance(heatmaps, near > 0)[0] / total,
        strongest,
        per_pixel_in / per_pixel_out,
        per_pixel_out / per_pixel_in,
    )
    return tuple(torch.where(defined & number.isfinite(), number, torch.nan) for number in numbers)


def _conditional(subject: Subject, flow: RelevanceFlow, start: Start, layer: str) -> Tensor:
    """Return the conditional heatmaps of the most relevant concepts of each sample, `[concepts, N, *S]`."""
    arriving = flow.down(flow.output_relevance(start), to=layer)[0]
    parts = flow.parts(layer, subject.concept)
    chosen = parts.total(arriving).topk(min(_CONCEPTS, parts.size), dim=1).indices.T.tolist()
    masked = torch.stack([parts.carried_each(arriving, ids) for ids in chosen])
    return flow.down(masked, start=layer).sum(2)


def _mean_of_concepts(numbers: np.ndarray) -> np.ndarray:
    """Average over maps, `[maps, 5, N]` -> `[5, N]`, without those for which nothing is defined."""
    counted = ~np.isnan(numbers)
    with np.errstate(invalid="ignore"):
        return np.where(counted, numbers, 0).sum(0) / counted.sum(0)


def _verdict(rows: dict[str, tuple[Figure, ...]]) -> str:
    (_, near, points, _, context), random = (tuple(one.mean for one in rows[name]) for name in ("heatmap", "random"))
    if np.isnan(near):
        return "No heatmap has positive relevance, so nothing can be said."
    lies = "lie" if near >= max(0.5, 1.5 * random[1]) else "do not lie"
    return (
        f"Heatmaps {lies} on what the samples show: {near:.0%} of the positive relevance (random map: "
        f"{random[1]:.0%}) and {points:.0%} of the strongest pixels lie within {_MARGIN} pixels of the mask. A pixel "
        f"of the context holds {context:.2g} times as much relevance as one in the mask."
    )
