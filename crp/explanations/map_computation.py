"""The concept map: the relevance of every concept of a layer in every cell of a grid over the input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crp.attribution import RelevanceFlow
from crp.concepts import ChannelConcept, Kinds
from crp.explanations.explanation import ConceptMap
from crp.graphs.finiteness import check_finite

_CHANNELS = ChannelConcept()
# A cell stays blank below this fraction of the relevance in the strongest cell.
_FAINTEST_CELL = 0.02
# Default number of cells along the longer side: fine enough to see parts of objects, coarse enough to read.
_CELLS = 8


def concept_map_in(
    flow: RelevanceFlow, concept: Kinds, layer: str, arriving: Tensor, cells: int | None
) -> ConceptMap | None:
    """Find the strongest concept of each cell, for images and signals; a signal is an image with one row.

    None for a layer without spatial axes: its concepts have no location in the input.
    """
    grid, space = flow.layout(layer).grid, flow.input_shape[2:]
    if len(grid) != len(space) or len(space) not in (1, 2):
        return None
    positions, (height, width) = (1, *grid)[-2:], (1, *space)[-2:]
    rows, columns = grid_of(positions, (height, width), cells)
    table = concepts_in_cells(flow, layer, arriving, rows, columns, concept=concept)
    check_finite(table, f"at the input for cells of the concept map of layer {layer!r}", "at the layer itself")
    strongest, winner = table.max(-1)
    faint = strongest <= _FAINTEST_CELL * max(float(strongest.max()), 0.0)
    winner[faint], strongest[faint] = -1, 0
    return ConceptMap(
        layer=layer,
        concept=winner.view(rows, columns).cpu().numpy(),
        relevance=strongest.view(rows, columns).float().cpu().numpy(),
        shape=(height, width),
        table=table.view(rows, columns, -1).float().cpu().numpy(),
    )


def grid_of(positions: Sequence[int], size: Sequence[int], cells: int | None = None) -> tuple[int, int]:
    """Choose rows and columns of a concept map: cells are about square, and no finer than the layer.

    Parameters
    ----------
    positions
        Height and width of the layer's output.
    size
        Height and width of the input, in pixels.
    cells
        Cells along the longer side.

    Examples
    --------
    >>> grid_of((13, 13), (224, 224)), grid_of((4, 8), (64, 128), 16)
    ((8, 8), (4, 8))
    """
    cells = cells or _CELLS
    longest = max(size)
    rows, columns = (
        max(1, min(position, round(cells * side / longest))) for position, side in zip(positions, size, strict=True)
    )
    return rows, columns


def concepts_in_cells(
    flow: RelevanceFlow, layer: str, arriving: Tensor, rows: int, columns: int, *, concept: Kinds = _CHANNELS
) -> Tensor:
    """Compute the relevance of every concept of a layer in every cell of a grid over the input.

    Parameters
    ----------
    flow
        A flow of one sample `[1, c, H, W]`, or of a signal `[1, c, T]`, whose grid has one row.
    layer
        A layer's name.
    arriving
        Relevance that arrives there, `[1, *shape]`.
    rows, columns
        The grid; cell (r, c) covers pixel rows `r * H / rows` to `(r + 1) * H / rows`, and columns likewise.
    concept
        The kind of concept.

    Returns
    -------
    Tensor
        `[rows * columns, n]`, row by row. The sum over all cells is the sum of each concept's conditional heatmap.
    """
    space = flow.input_shape[2:]
    height, width = (1, *space)[-2:]
    row = torch.arange(height, device=flow.device) * rows // height
    column = torch.arange(width, device=flow.device) * columns // width
    place = (row[:, None] * columns + column).view(*space)
    parts = flow.parts(layer, concept)
    if flow.linear:
        masks = torch.nn.functional.one_hot(place, rows * columns).movedim(-1, 0).to(arriving)
        return flow.regions(layer, masks, arriving, concept=concept)[:, 0]
    # Rules that are not linear have no transpose: each concept needs its own backward pass.
    table = arriving.new_zeros(rows * columns, parts.size)
    for index in range(parts.size):
        heatmap = flow.down(parts.carried(arriving, [index]), start=layer)[0, 0].sum(0)
        table[:, index].index_add_(0, place.flatten(), heatmap.flatten())
    return table
