"""The input divided into a grid of cells, and the cells carried up to layers a few at a time.

Carried up by itself, each cell needs a pass through the whole model. But a position of a lower layer sees a small part
of the input. Cells that are three apart do not meet there, so one pass carries them all up to that layer; the result is
divided among them, and only from there on each has a pass of its own. That no position sees two of them is not assumed
but measured: one more pass carries all cells up, each with a weight, and its result must be that of the others, each
position weighted as its own cell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice

import torch
from torch import Tensor

from crp.attribution.upward_graph import UpwardGraph

# Cells with the same number, modulo this one, along every axis share a pass.
_APART = 3
# A layer at which cells are divided has at least so many positions for each cell, along every axis.
_POSITIONS = 2
# At most so many resolutions are tried; each costs the shared passes.
_TRIALS = 2
# What all shared passes carry up to one place may take (bytes); of a volume, it would be many times the network's own.
_LARGEST = 2**26
# Rounding errors, in units of the last place of the largest value.
_ROUNDING = 64
_EXACT = torch.float32, torch.float64
# named, because the caller may have set another default
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Cells:
    """A grid over the input.

    Attributes
    ----------
    grid
        Number of cells along each axis; cell `j` of `n` along an axis of length `L` starts at `j * L / n`.
    space
        Extents of the input.
    """

    grid: tuple[int, ...]
    space: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of all cells, which are numbered row by row."""
        return math.prod(self.grid)

    def place(self, device: torch.device = _CPU) -> Tensor:
        """Return the number of each place's cell, int64 `[*space]`."""
        axes = [
            torch.arange(length, device=_CPU) * cells // length
            for length, cells in zip(self.space, self.grid, strict=True)
        ]
        return self._joined(axes, self.grid).to(device)

    def colours(self) -> Tensor:
        """Return which cells share a pass: int64 [cells]."""
        return self._joined(
            [torch.arange(cells, device=_CPU) % _APART for cells in self.grid], self._together
        ).flatten()

    @property
    def passes(self) -> int:
        """Number of passes that cells share."""
        return math.prod(self._together)

    def weights(self) -> Tensor:
        """Return powers of two, [cells], that differ in neighbouring cells of one pass."""
        axes = [torch.arange(cells, device=_CPU) // _APART % 2 << axis for axis, cells in enumerate(self.grid)]
        return 2 ** self._joined(axes, [1] * len(axes)).flatten()

    def owners(self, positions: Sequence[int]) -> Tensor:
        """Return the cell of each pass that is nearest to each position of a layer: int64 [passes, *positions]."""
        axes = []
        for count, cells in zip(positions, self.grid, strict=True):
            own = (2 * torch.arange(count, device=_CPU) + 1) * cells // (2 * count)
            colour = torch.arange(min(_APART, cells), device=_CPU)[:, None]
            nearest = own + (colour - own + 1) % _APART - 1
            nearest = torch.where(nearest < 0, nearest + _APART, nearest)
            axes.append(torch.where(nearest >= cells, nearest - _APART, nearest))
        found = torch.zeros((), dtype=torch.int64, device=_CPU)
        for axis, (nearest, cells) in enumerate(zip(axes, self.grid, strict=True)):
            shape = [1] * (2 * len(axes))
            shape[axis], shape[len(axes) + axis] = nearest.shape
            found = found * cells + nearest.view(shape)
        return found.flatten(0, len(axes) - 1)

    @property
    def _together(self) -> tuple[int, ...]:
        return tuple(min(_APART, cells) for cells in self.grid)

    @staticmethod
    def _joined(axes: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
        """Return the number of each place, row by row, from its numbers along the axes."""
        found = torch.zeros((), dtype=torch.int64, device=_CPU)
        for along, count in zip(axes, counts, strict=True):
            found = found[..., None] * count + along
        return found


def cells_up(graph: UpwardGraph, cells: Cells) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Carry cells up to all layers of a graph.

    Parameters
    ----------
    graph
        The graph.
    cells
        The grid.

    Yields
    ------
    tuple of (Tensor, dict of str to Tensor)
        Numbers of some cells, int64 [R]; and for some layers what each of their units sends into these cells,
        `[R, N, C, *S]`. Every layer and cell comes once.
    """
    numbers = torch.arange(cells.count, device=graph.heatmap.device)
    waiting = dict(graph.layers)
    start, regions = None, partial(_masks, graph.heatmap, cells.place(graph.heatmap.device))
    if graph.heatmap.dtype in _EXACT and 2 * (cells.passes + 1) <= cells.count:
        low = {layer: goal for layer, goal in waiting.items() if _is_fine(goal, cells)}
        for layer, shared in zip(low, _carried_together(graph, cells, [*low.values()]), strict=True):
            if shared is not None:
                del waiting[layer]
                for some in numbers.split(graph.chunk):
                    yield some, {layer: shared.parts(some)}
        start, regions = _division(graph, cells, waiting) or (start, regions)
    for some in numbers.split(graph.chunk) if waiting else ():
        yield some, dict(zip(waiting, graph.up(regions(some), [*waiting.values()], start), strict=True))


@dataclass(frozen=True)
class _Shared:
    """What shared passes carried up, `[passes, N, C, *S]`, and the cell of each pass that each position belongs to."""

    values: Tensor
    owners: Tensor
    colours: Tensor

    def parts(self, some: Tensor) -> Tensor:
        """Return what some cells `[R]` carried up: `[R, N, C, *S]`."""
        colours = self.colours[some]
        own = self.owners[colours] == some.view(-1, *[1] * (self.owners.ndim - 1))
        return self.values[colours] * own[:, None, None]


def _division(
    graph: UpwardGraph, cells: Cells, layers: Collection[str]
) -> tuple[Tensor, Callable[[Tensor], Tensor]] | None:
    """Find the uppermost cut below some layers at which cells do not meet, and what arrives there from some cells."""
    below = [cut.relevance for cut in graph.cuts if cut.above.issuperset(layers) and _is_fine(cut.relevance, cells)]
    for _, cuts in islice(groupby(below, key=lambda cut: cut.shape[2:]), _TRIALS if layers else 0):
        goals = list(cuts)
        for cut, shared in zip(goals, _carried_together(graph, cells, goals), strict=True):
            if shared is not None:
                return cut, shared.parts
    return None


def _carried_together(graph: UpwardGraph, cells: Cells, goals: Sequence[Tensor]) -> list[_Shared | None]:
    """Carry up cells that are far apart in shared passes; None for goals where a position sees two of them."""
    if not goals:
        return []
    colours, weights = (values.to(graph.heatmap.device) for values in (cells.colours(), cells.weights()))
    place = cells.place(graph.heatmap.device)
    carried = [goal.new_empty(cells.passes + 1, *goal.shape) for goal in goals]
    for some in torch.arange(cells.passes + 1, device=place.device).split(graph.chunk):
        regions = _masks(graph.heatmap, colours[place], some)
        if some[-1] == cells.passes:  # after each shared pass, all cells with their weights
            regions = torch.cat([regions[:-1], weights[place].to(graph.heatmap).expand_as(graph.heatmap)[None]])
        for whole, part in zip(carried, graph.up(regions, goals), strict=True):
            whole[some] = part
    shared = []
    for values, weighted in (whole.split([cells.passes, 1]) for whole in carried):
        owners = cells.owners(values.shape[3:]).to(place.device)
        expected = sum(part * weight for part, weight in zip(values, weights[owners], strict=True))
        allowed = _ROUNDING * torch.finfo(values.dtype).eps * expected.abs().max()
        alone = bool((weighted[0] - expected).abs().max() <= allowed)
        shared.append(_Shared(values, owners, colours) if alone else None)
    return shared


def _is_fine(goal: Tensor, cells: Cells) -> bool:
    """Whether a place has the axes of the grid, enough positions for each cell, and room for all shared passes."""
    space = goal.shape[2:]
    if len(space) != len(cells.grid) or (cells.passes + 1) * goal.nbytes > _LARGEST:
        return False
    return all(count >= _POSITIONS * along for count, along in zip(space, cells.grid, strict=True))


def _masks(heatmap: Tensor, place: Tensor, numbers: Tensor) -> Tensor:
    """Return regions `[R, N, c, *S]` that are 1 where `place` has one of the numbers `[R]`."""
    own = place == numbers.view(-1, *[1] * place.ndim)
    return own[:, None, None].to(heatmap).expand(-1, *heatmap.shape)
