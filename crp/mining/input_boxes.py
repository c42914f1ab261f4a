"""Where the positions of a layer lie in the input: what they can see, and what a patch of them shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from crp.attribution.receptive_fields import receptive_boxes
from crp.concepts import Layout

# A patch of a position that sees the whole input shows this many cells of the grid on each side of its own.
_AROUND = 2


@dataclass(frozen=True)
class Positions:
    """Boxes of a layer's positions in the input.

    Attributes
    ----------
    fields
        Geometric receptive fields, int64 `[P, 2 * d]` for `d` spatial axes: first pixels, then ends (exclusive); of
        images top, left, bottom, right. None is empty.
    windows
        Where patches are cut, of the same shape: the receptive field; for a position on a grid that sees the whole
        input (a token after attention) the surroundings of its cell.
    """

    fields: np.ndarray
    windows: np.ndarray


def positions_of(model: nn.Module, sample: Tensor, layouts: Mapping[str, Layout]) -> dict[str, Positions]:
    """Find the boxes of each layer's positions.

    Parameters
    ----------
    model
        The mined model.
    sample
        A sample, `[c, *S]`.
    layouts
        What the axes of each layer's output mean.
    """
    return {layer: _positions(model, sample, layer, layout) for layer, layout in layouts.items()}


def _positions(model: nn.Module, sample: Tensor, layer: str, layout: Layout) -> Positions:
    space = np.array(sample.shape[1:])
    whole = np.concatenate([np.zeros_like(space), space])
    if layout.plain and len(layout.shape) in (1, sample.ndim):
        fields = receptive_boxes(model, tuple(sample.shape), layer).numpy()
        # A position that sees only padding has an empty field; its patch shows the whole sample.
        fields[(fields[:, len(space) :] <= fields[:, : len(space)]).any(1)] = whole
        return Positions(fields, fields)
    fields = np.tile(whole, (layout.positions, 1))
    windows = fields.copy()
    for position in range(layout.positions):
        place = layout.place(position)
        if place is not None and len(place) == len(space):
            first = np.clip(np.array(place) - _AROUND, 0, None)
            last = np.minimum(np.array(place) + _AROUND + 1, layout.grid)
            windows[position] = [*(first * space // layout.grid), *(-(-last * space // layout.grid))]
    return Positions(fields, windows)
