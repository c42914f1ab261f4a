"""Windows of a sample in which one position of a layer computes what it computes in the whole sample.

A position reads its receptive field only. So a window that contains the field gives the same value and the same
heatmap, if it is aligned with the strides of the layers below, and if the field touches an edge of the sample only
where the window does, too: there the layers below pad with zeros. This holds for models that treat all places alike;
whether a model does is checked by comparing (`CropMaker.exact`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# Windows pay if they hold at most this part of the sample.
_LARGEST = 0.5


@dataclass(frozen=True)
class Windows:
    """The windows of a layer's positions, all of one size.

    Attributes
    ----------
    size
        Extent of a window in the input.
    starts
        First pixel of each position's window, int64 `[P, d]`.
    strides
        Pixels between neighbouring positions along each axis.
    grid
        Positions of the layer along each axis.
    """

    size: tuple[int, ...]
    starts: np.ndarray
    strides: tuple[int, ...]
    grid: tuple[int, ...]

    def slices(self, position: int) -> tuple[slice, ...]:
        """Return the window of a position, for the spatial axes of a sample."""
        return tuple(slice(start, start + size) for start, size in zip(self.starts[position], self.size, strict=True))

    def place(self, position: int) -> tuple[int, ...]:
        """Return where the position lies among those of its window."""
        index = np.array(np.unravel_index(position, self.grid))
        return tuple((index - self.starts[position] // self.strides).tolist())


def windows_of(fields: np.ndarray, grid: tuple[int, ...], space: tuple[int, ...]) -> Windows | None:
    """Find windows for the positions of a layer; None if there are none, or none that pay.

    Parameters
    ----------
    fields
        Receptive fields, int64 `[P, 2 * d]`: first pixels, then ends.
    grid
        Positions of the layer along each of the `d` axes.
    space
        Extent of the sample.
    """
    if len(grid) != len(space) or math.prod(grid) != len(fields):
        return None
    firsts, lasts = np.split(fields, 2, axis=1)
    sizes, strides, starts = [], [], []
    for axis, (count, length) in enumerate(zip(grid, space, strict=True)):
        along = tuple(slice(None) if other == axis else 0 for other in range(len(grid)))
        first, last = (ends[:, axis].reshape(grid)[along] for ends in (firsts, lasts))
        # unclipped fields are equally far apart; the middle ones are unclipped, if any are
        middle = count // 2
        stride = int(first[middle] - first[middle - 1]) if count > 1 else 0
        if stride < 1:
            return None
        # With one stride to spare, a window reaches the end of the sample if its field reaches the last stride, whose
        # pixels some layer may leave out.
        size = int((last - first).max()) + stride
        size += (length - size) % stride
        if size >= length:
            return None
        start = np.minimum(first // stride * stride, length - size)
        if (last > start + size).any():
            return None
        sizes.append(size)
        strides.append(stride)
        starts.append(start)
    if math.prod(sizes) > _LARGEST * math.prod(space):
        return None
    return Windows(
        tuple(sizes), np.stack([each.ravel() for each in np.meshgrid(*starts, indexing="ij")], 1), tuple(strides), grid
    )
