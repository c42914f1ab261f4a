"""Conditional attribution (CRP) with the names and arguments of zennit-crp.

The algorithm (Achtibat et al. 2023, section 'Concept relevance propagation'): relevance flows from the output to the
topmost layer of a condition, is masked there, flows on to the next layer, and so on to the input. One forward pass
serves all conditions; conditions that begin alike share the way down to their first layer.
"""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm
from zennit.core import Composite

from crp.attribution.conditions import (
    Condition,
    Grid,
    MaskMap,
    frozen,
    mask_function,
    ordered,
    read_conditions,
    targets_of,
)
from crp.attribution.flow import INPUT, OUTPUT, RelevanceFlow
from crp.concepts import ChannelConcept
from crp.errors import InputError

attrResult = namedtuple("AttributionResults", "heatmap, activations, relevances, prediction")


class CondAttribution:
    """Conditional attributions of one model.

    Parameters
    ----------
    model
        The model to explain; never changed.
    device
        Where the model and the data are moved to for the computation; by default where the model is.
    overwrite_data_grad, no_param_grad
        Accepted as in zennit-crp, without effect: neither `data.grad` nor `requires_grad` of parameters is touched.

    Examples
    --------
    >>> from zennit.composites import EpsilonPlusFlat
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    >>> attribution = CondAttribution(model)
    >>> result = attribution(torch.ones(1, 1, 4, 4), [{"0": [1], "y": [0]}, {"0": [2, 3], "y": [0]}], EpsilonPlusFlat())
    >>> result.heatmap.shape, result.relevances["0"].shape
    (torch.Size([2, 4, 4]), torch.Size([2, 4, 2, 2]))
    """

    MODEL_OUTPUT_NAME = "y"  # the key of a condition's classes; another one for a model with a layer of that name

    def __init__(
        self,
        model: nn.Module,
        device: torch.device | str | None = None,
        overwrite_data_grad: bool = True,
        no_param_grad: bool = True,
    ) -> None:
        weight = next(model.parameters(), None)
        own = torch.device("cpu") if weight is None else weight.device
        self.device = own
        asked = own if device is None else torch.device(device)
        # "cuda" is wherever on CUDA the model is
        if asked.type != own.type or asked.index not in (None, own.index or 0):
            raise InputError(f"The model is on {own}, asked for {asked}: call model.to('{asked}') first.")
        self.model = model

    # -- seams that a subclass may change, as in zennit-crp ------------------------------------------------------

    def relevance_init(
        self, prediction: Tensor, target_list: Sequence[Sequence[int] | None] | None, init_rel: Any
    ) -> Tensor:
        """Relevance that starts at the output (or at the start layer), one row for each result.

        Parameters
        ----------
        prediction
            Output of the model, or activation of the start layer, `[rows, ...]`.
        target_list
            For each row the list of classes of its `"y"`, or None where it names none. None if no row names any, or if
            relevance starts at a layer.
        init_rel
            None (the prediction itself), a number, a tensor, or a function of `prediction`.

        Returns
        -------
        Tensor
            `[rows, ...]`, zero outside the targets.
        """
        if callable(init_rel):
            start = init_rel(prediction)
        elif isinstance(init_rel, Tensor):
            start = init_rel.to(prediction)
        elif init_rel is not None:
            start = torch.full_like(prediction, float(init_rel))
        else:
            start = prediction
        if start.shape != prediction.shape:
            try:
                start = start.expand(prediction.shape)
            except RuntimeError:
                raise InputError(
                    f"init_rel has the shape {list(start.shape)}; the relevance that starts is "
                    f"{list(prediction.shape)} (one row for each result)."
                ) from None
        if not target_list:
            return start
        start = start.clone()
        for row, targets in zip(start, target_list, strict=True):
            if targets is not None:
                kept = torch.zeros_like(row)
                kept[list(targets)] = row[list(targets)]
                row.copy_(kept)
        return start

    def heatmap_modifier(self, data: Tensor, on_device: str | torch.device | None = None) -> Tensor:
        """Make heatmaps of the relevance at the input, found in `data.grad`: its sum over channels.

        Parameters
        ----------
        data
            `[rows, c, *S]`, or `[rows, F]` for flat input.
        on_device
            Where the heatmaps go.

        Returns
        -------
        Tensor
            `[rows, *S]`; flat input has no channels to sum over, and gives `[rows, F]`.
        """
        relevance = data.grad.detach()
        relevance = relevance.to(on_device) if on_device else relevance
        return relevance.sum(1) if relevance.ndim > 2 else relevance

    # -- attribution -------------------------------------------------------------------------------------------

    def __call__(
        self,
        data: Tensor,
        conditions: Sequence[Mapping[str, Any]],
        composite: Composite | None = None,
        record_layer: Sequence[str] = (),
        mask_map: MaskMap | Mapping[str, MaskMap] = ChannelConcept.mask,
        start_layer: str | None = None,
        init_rel: Any = None,
        on_device: str | torch.device | None = None,
        exclude_parallel: bool = True,
    ) -> attrResult:
        """Attribute under conditions.

        Parameters
        ----------
        data
            `[N, c, *S]`.
        conditions
            `K` dicts `{layer: concept ids, "y": classes}`, layers in any order. `N` samples and `N` conditions are
            paired; any other numbers are multiplied, sample by sample: row `n * K + k`.
        composite
            zennit composite (with its canonizers); None for the plain gradient.
        record_layer
            Layers whose activation and relevance are returned, besides those of the conditions.
        mask_map
            A function `(row, concept_ids, layer) -> (relevance -> relevance)`, or one for each layer.
        start_layer
            Start there, with its activation as relevance, instead of at the output. `"y"` is without effect then.
        init_rel
            What starts: None (the logit or activation), a number, a tensor, or a function of the prediction.
        on_device
            Where the results go; by default they stay where the model is.
        exclude_parallel
            Whether relevance must flow through the layers of a condition, and not around them (through a skip
            connection).

        Returns
        -------
        AttributionResults
            `heatmap` `[rows, *S]`; `activations` and `relevances`, dicts of `[rows, C, *S]`, where the relevance at a
            masked layer is what arrives, before its mask; `prediction` `[rows, classes]` (with `start_layer` the
            activation there). Result i belongs to condition i.

        Raises
        ------
        InputError
            For unknown layers, concepts and classes, or a condition without `"y"` where nothing else says what starts.
        """
        checked = self._checked(conditions, start_layer, init_rel)
        with self._flow(data, checked, composite, record_layer, start_layer) as flow:
            grid = Grid.of(checked, len(data))
            return _Run(self, flow, mask_map, record_layer, start_layer, init_rel, on_device, exclude_parallel)(
                data, grid
            )

    def generate(
        self,
        data: Tensor,
        conditions: Sequence[Mapping[str, Any]],
        composite: Composite | None = None,
        record_layer: Sequence[str] = (),
        mask_map: MaskMap | Mapping[str, MaskMap] = ChannelConcept.mask,
        start_layer: str | None = None,
        init_rel: Any = None,
        batch_size: int = 10,
        on_device: str | torch.device | None = None,
        exclude_parallel: bool = True,
        verbose: bool = True,
    ) -> Iterator[attrResult]:
        """Attribute one sample under many conditions, and yield the results `batch_size` conditions at a time.

        The arguments are those of `__call__`; `batch_size` bounds the memory of the results, `verbose` shows progress.
        """
        if batch_size < 1:
            raise InputError(f"batch_size must be 1 or more, given {batch_size}.")
        checked = self._checked(conditions, start_layer, init_rel)
        with self._flow(data, checked, composite, record_layer, start_layer) as flow:
            run = _Run(self, flow, mask_map, record_layer, start_layer, init_rel, on_device, exclude_parallel)
            batches = range(0, len(checked), batch_size)
            for first in tqdm(batches, total=math.ceil(len(checked) / batch_size), disable=not verbose):
                batch = checked[first : first + batch_size]
                yield run(data, Grid(tuple((condition,) * len(data) for condition in batch), False))

    def _checked(
        self, conditions: Sequence[Mapping[str, Any]], start_layer: str | None, init_rel: Any
    ) -> list[Condition]:
        checked = read_conditions(conditions, self.MODEL_OUTPUT_NAME)
        for condition in checked:
            if condition.targets is None and start_layer is None and init_rel is None:
                raise InputError(
                    f"Condition {condition.number} does not say what relevance starts from: "
                    f"give it '{self.MODEL_OUTPUT_NAME}', or give start_layer or init_rel."
                )
        return checked

    def _flow(
        self,
        data: Tensor,
        conditions: Sequence[Condition],
        composite: Composite | None,
        record_layer: Sequence[str],
        start_layer: str | None,
    ) -> RelevanceFlow:
        if isinstance(record_layer, str):
            record_layer = [record_layer]
        layers = [*record_layer, *(layer for condition in conditions for layer in condition.layers)]
        return RelevanceFlow(self.model, composite, data, layers + [start_layer] * (start_layer is not None))


class _Run:
    """All that stays the same from one grid of conditions to the next on one forward pass."""

    def __init__(
        self,
        attribution: CondAttribution,
        flow: RelevanceFlow,
        mask_map: MaskMap | Mapping[str, MaskMap],
        record_layer: Sequence[str],
        start_layer: str | None,
        init_rel: Any,
        on_device: str | torch.device | None,
        exclude_parallel: bool,
    ) -> None:
        self.attribution = attribution
        self.flow = flow
        self.mask_map = mask_map
        self.start = OUTPUT if start_layer is None else start_layer
        self.init_rel = init_rel
        self.on_device = on_device
        self.exclude_parallel = exclude_parallel
        self.records = flow.layers
        self._carried: tuple[tuple, Tensor, dict[str, Tensor]] | None = None

    def __call__(self, data: Tensor, grid: Grid) -> attrResult:
        """Attribute every cell of the grid."""
        flow = self.flow
        cells = [
            [ordered(condition, flow, start=self.start, chain=self.exclude_parallel) for condition in row]
            for row in grid.cells
        ]
        source = flow.prediction if self.start == OUTPUT else flow.activation(self.start)
        samples = torch.tensor([n for _, n in self._rows(grid)], device=source.device)
        prediction = source[samples]
        targets = None
        if self.start == OUTPUT:
            targets = targets_of([cells[k][n] for k, n in self._rows(grid)])
        starts = self.attribution.relevance_init(prediction.clone(), targets, self.init_rel)

        stored = {
            layer: self._placed(torch.zeros_like(flow.activation(layer)[samples])) for layer in self.records
        }
        heat = torch.zeros_like(data.to(source.device)[samples]).detach()
        groups = dict.fromkeys(cells[k][n].layers for k, n in self._rows(grid))
        for layers in groups:
            members = [
                [(cell if cell.layers == layers else None) for cell in row] for row in cells
            ]
            members = [(k, row) for k, row in enumerate(members) if any(row)]
            for first in range(0, len(members), flow.chunk):
                chunk = members[first : first + flow.chunk]
                rows, places = [], []
                for slot, (k, row) in enumerate(chunk):
                    for n, cell in enumerate(row):
                        if cell is not None:
                            rows.append(grid.row(k, n))
                            places.append(slot * len(row) + n)
                arriving = self._descend([row for _, row in chunk], [k for k, _ in chunk], layers, starts, grid)
                for goal, relevance in arriving.items():
                    relevance = relevance.flatten(0, 1)[places]
                    if goal == INPUT:
                        heat[rows] = relevance
                    else:
                        stored[goal][rows] = self._placed(relevance)
        carrier = torch.empty_like(heat)
        carrier.grad = heat
        return attrResult(
            self.attribution.heatmap_modifier(carrier, self.on_device),
            {layer: self._placed(flow.activation(layer)[samples]) for layer in self.records},
            stored,
            prediction,
        )

    def _descend(
        self,
        cells: Sequence[Sequence[Condition | None]],
        numbers: Sequence[int],
        layers: tuple[str, ...],
        starts: Tensor,
        grid: Grid,
    ) -> dict[str, Tensor]:
        """Carry relevance through the layers of some conditions that name the same ones.

        Returns
        -------
        dict of str to Tensor
            Relevance `[K, N, ...]` at the input and at each recorded layer.
        """
        relevance = torch.stack(
            [
                torch.stack(
                    [
                        torch.zeros_like(starts[0]) if cell is None else starts[grid.row(k, n)]
                        for n, cell in enumerate(row)
                    ]
                )
                for k, row in zip(numbers, cells, strict=True)
            ]
        )
        # Conditions that start alike share the way to their first layer.
        keys: list[Any] = list(range(len(cells)))
        if len(cells) > 1 and torch.equal(relevance, relevance[:1].expand_as(relevance)):
            keys = [0] * len(cells)
        total: dict[str, Tensor] = {}
        source, remaining = self.start, list(layers)
        if self.start in self.records:
            total[self.start] = relevance
        if remaining and remaining[0] == self.start:
            relevance, keys = self._masked(remaining.pop(0), relevance, keys, cells)
        while True:
            goals = self._goals(source, remaining)
            blocked = () if self.exclude_parallel else set(layers) - {source}
            unique = list(dict.fromkeys(keys))
            parts = self._down(torch.stack([relevance[keys.index(key)] for key in unique]), source, goals, blocked)
            slots = [unique.index(key) for key in keys]
            for goal, part in parts.items():
                part = part[slots]
                total[goal] = total[goal] + part if goal in total else part
            if not remaining:
                return total
            source = remaining.pop(0)
            relevance, keys = self._masked(source, total[source], keys, cells)

    def _down(
        self, relevance: Tensor, source: str, goals: Sequence[str], blocked: Collection[str]
    ) -> dict[str, Tensor]:
        """`RelevanceFlow.down`; the way from the start that all conditions share is gone once for all batches."""
        flow = self.flow
        if source != self.start or len(relevance) > 1:
            return flow.down(relevance, start=source, to=goals, blocked=blocked)
        way = (tuple(goals), frozenset(blocked))
        if self._carried is None or self._carried[0] != way or not torch.equal(self._carried[1], relevance):
            self._carried = way, relevance, flow.down(relevance, start=source, to=goals, blocked=blocked)
        return self._carried[2]

    def _goals(self, source: str, remaining: Sequence[str]) -> list[str]:
        """Where relevance that leaves `source` is wanted."""
        flow = self.flow
        below = [layer for layer in self.records if layer != source and flow.reaches(source, layer)]
        if not self.exclude_parallel:
            return [INPUT, *below]
        if not remaining:
            return [INPUT, *below]
        return [layer for layer in below if layer == remaining[0] or flow.reaches(layer, remaining[0])]

    def _masked(
        self, layer: str, relevance: Tensor, keys: Sequence[Any], cells: Sequence[Sequence[Condition | None]]
    ) -> tuple[Tensor, list[Any]]:
        """Mask relevance `[K, N, ...]` at a layer, each cell by its own ids."""
        flat = relevance.flatten(0, 1).clone(memory_format=torch.contiguous_format)
        samples = relevance.shape[1]
        new_keys = []
        for slot, row in enumerate(cells):
            masks = [None if cell is None else dict(cell.masks)[layer] for cell in row]
            new_keys.append((keys[slot], frozen(masks)))
            for n, ids in enumerate(masks):
                if row[n] is not None:
                    flat = mask_function(self.mask_map, layer)(slot * samples + n, ids, layer)(flat)
        return flat.view_as(relevance), new_keys

    def _placed(self, result: Tensor) -> Tensor:
        return result.to(self.on_device) if self.on_device else result

    @staticmethod
    def _rows(grid: Grid) -> list[tuple[int, int]]:
        """Cells `(k, n)` in the order of the results."""
        cells = [(k, n) for k in range(len(grid.cells)) for n in range(len(grid.cells[0]))]
        return sorted(cells, key=lambda cell: grid.row(*cell))
