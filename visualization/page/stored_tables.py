"""Relevance of all concepts in all cells of the maps of a page, as numbers for its script.

A table is int16 with one scale for each cell: its absolute relevance in 65,536 steps, or in half as many where one
concept holds half of it and more. So a concept's relevance in a region is off by less than 1/65536 of the absolute
relevance of its cells (0.0015 percentage points; else twice that), in half the bytes of one scale for each concept:
most concepts hold little of a cell. Rounding carries over from concept to concept, so that the steps of a cell add up
to its absolute relevance: what many small concepts hold together is not lost. Which concepts hold anything is kept,
too, even where that is less than a step.

The table of a difference ("why zebra and not horse?") is nearly the difference of the two other tables, because
relevance is linear in what starts at the output. So the page holds only what is left of it, a few steps a cell, from
which the script gets the very same steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from crp.explanations import Explanation
from crp.visualization.page.context import Context
from crp.visualization.page.packing import packed_floats, packed_steps

# Of int16, and of a cell.
_MOST, _STEPS = 32767, 65536


class Steps(NamedTuple):
    """A table in steps, int16 `[C, cells]`, of each cell's scale, float32 `[cells]`, and what of it is not zero."""

    steps: np.ndarray
    scale: np.ndarray
    filled: np.ndarray


def cell_tables(views: Sequence[Explanation], context: Context) -> list[list[dict[str, Any]]]:
    """Pack the tables of all layers of all views.

    Returns
    -------
    list of list of dict
        By view and layer: `scale`, `table`, and of a difference the numbers of the two views that `table` adds to;
        empty for a layer without a table.
    """
    found = [[_steps_of(layer, context) for layer in view.layers] for view in views]
    return [
        [_packed(own, found, place, _minuends(views, view)) for place, own in enumerate(of_view)]
        for view, of_view in zip(views, found, strict=True)
    ]


def in_steps(table: np.ndarray) -> Steps:
    """Round a table, float32 `[*cells, C]`."""
    # concept by concept: the cells of one are alike
    cells = table.reshape(-1, table.shape[-1]).T
    sizes = np.abs(cells)
    scale = np.maximum(sizes.sum(0, dtype=np.float64) / _STEPS, sizes.max(0) / _MOST).astype(np.float32)
    sums = np.cumsum(sizes / np.where(scale > 0, scale, 1).astype(np.float64), axis=0)
    steps = np.diff(np.rint(sums), axis=0, prepend=0).clip(0, _MOST)
    return Steps((np.sign(cells) * steps).astype(np.int16), scale, cells != 0)


def expected_steps(one: Steps, other: Steps, scale: np.ndarray) -> np.ndarray:
    """Compute which steps of `scale`, float32 `[cells]`, the difference of two tables has: int16 `[C, cells]`.

    The script does the same with the same numbers (float64), so that it gets the same steps.
    """
    minuend, subtrahend = (found.steps * found.scale.astype(np.float64) for found in (one, other))
    own = np.where(scale > 0, scale, 1).astype(np.float64)
    return np.clip(np.floor((minuend - subtrahend) / own + 0.5), -_MOST, _MOST).astype(np.int16)


def _steps_of(layer: Any, context: Context) -> Steps | None:
    drawn = context.layer(layer).concept_map
    return None if drawn is None or drawn.table is None else in_steps(drawn.table)


def _minuends(views: Sequence[Explanation], view: Explanation) -> list[int]:
    """Find the views of which one is the difference: by number, none if it is no difference."""
    if view.against is None:
        return []
    alone = {other.target: index for index, other in reversed(list(enumerate(views))) if other.against is None}
    found = [alone.get(view.target), alone.get(view.against)]
    return [] if None in found else found


def _packed(
    own: Steps | None, found: Sequence[Sequence[Steps | None]], place: int, minuends: Sequence[int]
) -> dict[str, Any]:
    if own is None:
        return {}
    others = [found[view][place] if place < len(found[view]) else None for view in minuends]
    content: dict[str, Any] = {"scale": packed_floats(own.scale), "table": packed_steps(own.steps, own.filled)}
    if others and all(other is not None and other.steps.shape == own.steps.shape for other in others):
        # int16 wraps around, here and in the script
        left = own.steps - expected_steps(*others, own.scale)
        content |= {"table": packed_steps(left, left != 0), "difference": list(minuends)}
    return content
