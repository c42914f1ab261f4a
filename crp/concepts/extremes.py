"""Largest and smallest value of each channel and its first position, limited on a CPU by memory speed alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Up to this many values per channel, numpy's search on one core is faster than torch's two-step search on all cores.
# The two-step search divides a channel into lines, whose length has these bounds.
_SMALL_PLANE, _SHORT_LINE, _LONG_LINE = 2**11, 2**6, 2**8


def extreme(values: Tensor, largest: bool) -> tuple[Tensor, Tensor]:
    """Find the largest or smallest value of each channel and its first position, `[N, C, *S]` -> two of `[N, C]`."""
    if values.ndim == 2:
        return values, torch.zeros_like(values, dtype=torch.int64)
    if values.ndim == 4 and not values.is_contiguous():
        # fastest for the channels-last layout; it also returns the first of equal values
        best, places = nn.functional.adaptive_max_pool2d(values if largest else -values, 1, return_indices=True)
        return (best if largest else -best).flatten(1), places.flatten(1)
    flat = values.detach().flatten(2)
    size, width = flat.shape[2], _line_width(flat.shape[2])
    if width == size:
        place = _first(flat, largest)
        return flat.gather(2, place[..., None])[..., 0], place
    # First the best line, then the best place in it. Only one line of each channel is read twice.
    lines = flat.unflatten(2, (-1, width))
    line = _first(lines.amax(-1) if largest else lines.amin(-1), largest)
    best = lines.gather(2, line[..., None, None].expand(*line.shape, 1, width))[:, :, 0]
    place = _first(best, largest)
    return best.gather(-1, place[..., None])[..., 0], line * width + place


def _line_width(size: int) -> int:
    """Choose the length of a line for a channel of that size; the whole channel if lines do not help."""
    width = max(width for width in range(1, _LONG_LINE + 1) if size % width == 0) if size > _SMALL_PLANE else 0
    return width if width >= _SHORT_LINE else size


def _first(values: Tensor, largest: bool) -> Tensor:
    """Find the first largest or smallest value along the last axis; torch may return any of several equal ones."""
    if values.device.type == "cpu" and values.dtype != torch.bfloat16:
        return torch.from_numpy(values.numpy().argmax(-1) if largest else values.numpy().argmin(-1))
    extreme = values.amax(-1, keepdim=True) if largest else values.amin(-1, keepdim=True)
    return (values == extreme).to(torch.uint8).argmax(-1)
