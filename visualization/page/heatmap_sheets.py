"""Several heatmaps in one picture, as the style of a page holds it."""

from __future__ import annotations

import numpy as np

from crp.visualization.picture_formats import EMPTY_LEVEL, heatmaps_uri
from crp.visualization.sheets import Sheet, cell_at

QUALITY = 19
COLUMNS = 6


class HeatmapSheet:
    """Cells of one size, row by row, each different.

    Parameters
    ----------
    name
        Of the class of elements that show a cell.
    side
        What is drawn is at most that wide and high.
    """

    def __init__(self, name: str, side: int) -> None:
        self.name, self.side = name, side
        self._drawn: list[np.ndarray] = []
        self._places: dict[bytes, int] = {}

    def place(self, drawn: np.ndarray) -> str:
        """Put a heatmap, as `drawn_heatmap` returns it, into a cell, and return its place as CSS custom properties."""
        at = self._places.setdefault(drawn.tobytes(), len(self._drawn))
        if at == len(self._drawn):
            self._drawn.append(drawn)
        return cell_at(at, COLUMNS)

    def rule(self) -> str:
        """Return the rule of the style that holds the picture, when all are in; empty if there are none."""
        if not self._drawn:
            return ""
        sheet = Sheet(-(-len(self._drawn) // COLUMNS), min(len(self._drawn), COLUMNS))
        first = self._drawn[0]
        height, width = first.shape[:2]
        nothing = EMPTY_LEVEL if first.ndim == 2 else 255 if first.shape[2] == 3 else 0
        found = np.full((sheet.rows * height, sheet.columns * width, *first.shape[2:]), nothing, np.uint8)
        for at, drawn in enumerate(self._drawn):
            top, left = at // COLUMNS * height, at % COLUMNS * width
            found[top : top + height, left : left + width] = drawn
        return f".{self.name}{{background-image:url({heatmaps_uri(found, QUALITY)});{sheet.style}}}"
