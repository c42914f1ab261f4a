"""Volumes: the strongest slice of each slab side by side, the same slices in every picture of a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np

from crp.explanations import Patch
from crp.media.medium import Axis, Medium
from crp.visualization import encoding as images
from crp.visualization.inputs.page_renderer import Silent, Tick, around, enlarged

# Slabs of a volume whose layers have no concept map.
SLABS = 6
_SIDE, _PATCH_SIDE = 336, 72


@dataclass(frozen=True)
class VolumePages(Silent):
    """Volumes, float32 `[c, D, H, W]` (the mean over channels is shown), in slabs of D.

    Every slab is shown as one slice. Relevance on it is that of the whole slab, summed.

    Parameters
    ----------
    medium
        The axes.
    slices
        The slice that is shown of each slab.
    """

    medium: Medium
    slices: tuple[int, ...] = ()

    def showing(self, heatmap: np.ndarray, slabs: int) -> Self:
        """Choose the slice with most absolute relevance of each slab."""
        strength = np.abs(heatmap).sum(axis=(1, 2), dtype=np.float64)
        starts = _edges(len(strength), slabs)
        return replace(self, slices=tuple(a + int(strength[a:b].argmax()) for a, b in pairwise(starts)))

    def picture(self, values: np.ndarray) -> np.ndarray:
        """Draw the slices."""
        return enlarged(self._montage(self._coloured(values)[list(self.slices)], 255), _SIDE)

    def relevance(self, heatmap: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Sum the relevance of each slab."""
        return enlarged(self._montage(self._added(heatmap), 0), _SIDE)

    def patch(self, patch: Patch) -> tuple[np.ndarray, np.ndarray]:
        """Draw the slice of a patch in which the concept is strongest, with the relevance summed over its slices."""
        strongest = int(np.abs(patch.heatmap).sum(axis=(1, 2), dtype=np.float64).argmax())
        return (
            enlarged(images.grey(patch.picture)[strongest], _PATCH_SIDE),
            enlarged(patch.heatmap.sum(axis=0), _PATCH_SIDE),
        )

    def arranged(self, cells: np.ndarray, blank: int) -> np.ndarray:
        """Lay the cells of the slabs side by side."""
        return self._montage(cells, blank)

    def where(self, heatmap: np.ndarray) -> str:
        """Say around which slice, row and column."""
        return around(heatmap, self.axes())

    def axes(self) -> tuple[Axis, ...]:
        """Return the axes, counted: slices are found by their number."""
        return tuple(Axis(axis.name) for axis in self.medium.axes)

    def ticks(self, space: Sequence[int]) -> tuple[Tick, ...]:
        """Return the numbers of the slices."""
        across, down = self._shape
        edges = _edges(space[0], len(self.slices))
        return tuple(
            Tick(
                index % across / across,
                index // across / down,
                text,
                "top",
                more,
                1 / across,
            )
            for index, shown in enumerate(self.slices)
            for text, more in [self._told(shown, edges[index], edges[index + 1])]
        )

    def remark(self) -> str:
        """Say which slices are drawn, with which relevance."""
        return "Of each slab, the slice with most relevance is drawn, with the summed relevance of the slab."

    def _added(self, heatmap: np.ndarray) -> np.ndarray:
        return np.add.reduceat(heatmap, _edges(len(heatmap), len(self.slices))[:-1], axis=0)

    def _told(self, shown: int, first: int, end: int) -> tuple[str, str]:
        """Name the slice that is shown, and its slab."""
        return f"slice {shown}", f"({first}–{end - 1})"

    @staticmethod
    def _coloured(values: np.ndarray) -> np.ndarray:
        """Draw every slice: `[c, D, H, W]` -> uint8 `[D, H, W, 3]`."""
        return images.grey(values)

    @property
    def _shape(self) -> tuple[int, int]:
        across = math.ceil(math.sqrt(len(self.slices)))
        return across, -(-len(self.slices) // across)

    def _montage(self, slabs: np.ndarray, blank: int) -> np.ndarray:
        """Lay out `[slabs, h, w, ...]` as `[down * h, across * w, ...]`."""
        across, down = self._shape
        count, height, width, *more = slabs.shape
        filled = np.full((down * across, height, width, *more), blank, dtype=slabs.dtype)
        filled[:count] = slabs
        tiles = filled.reshape(down, across, height, width, *more)
        return tiles.swapaxes(1, 2).reshape(down * height, across * width, *more)


def _edges(length: int, slabs: int) -> list[int]:
    """Return where slabs begin and where the last one ends; cells of a concept map are the same slabs."""
    return [-(-index * length // slabs) for index in range(slabs + 1)]
