"""Carry the relevance of a grid of conditions from the output, through their masks, to the input.

One forward pass serves all conditions. Conditions that start with equal relevance share the path down to the first
layer where they differ.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from crp.attribution.conditions import Condition, Grid, MaskMap, frozen, mask_function
from crp.attribution.flow import INPUT, RelevanceFlow
from crp.concepts import ConceptKind


class Descent:
    """The way down through one forward pass, for any number of grids of conditions.

    Parameters
    ----------
    flow
        The forward pass.
    mask_map
        A kind of concept, or a function `(row, concept_ids, layer) -> (relevance -> relevance)`; or one for each layer.
        Relevance is `[rows, C, *S]`, `row` that of the result.
    start
        Where relevance starts: a layer or `OUTPUT`.
    chain
        Whether relevance must pass the layers of a condition one after the other, with no path around them.
    on_device
        Where the relevance at layers is stored; None leaves it.
    """

    def __init__(
        self,
        flow: RelevanceFlow,
        mask_map: MaskMap | Mapping[str, MaskMap],
        start: str,
        chain: bool,
        on_device: str | torch.device | None = None,
    ) -> None:
        self.flow = flow
        self.mask_map = mask_map
        self.start = start
        self.chain = chain
        self.on_device = on_device
        self._carried: tuple[tuple, Tensor, dict[str, Tensor]] | None = None

    def __call__(self, starts: Tensor, grid: Grid) -> dict[str, Tensor]:
        """Carry down the relevance of every cell.

        Parameters
        ----------
        starts
            Relevance at the start, `[rows, ...]`, one row for each cell in the order of the results.
        grid
            Conditions whose layers are sorted from the output down.

        Returns
        -------
        dict of str to Tensor
            Relevance `[rows, ...]` at `INPUT` and at each layer of the flow, before its mask.
        """
        flow, count = self.flow, len(starts)
        found = {}
        for goal in (INPUT, *flow.layers):
            activation = flow.tensors(goal)[0].detach()
            device = activation.device if goal == INPUT or self.on_device is None else self.on_device
            found[goal] = activation.new_zeros(count, *activation.shape[1:], device=device)
        for layers in dict.fromkeys(cell.layers for row in grid.cells for cell in row):
            members = [[(cell if cell.layers == layers else None) for cell in row] for row in grid.cells]
            numbered = [(k, row) for k, row in enumerate(members) if any(row)]
            for first in range(0, len(numbered), flow.chunk):
                numbers, cells = zip(*numbered[first : first + flow.chunk], strict=True)
                places = [(slot, n) for slot, row in enumerate(cells) for n, cell in enumerate(row) if cell is not None]
                rows = [grid.row(numbers[slot], n) for slot, n in places]
                for goal, relevance in self._through(cells, numbers, layers, starts, grid).items():
                    samples = relevance.shape[1]
                    chosen = relevance.flatten(0, 1)[[slot * samples + n for slot, n in places]]
                    found[goal][rows] = chosen.to(found[goal].device)
        return found

    def _through(
        self,
        cells: Sequence[Sequence[Condition | None]],
        numbers: Sequence[int],
        layers: tuple[str, ...],
        starts: Tensor,
        grid: Grid,
    ) -> dict[str, Tensor]:
        """Carry relevance through the layers of conditions that name the same ones.

        Returns
        -------
        dict of str to Tensor
            Relevance `[K, N, ...]` at the input and at each layer of the flow.
        """
        nothing = torch.zeros_like(starts[0])
        rows = [[grid.row(k, n) for n in range(len(row))] for k, row in zip(numbers, cells, strict=True)]
        relevance = torch.stack(
            [
                torch.stack([nothing if cell is None else starts[at] for at, cell in zip(places, row, strict=True)])
                for places, row in zip(rows, cells, strict=True)
            ]
        )
        # conditions of one key carry equal relevance so far
        keys: list[Any] = list(range(len(cells)))
        if len(cells) > 1 and torch.equal(relevance, relevance[:1].expand_as(relevance)):
            keys = [0] * len(cells)
        total: dict[str, Tensor] = {}
        source, remaining = self.start, list(layers)
        if self.start in self.flow.layers:
            total[self.start] = relevance
        if remaining and remaining[0] == self.start:
            relevance, keys = self._masked(remaining.pop(0), relevance, keys, cells, rows)
        while True:
            goals = self._goals(source, remaining)
            blocked = () if self.chain else set(layers) - {source}
            unique = list(dict.fromkeys(keys))
            parts = self._down(torch.stack([relevance[keys.index(key)] for key in unique]), source, goals, blocked)
            slots = [unique.index(key) for key in keys]
            for goal, part in parts.items():
                part = part[slots]
                total[goal] = total[goal] + part if goal in total else part
            if not remaining:
                return total
            source = remaining.pop(0)
            relevance, keys = self._masked(source, total[source], keys, cells, rows)

    def _down(
        self, relevance: Tensor, source: str, goals: Sequence[str], blocked: Collection[str]
    ) -> dict[str, Tensor]:
        """Call `RelevanceFlow.down`, and keep what all batches of conditions share: the path from the start."""
        flow = self.flow
        if source != self.start or len(relevance) > 1:
            return flow.down(relevance, start=source, to=goals, blocked=blocked)
        path = (tuple(goals), frozenset(blocked))
        if self._carried is None or self._carried[0] != path or not torch.equal(self._carried[1], relevance):
            self._carried = path, relevance, flow.down(relevance, start=source, to=goals, blocked=blocked)
        return self._carried[2]

    def _goals(self, source: str, remaining: Sequence[str]) -> list[str]:
        """List where the relevance that leaves `source` is needed."""
        flow = self.flow
        below = [layer for layer in flow.layers if layer != source and flow.reaches(source, layer)]
        if not self.chain or not remaining:
            return [INPUT, *below]
        return [layer for layer in below if layer == remaining[0] or flow.reaches(layer, remaining[0])]

    def _masked(
        self,
        layer: str,
        relevance: Tensor,
        keys: Sequence[Any],
        cells: Sequence[Sequence[Condition | None]],
        rows: Sequence[Sequence[int]],
    ) -> tuple[Tensor, list[Any]]:
        """Mask relevance `[K, N, ...]` at a layer, each cell by its own ids; `rows` `[K][N]` are those of results."""
        mask = mask_function(self.mask_map, layer)
        masks = [[None if cell is None else dict(cell.masks)[layer] for cell in row] for row in cells]
        places = [(k, n) for k, row in enumerate(cells) for n, cell in enumerate(row) if cell is not None]
        masked = relevance.clone(memory_format=torch.contiguous_format)
        if isinstance(mask, ConceptKind):
            parts = self.flow.parts(layer, mask)
            for k, n in places:
                sample = parts.of_samples(torch.tensor([n], device=relevance.device))
                masked[k, n] = sample.carried(relevance[k, n, None], [masks[k][n]])[0, 0]
            return masked, [(key, frozen(row)) for key, row in zip(keys, masks, strict=True)]
        # a function is told the row of the result, and may mask equal ids in another way in each
        last = max(rows[k][n] for k, n in places)
        results = relevance.new_zeros(last + 1, *relevance.shape[2:])
        for k, n in places:
            results[rows[k][n]] = relevance[k, n]
        for k, n in places:
            results = mask(rows[k][n], masks[k][n], layer)(results)
        for k, n in places:
            masked[k, n] = results[rows[k][n]]
        return masked, list(enumerate(keys))
