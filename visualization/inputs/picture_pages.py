"""Pictures, as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crp.explanations import Patch
from crp.media.medium import Axis, Medium
from crp.visualization import wording
from crp.visualization.inputs.page_renderer import Silent, Tick


@dataclass(frozen=True)
class PicturePages(Silent):
    """Pictures, uint8 `[H, W, 3]`.

    Parameters
    ----------
    medium
        Says which channels are drawn, for an image of other channels than a photograph's.
    """

    medium: Medium | None = None

    def picture(self, values: np.ndarray) -> np.ndarray:
        """Return the picture."""
        return values

    def relevance(self, heatmap: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return the heatmap."""
        return heatmap

    def patch(self, patch: Patch) -> tuple[np.ndarray, np.ndarray]:
        """Return picture and heatmap of the patch."""
        return patch.picture, patch.heatmap

    def arranged(self, cells: np.ndarray, blank: int) -> np.ndarray:
        """Return the cells."""
        return cells

    def where(self, heatmap: np.ndarray) -> str:
        """Say in which part of the picture the relevance is."""
        return wording.where(heatmap)

    def axes(self) -> tuple[Axis, ...]:
        """Return none: cells are rows and columns."""
        return ()

    def ticks(self, space: Sequence[int]) -> tuple[Tick, ...]:
        """Return none."""
        return ()

    def remark(self) -> str:
        """Say which channels are drawn, and with which values."""
        return self.medium.display() if self.medium is not None else ""
