"""Many patches in one picture: what the pages of a site share.

A concept's patches are one picture file with a row for each mode; how much of each to wash out lies in a second, tiny
one. Every cell has the same size: a patch is stretched to it, and stretched back where it is shown, so that nothing of
the file is empty. The first patch of every concept of a layer makes the layer's glimpses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from crp.values import Patch
from crp.visualization import encoding as images

# Cells of a concept's sheet: as large as the library keeps patches, and whole blocks of a JPEG.
SIDE = 96
# A veil is drawn smoothly, so that each has a border of its own against its neighbours.
VEIL, BORDER = 10, 1
GLIMPSE_SIDE, GLIMPSE_COLUMNS = 64, 16


@dataclass(frozen=True)
class Sheet:
    """Cells of a sheet; `rows` and `columns` of them."""

    rows: int
    columns: int

    def style(self, row: int, column: int) -> str:
        """Where a cell lies, as custom properties for the page's style."""
        return f"--r:{self.rows};--n:{self.columns};--y:{row};--x:{column}"


def sheet_of(rows: Sequence[Sequence[Patch]]) -> Sheet:
    """Return the cells for patches by mode; modes at the end without patches take no row."""
    filled = [index for index, patches in enumerate(rows) if patches]
    return Sheet(1 + max(filled, default=-1), max(map(len, rows), default=0))


def patch_sheet(rows: Sequence[Sequence[Patch]]) -> np.ndarray:
    """uint8 [rows * SIDE, columns * SIDE, 3]."""
    sheet = sheet_of(rows)
    found = np.full((sheet.rows * SIDE, sheet.columns * SIDE, 3), 238, dtype=np.uint8)
    for row, column, patch in _placed(rows):
        cell = Image.fromarray(np.ascontiguousarray(patch.picture)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        found[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE] = np.asarray(cell)
    return found


def veil_sheet(rows: Sequence[Sequence[Patch]]) -> np.ndarray:
    """Black of the opacity of each patch's veil (`images.veil`): uint8 [rows * s, columns * s, 2], grey and alpha."""
    sheet = sheet_of(rows)
    side = VEIL + 2 * BORDER
    found = np.zeros((sheet.rows * side, sheet.columns * side, 2), dtype=np.uint8)
    for row, column, patch in _placed(rows):
        veil = Image.fromarray(images.veil(patch.heatmap, VEIL).astype(np.float32)).resize((VEIL, VEIL))
        opacity = np.pad(np.clip(np.asarray(veil), 0, 1), BORDER, mode="edge")
        # 16 steps: a third of the bytes of 256
        cell = (opacity * 15).round().astype(np.uint8) * 17
        found[row * side : (row + 1) * side, column * side : (column + 1) * side, 1] = cell
    return found


def glimpse_sheet(patches: Sequence[Patch], *, side: int, columns: int) -> np.ndarray:
    """Join the middle squares of patches, row by row: uint8 [rows * side, columns * side, 3], at least one row."""
    rows = max(1, -(-len(patches) // columns))
    found = np.full((rows * side, columns * side, 3), 238, dtype=np.uint8)
    for place, patch in enumerate(patches):
        top, left = (side * part for part in divmod(place, columns))
        found[top : top + side, left : left + side] = images.squared(patch.picture, side)
    return found


def _placed(rows: Sequence[Sequence[Patch]]) -> list[tuple[int, int, Patch]]:
    return [(row, column, patch) for row, patches in enumerate(rows) for column, patch in enumerate(patches)]
