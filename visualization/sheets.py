"""Many patches in one picture: those of a card of a page on its own, or what the pages of a site share.

A concept's patches are one picture with a row for each mode; how much of each to wash out lies in a second, tiny one.
Every cell has the same size: a patch is stretched to it, and stretched back where it is shown, so that nothing of the
picture is empty. The first patch of every concept of a layer makes the layer's glimpses.

How many cells a sheet has is known here only. Pages get it with every cell they show, as the custom properties of
`Sheet.style` and `Sheet.size`, from which one rule of the style computes what is cut out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from crp.values import Patch
from crp.visualization import encoding as images

# Cells of a concept's sheet on a site: as large as the library keeps patches, and whole blocks of a JPEG.
SIDE = 96
# A veil is drawn smoothly, so that each has a border of its own against its neighbours.
VEIL, BORDER = 10, 1
GLIMPSE_SIDE, GLIMPSE_COLUMNS = 64, 16
# What decides where on a sheet of a site a patch lies: sheets of another layout are made anew.
LAYOUT = (SIDE, VEIL, BORDER, GLIMPSE_SIDE, GLIMPSE_COLUMNS)


@dataclass(frozen=True)
class Sheet:
    """A grid of equal cells.

    Attributes
    ----------
    rows, columns
        Number of cells down and across.
    """

    rows: int
    columns: int

    @property
    def style(self) -> str:
        """The numbers of rows and columns as CSS custom properties; cells say their row and column (`--y`, `--x`)."""
        return f"--r:{self.rows};--k:{self.columns}"

    @property
    def size(self) -> str:
        """The same for a sheet of glimpses, whose columns are `--n`."""
        return f"--r:{self.rows};--n:{self.columns}"


def cell_at(place: int, columns: int) -> str:
    """Return the row and column of a cell, counted row by row, as CSS custom properties."""
    row, column = divmod(place, columns)
    return f"--y:{row};--x:{column}"


@dataclass(frozen=True)
class Glimpses:
    """One small patch for each of some concepts, row by row on a sheet.

    Attributes
    ----------
    concepts
        Ids of the concepts, in the order of their cells.
    columns
        Number of cells across.
    """

    concepts: tuple[int, ...]
    columns: int

    @property
    def sheet(self) -> Sheet:
        """The cells; one row if there are no concepts."""
        return Sheet(max(1, -(-len(self.concepts) // self.columns)), self.columns)

    @cached_property
    def places(self) -> dict[int, int]:
        """Number of each concept's cell."""
        return {concept: place for place, concept in enumerate(self.concepts)}

    def cell(self, concept: int) -> str:
        """Return the position of a concept's cell as CSS custom properties; empty if the concept has none."""
        if concept not in self.places:
            return ""
        return cell_at(self.places[concept], self.columns)

    def style(self, concept: int) -> str:
        """Return the same with the size of the sheet."""
        return f"{self.sheet.size};{self.cell(concept)}" if concept in self.places else ""

    def numbers(self, size: int) -> dict[str, Any]:
        """Return what a script needs to position any cell of a layer of `size` concepts.

        Returns
        -------
        dict
            `rows` and `columns` of the sheet; `concepts` in the order of their cells, None if these are all of the
            layer: the place of a concept is then its id.
        """
        concepts = None if self.concepts == tuple(range(size)) else list(self.concepts)
        return {"rows": self.sheet.rows, "columns": self.columns, "concepts": concepts}


def sheet_of(rows: Sequence[Sequence[Patch]]) -> Sheet:
    """Return the cells for patches by mode; modes at the end without patches take no row."""
    filled = [index for index, patches in enumerate(rows) if patches]
    return Sheet(1 + max(filled, default=-1), max(map(len, rows), default=0))


def sheet_rule(name: str, pictures: str, veils: str, sheet: Sheet) -> str:
    """Return the rule of a style that says where patches lie, by the addresses of both pictures, for a class."""
    return f".{name}{{--sheet:url({pictures});--veils:url({veils});{sheet.style}}}"


def patch_sheet(rows: Sequence[Sequence[Patch]], side: int = SIDE) -> np.ndarray:
    """Draw patches by row, each stretched to its cell: uint8 `[rows * side, columns * side, 3]`."""
    sheet = sheet_of(rows)
    found = np.full((sheet.rows * side, sheet.columns * side, 3), 238, dtype=np.uint8)
    for row, column, patch in _placed(rows):
        cell = Image.fromarray(np.ascontiguousarray(patch.picture)).resize((side, side), Image.Resampling.LANCZOS)
        found[row * side : (row + 1) * side, column * side : (column + 1) * side] = np.asarray(cell)
    return found


def veil_sheet(rows: Sequence[Sequence[Patch]]) -> np.ndarray:
    """Draw the veil of each patch (`images.veil`) as black of its opacity.

    Returns
    -------
    np.ndarray
        uint8 `[rows * s, columns * s, 2]`, grey and alpha, with `s = VEIL + 2 * BORDER`.
    """
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


def glimpse_columns(count: int) -> int:
    """Return the number of cells across a sheet of so many glimpses of a site.

    Sheets of many glimpses are square: no side of a WebP may exceed 16,383 pixels.
    """
    return max(GLIMPSE_COLUMNS, math.ceil(math.sqrt(count)))


def glimpse_sheet(patches: Mapping[int, Patch], *, side: int, columns: int) -> tuple[np.ndarray, Glimpses]:
    """Draw the middle square of one patch for each concept.

    Parameters
    ----------
    patches
        By concept.
    side
        Height and width of a cell in pixels.
    columns
        Number of cells across.

    Returns
    -------
    picture : np.ndarray
        uint8 `[rows * side, columns * side, 3]`, at least one row.
    glimpses : Glimpses
        Where each concept lies on it.
    """
    glimpses = Glimpses(tuple(patches), columns)
    found = np.full((glimpses.sheet.rows * side, columns * side, 3), 238, dtype=np.uint8)
    for place, patch in enumerate(patches.values()):
        top, left = (side * part for part in divmod(place, columns))
        found[top : top + side, left : left + side] = images.squared(patch.picture, side)
    return found, glimpses


def _placed(rows: Sequence[Sequence[Patch]]) -> list[tuple[int, int, Patch]]:
    return [(row, column, patch) for row, patches in enumerate(rows) for column, patch in enumerate(patches)]
