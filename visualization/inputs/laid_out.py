"""Values of an explanation laid out by a renderer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from crp.explanations import ConceptMap, Patch
from crp.visualization.inputs.page_renderer import PageRenderer, span


def drawn_patch(patch: Patch, renderer: PageRenderer) -> Patch:
    """Return the patch as a picture with a heatmap of its size."""
    picture, heatmap = renderer.patch(patch)
    return replace(patch, picture=picture, heatmap=heatmap)


def place_of(patch: Patch, renderer: PageRenderer) -> str:
    """Say where a patch lies in its sample, on the axes of the renderer; empty if it has none."""
    axes = renderer.axes()
    ends = zip(patch.box[: len(axes)], patch.box[len(axes) :], strict=False)
    return ", ".join(span(axis, *pair) for axis, pair in zip(axes, ends, strict=False))


def drawn_map(concept_map: ConceptMap, renderer: PageRenderer, size: tuple[int, int]) -> ConceptMap:
    """Return a concept map with its cells where a picture of `size` shows them."""
    grid = _grid(concept_map, renderer)
    table = concept_map.table
    return ConceptMap(
        layer=concept_map.layer,
        concept=renderer.arranged(concept_map.concept.reshape(grid), -1),
        relevance=renderer.arranged(concept_map.relevance.reshape(grid), 0),
        shape=size,
        table=None if table is None else renderer.arranged(table.reshape(*grid, -1), 0),
    )


def cell_axes(concept_map: ConceptMap, renderer: PageRenderer, space: Sequence[int]) -> dict[str, Any]:
    """Say where cells lie on the axes of the renderer, for the script of a page; empty if it has none.

    Returns
    -------
    dict
        `axes`: for each axis its name, unit, and where its cells begin and the last one ends. `index`: for each cell of
        the picture its place along each axis; None where the picture has no cell.
    """
    if not renderer.axes():
        return {}
    grid = _grid(concept_map, renderer)
    return {
        "axes": [
            {
                "name": axis.name,
                "unit": axis.unit,
                "edges": [float(f"{axis.at(-(-index * length // cells)):.5g}") for index in range(cells + 1)],
            }
            for axis, cells, length in zip(renderer.axes(), grid, space, strict=True)
        ],
        "index": [
            None if cell < 0 else [int(place) for place in np.unravel_index(cell, grid)]
            for cell in shown_cells(concept_map, renderer).tolist()
        ],
    }


def shown_cells(concept_map: ConceptMap, renderer: PageRenderer) -> np.ndarray:
    """Say which cell of a concept map each cell of the picture is.

    Returns
    -------
    numpy.ndarray
        int64 [n], for the cells of the picture row by row: the number of the cell in `concept_map.concept`, counted in
        the same way; -1 where the picture has no cell.
    """
    grid = _grid(concept_map, renderer)
    return renderer.arranged(np.arange(np.prod(grid)).reshape(grid), -1).ravel()


def _grid(concept_map: ConceptMap, renderer: PageRenderer) -> tuple[int, ...]:
    axes = len(renderer.axes()) or 2
    return concept_map.grid or concept_map.concept.shape[-axes:]
