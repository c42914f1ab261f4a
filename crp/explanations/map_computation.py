"""The concept map: the relevance of every concept of a layer in every cell of a grid over the input."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from crp.attribution import RelevanceFlow
from crp.attribution.cells import Cells, cells_up
from crp.concepts import ChannelConcept, Kinds
from crp.explanations.concept_map import ConceptMap
from crp.graphs.finiteness import check_finite

_CHANNELS = ChannelConcept()
# A cell stays blank below this fraction of the relevance in the strongest cell.
_FAINTEST_CELL = 0.02
# Default number of cells along the longest side, by number of axes: fine enough to see parts of objects, coarse enough
# to read. Every cell is a pass up through the model.
_CELLS = {1: 16, 2: 8, 3: 6}
# Few slices, or frames, are thick ones, or long ones: fewer slabs than this would show next to nothing of them.
_SLABS = 4


def concept_maps_in(
    flow: RelevanceFlow, concept: Kinds, arriving: Mapping[str, Tensor], cells: int | None
) -> dict[str, ConceptMap | None]:
    """Find the strongest concept of each cell of the input: a picture, a signal (one row) or a volume (slabs).

    A layer whose space has other axes than the input's (a spectrogram inside a model of waveforms) has a map of the
    input, too. None for a layer without spatial axes: its concepts have no location in the input.

    Parameters
    ----------
    flow
        A flow of one sample.
    concept
        The kind of concept.
    arriving
        By layer, the relevance that arrives there, `[1, *shape]`.
    cells
        Cells along the longest side of the input.
    """
    grids: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for layer in arriving:
        positions, space = flow.layout(layer).grid, tuple(flow.input_shape[2:])
        if positions and len(space) in _CELLS:
            # pages show the same slabs of a volume in all layers
            same = len(positions) == len(space) < 3
            grids[grid_of(positions if same else space, space, cells)].append(layer)
    maps = dict.fromkeys(arriving)
    for grid, layers in grids.items():
        tables = _tables(flow, {layer: arriving[layer] for layer in layers}, grid, concept)
        maps |= {layer: _map(layer, tables[layer], grid, tuple(flow.input_shape[2:])) for layer in layers}
    return maps


def _map(layer: str, table: Tensor, grid: tuple[int, ...], space: tuple[int, ...]) -> ConceptMap:
    check_finite(table, f"at the input for cells of the concept map of layer {layer!r}", "at the layer itself")
    strongest, winner = table.max(-1)
    faint = strongest <= _FAINTEST_CELL * max(float(strongest.max()), 0.0)
    winner[faint], strongest[faint] = -1, 0
    rows, height = (math.prod(sizes[:-1]) for sizes in (grid, space))
    return ConceptMap(
        layer=layer,
        concept=winner.view(rows, grid[-1]).cpu().numpy(),
        relevance=strongest.view(rows, grid[-1]).float().cpu().numpy(),
        shape=(height, space[-1]),
        table=table.view(rows, grid[-1], -1).float().cpu().numpy(),
        grid=grid if len(grid) == 3 else (),
    )


def grid_of(positions: Sequence[int], size: Sequence[int], cells: int | None = None) -> tuple[int, ...]:
    """Choose the cells of a concept map along each axis: they are about equally long, and no finer than the layer.

    Parameters
    ----------
    positions
        Extents of the layer's output: height and width of an image.
    size
        Those of the input.
    cells
        Cells along the longest side.

    Examples
    --------
    >>> grid_of((13, 13), (224, 224)), grid_of((4, 8), (64, 128), 16)
    ((8, 8), (4, 8))
    >>> grid_of((300,), (600,)), grid_of((12, 16, 16), (24, 32, 32)), grid_of((8, 96, 96), (8, 96, 96))
    ((16,), (4, 6, 6), (4, 6, 6))
    """
    cells = cells or _CELLS[len(size)]
    longest = max(size)
    found = [
        max(1, min(position, round(cells * side / longest))) for position, side in zip(positions, size, strict=True)
    ]
    if len(found) == 3:
        found[0] = max(found[0], min(positions[0], cells, _SLABS))
    return tuple(found)


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
    grid = (rows, columns)[-len(flow.input_shape[2:]) :]
    return _tables(flow, {layer: arriving}, grid, concept)[layer]


def _tables(
    flow: RelevanceFlow, arriving: Mapping[str, Tensor], grid: tuple[int, ...], concept: Kinds
) -> dict[str, Tensor]:
    """Compute the same for some layers, and a number of cells for each axis of the input: `[cells, n]`."""
    cells, tables = Cells(grid, tuple(flow.input_shape[2:])), {}
    parts = {layer: flow.parts(layer, concept) for layer in arriving}
    for layer, relevance in arriving.items():
        kind = torch.promote_types(relevance.dtype, torch.float32)  # sums in bfloat16 would lose all but two digits
        tables[layer] = relevance.new_zeros(cells.count, parts[layer].size, dtype=kind)
    waiting = set(arriving)
    while waiting and flow.linear:
        graph = flow.upward_graph([layer for layer in arriving if layer in waiting], arriving)
        for numbers, lifted in cells_up(graph, cells):
            for layer, values in lifted.items():
                tables[layer][numbers] = parts[layer].total(values * arriving[layer])[:, 0]
        waiting -= graph.layers.keys()
    place = cells.place(flow.device).flatten()
    for layer in waiting:  # rules that are not linear have no transpose: each concept needs its own backward pass
        for index in range(parts[layer].size):
            heatmap = flow.down(parts[layer].carried(arriving[layer], [index]), start=layer)[0, 0].sum(0)
            tables[layer][:, index].index_add_(0, place, heatmap.flatten().to(tables[layer]))
    return tables
