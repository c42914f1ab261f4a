"""The input divided into cells, each with the concept that supports most there: `ConceptMap`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crp.errors import InputError
from crp.values import finite_array, frozen, set_fields


@dataclass(frozen=True, eq=False)
class ConceptMap:
    """The input divided into a grid of cells, each with the concept that has most positive relevance in it.

    Parameters
    ----------
    layer
        Name of the layer.
    concept
        int64 [rows, columns], id of the concept (of all of the layer's), -1 where the cell holds almost no relevance.
    relevance
        float32 [rows, columns], relevance of that concept in that cell, 0 where blank.
    shape
        (height, width) of the input in pixels; cell (r, c) covers rows r * height / rows to (r + 1) * height / rows.
        A signal of length T has one row: (1, T).
    grid
        Cells along each axis of the input, if these are not rows and columns: (slabs, rows, columns) of a volume, whose
        slabs stand below one another in the tables, `rows = slabs * rows`, and in `shape`, (D * H, W).
    table
        float32 [rows, columns, C], relevance of every concept in every cell, if it is kept. It ranks the concepts of
        any region. The sum over all cells is the sum of each concept's conditional heatmap.

    Raises
    ------
    InputError
        If the tables differ in shape, or an id is below -1.
    """

    layer: str
    concept: np.ndarray
    relevance: np.ndarray
    shape: tuple[int, int]
    table: np.ndarray | None = None
    grid: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check and convert the fields."""
        set_fields(self, grid=tuple(int(i) for i in self.grid))
        set_fields(self, concept=frozen(np.asarray(self.concept, dtype=np.int64)))
        set_fields(
            self,
            relevance=frozen(np.asarray(self.relevance, dtype=np.float32)),
            shape=tuple(int(i) for i in self.shape),
        )
        if self.concept.ndim != 2 or self.concept.shape != self.relevance.shape:
            raise InputError(
                f"the concept map of {self.layer!r} has concepts of shape {self.concept.shape} and relevance of shape "
                f"{self.relevance.shape}; both are [rows, columns]."
            )
        if (self.concept < -1).any():
            raise InputError(
                f"the concept map of {self.layer!r} has concept {self.concept.min()}; ids start at 0, -1 is blank."
            )
        if self.table is not None:
            set_fields(self, table=finite_array(self.table, f"the table of the concept map of {self.layer!r}"))
            if self.table.ndim != 3 or self.table.shape[:2] != self.concept.shape:
                raise InputError(
                    f"the concept map of {self.layer!r} has cells of shape {self.concept.shape} and a table of shape "
                    f"{self.table.shape}; the table is [rows, columns, C]."
                )

    def ranking(self, cells: np.ndarray) -> tuple[tuple[int, float], ...]:
        """Rank concepts by relevance in a region, largest absolute relevance first (ties: smaller id first).

        Parameters
        ----------
        cells
            bool [rows, columns], the cells of the region.

        Returns
        -------
        tuple of (int, float)
            Id and signed relevance of every concept with relevance there.

        Raises
        ------
        InputError
            If the region has another shape or other values, or no table was kept.
        """
        cells = region_of(cells)
        if self.table is None or cells.shape != self.concept.shape:
            raise InputError(
                f"the concept map of {self.layer!r} has "
                + ("no table of all concepts." if self.table is None else f"cells of shape {self.concept.shape}.")
            )
        sums = self.table[cells].sum(0, dtype=np.float64)
        order = np.argsort(-np.abs(sums), kind="stable")
        return tuple((int(concept), float(sums[concept])) for concept in order if sums[concept])

    def strength(self) -> dict[int, float]:
        """Sum the relevance of each concept over its cells: id -> sum, largest first (ties: smaller id first)."""
        ids = [int(i) for i in np.unique(self.concept) if i >= 0]
        sums = {i: float(self.relevance[self.concept == i].sum(dtype=np.float64)) for i in ids}
        return dict(sorted(sums.items(), key=lambda item: (-item[1], item[0])))


def region_of(cells: np.ndarray) -> np.ndarray:
    """Check that a region says of each cell whether it belongs to it, as booleans or 0 and 1; return it as bool.

    Raises
    ------
    InputError
        If there are other values: a heatmap is no region.
    """
    values = np.asarray(cells)
    other = values[~np.isin(values, (0, 1))]
    if other.size:
        raise InputError(f"A region is True or False for each cell, given {other[0]}; compare a heatmap with a limit.")
    return values.astype(bool)
