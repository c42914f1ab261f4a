"""Pixel flipping: what the output becomes when the most relevant regions of the input are destroyed."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import numpy as np
import torch
from torch import Tensor

from crp.attribution.removal import explained_value
from crp.evaluation.evaluation import Figure, Finding, figures_of
from crp.evaluation.passes import input_gradient, predictions
from crp.evaluation.subject import Subject

# Cells along each axis of the input, the part of them that is destroyed, and in how many steps.
_CELLS, _PART, _STEPS = 14, 0.3, 10
_RANDOM = 3

_MEANING = (
    f"The input is divided into {_CELLS} cells along each axis. Those with the most relevance are destroyed first, up "
    f"to {_PART:.0%} of them in {_STEPS} steps. The area over the curve (AOPC, Samek et al. 2017) is the mean fall of "
    "the explained output over the steps, divided by its mean before; higher is better. Destroyed cells become the "
    "samples' mean, or uniform noise between the smallest and the largest value of each channel. Random: mean of "
    f"{_RANDOM} orders."
)


def measure_pixels(subject: Subject) -> Iterator[Finding]:
    """Compare heatmaps with gradient times input and random orders by destroying regions of the input."""
    generator = torch.Generator().manual_seed(subject.seed)
    fills = _fills(subject.data, generator)
    found: dict[str, list[np.ndarray]] = {}
    base = []
    for _, batch in subject.batches("pixel flipping"):
        with subject.flow(batch) as flow:
            start = subject.target(flow.prediction)
            heatmaps = flow.down(flow.output_relevance(start))[0].sum(1)
        base.append(explained_value(start, predictions(subject.model.model, batch)).double().cpu().numpy())
        orders = {
            "heatmap": cell_sums(heatmaps),
            "gradient × input": cell_sums((input_gradient(subject.model.model, batch, start) * batch).sum(1)),
        }
        shape = orders["heatmap"].shape
        draws = [torch.rand(shape, generator=generator).to(batch.device) for _ in range(_RANDOM)]
        for name, scores in {**orders, "random": draws}.items():
            each = [
                np.stack([_falls(subject, batch, start, one, fill) for fill in fills])
                for one in (scores if name == "random" else [scores])
            ]
            found.setdefault(name, []).append(np.mean(each, 0))
    scale = np.concatenate(base).mean()
    rows = figures_of({name: [one / scale for one in numbers] for name, numbers in found.items()})
    yield Finding(
        measure="pixels",
        title="Pixel flipping",
        meaning=_MEANING,
        place="input",
        verdict=_verdict(rows),
        columns=("AOPC, mean", "AOPC, noise"),
        rows=rows,
    )


def cell_sums(heatmaps: Tensor) -> Tensor:
    """Sum relevance over the cells of a grid, `[N, *S]` -> `[N, cells]`; each pixel belongs to one cell."""
    numbers = cell_numbers(heatmaps.shape[1:]).to(heatmaps.device)
    sums = heatmaps.new_zeros(len(heatmaps), int(numbers.max()) + 1, dtype=torch.float64)
    return sums.index_add_(1, numbers.flatten(), heatmaps.flatten(1).double())


def cell_numbers(shape: torch.Size) -> Tensor:
    """Return the number of the cell of a grid in which each pixel lies, int64 `[*S]`."""
    found = torch.zeros(shape, dtype=torch.int64)
    for axis, length in enumerate(shape):
        cells = min(_CELLS, length)
        place = torch.arange(length) * cells // length
        found = found * cells + place.view(-1, *[1] * (len(shape) - axis - 1))
    return found


def _fills(data: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return what destroyed pixels become: the samples' mean of each channel, or noise; `[1, c, *S]` each."""
    channels = data.transpose(0, 1).flatten(1).double()
    shape = 1, -1, *[1] * (data.ndim - 2)
    mean, low, high = (values.view(shape).to(data) for values in (channels.mean(1), channels.amin(1), channels.amax(1)))
    noise = torch.rand(data[:1].shape, generator=generator).to(data)
    return mean.expand_as(data[:1]), low + (high - low) * noise


def _falls(subject: Subject, batch: Tensor, start: object, scores: Tensor, fill: Tensor) -> np.ndarray:
    """Return the mean fall of the explained output while the cells of highest score are destroyed, `[N]`."""
    numbers = cell_numbers(batch.shape[2:]).to(batch.device)
    ranks = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    most = ceil(_PART * scores.shape[1])
    values = []
    for step in range(_STEPS + 1):
        gone = ranks < round(step * most / _STEPS)
        pixels_gone = gone[:, numbers][:, None]
        output = predictions(subject.model.model, torch.where(pixels_gone, fill, batch))
        values.append(explained_value(start, output).double())
    curve = torch.stack(values, 1)
    return (curve[:, :1] - curve).mean(1).cpu().numpy()


def _verdict(rows: dict[str, tuple[Figure, ...]]) -> str:
    own, gradient, random = (rows[name][0].mean for name in ("heatmap", "gradient × input", "random"))
    finds = "finds" if own > 1.2 * max(random, 0) and own > 0 else "does not find"
    beside = "more" if own > gradient else "no more"
    return (
        f"The heatmap {finds} regions that the output needs: while up to {_PART:.0%} of the input is destroyed in its "
        f"order, the output is lower by {own:.0%} on average, in a random order by {random:.0%}, and in that of "
        f"gradient times input by {gradient:.0%}. So the heatmap says {beside} than gradient times input."
    )
