"""Conditional attribution (CRP) with the arguments of zennit-crp.

The algorithm is that of Achtibat et al. 2023, section 'Concept relevance propagation': relevance flows from the output
to the topmost layer of a condition, is masked there, flows on to the next layer, and so on to the input.
"""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm
from zennit.core import Composite

from crp.arguments import device_named, layer_names
from crp.attribution.conditions import (
    Condition,
    Grid,
    MaskMap,
    described,
    ordered,
    read_conditions,
    targets_of,
)
from crp.attribution.descent import Descent
from crp.attribution.flow import INPUT, OUTPUT, RelevanceFlow
from crp.attribution.starts import AtClasses, Given
from crp.attribution.wrappers import check_module
from crp.concepts import ChannelConcept
from crp.errors import InputError

attrResult = namedtuple("AttributionResults", "heatmap, activations, relevances, prediction")


class ConditionalAttribution:
    """Conditional attributions of one model.

    Parameters
    ----------
    model
        The model to explain. It is never changed.
    device
        Device of the model; by default read from the model.
    overwrite_data_grad, no_param_grad
        Accepted as in zennit-crp, without effect: neither `data.grad` nor `requires_grad` of parameters is touched.

    Examples
    --------
    >>> from zennit.composites import EpsilonPlusFlat
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    >>> attribution = ConditionalAttribution(model)
    >>> result = attribution(torch.ones(1, 1, 4, 4), [{"0": [1], "y": [0]}, {"0": [2, 3], "y": [0]}], EpsilonPlusFlat())
    >>> result.heatmap.shape, result.relevances["0"].shape
    (torch.Size([2, 4, 4]), torch.Size([2, 4, 2, 2]))
    """

    MODEL_OUTPUT_NAME = "y"  # the key of a condition's classes; change it for a model with a layer of that name

    def __init__(
        self,
        model: nn.Module,
        device: torch.device | str | None = None,
        overwrite_data_grad: bool = True,
        no_param_grad: bool = True,
    ) -> None:
        check_module(model)
        weight = next(model.parameters(), None)
        own = torch.device("cpu") if weight is None else weight.device
        self.device = own
        asked = own if device is None else device_named(device)
        # "cuda" matches any CUDA device
        if asked.type != own.type or asked.index not in (None, own.index or 0):
            raise InputError(f"The model is on {own}, not on {asked}: call model.to('{asked}') first.")
        self.model = model

    # -- methods that a subclass may override, as in zennit-crp --------------------------------------------------

    def relevance_init(self, prediction: Tensor, target_list: Sequence[Any] | None, init_rel: Any) -> Tensor:
        """Choose the relevance that starts at the output (or at the start layer), one row for each result.

        Parameters
        ----------
        prediction
            Output of the model, or activation of the start layer, `[rows, ...]`.
        target_list
            For each row the classes of its condition's `"y"`, as the caller gave them, or None where it has none. None
            if no condition has any, or if relevance starts at a layer.
        init_rel
            None (the prediction itself), a number, a tensor, or a function of `prediction`.

        Returns
        -------
        Tensor
            `[rows, ...]`, zero outside the targets.

        Raises
        ------
        InputError
            If a class does not exist, or `init_rel` has another shape.
        """
        start = Given(init_rel)
        return (AtClasses(start, target_list) if target_list else start).relevance(prediction)

    def heatmap_modifier(self, data: Tensor, on_device: str | torch.device | None = None) -> Tensor:
        """Turn the relevance at the input into heatmaps: its sum over channels.

        Parameters
        ----------
        data
            Model input, `[rows, c, *S]` or `[rows, F]`, one row for each result. `data.grad` is its relevance.
        on_device
            Where the heatmaps go.

        Returns
        -------
        Tensor
            `[rows, *S]`. Flat input has no channels to sum over and gives `[rows, F]`.
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
            `K` dicts `{layer: concept ids, "y": classes}`, layers in any order. Ids and classes may be an int, a list,
            a range, a slice, an index tensor or a mask of booleans (`crp.indices`); concepts also a dict of weights
            (`{46: 1.0, 71: -0.5}`) or `crp.concepts.all_but(ids)`. `N` samples and `N` conditions are paired. Any other
            numbers give all pairs, sample by sample: row `n * K + k`.
        composite
            zennit composite with its canonizers; None for the plain gradient.
        record_layer
            Layers whose activation and relevance are returned, besides those of the conditions.
        mask_map
            A kind of concept, or a function `(row, concept_ids, layer) -> (relevance -> relevance)`; or one for each
            layer, as a dict. By default channels. `row` is that of the result; its relevance is `relevance[row]`.
        start_layer
            Start at this layer, with its activation as relevance, instead of at the output. `"y"` has no effect then.
        init_rel
            Relevance to start with: None (the logit or activation), a number, a tensor, or a function of the
            prediction.
        on_device
            Where the results go; by default they stay on the model's device.
        exclude_parallel
            Whether relevance must pass through the layers of a condition, and not around them (through a skip
            connection).

        Returns
        -------
        AttributionResults
            `heatmap` `[rows, *S]`; `activations` and `relevances`, dicts of `[rows, C, *S]`, where the relevance at a
            masked layer is what arrives there, before the mask; `prediction` `[rows, classes]` (with `start_layer` the
            activation there). Result i belongs to condition i.

        Raises
        ------
        InputError
            For an unknown layer, concept or class, or a condition without `"y"` if neither `start_layer` nor `init_rel`
            says where relevance starts.
        """
        checked = self._checked(conditions, start_layer, init_rel)
        with self._flow(data, checked, composite, record_layer, start_layer) as flow:
            descent = Descent(flow, mask_map, start_layer or OUTPUT, exclude_parallel, on_device)
            return self._attributed(descent, Grid.of(checked, len(data)), init_rel)

    def dry_run(
        self,
        data: Tensor,
        conditions: Sequence[Mapping[str, Any]],
        mask_map: MaskMap | Mapping[str, MaskMap] = ChannelConcept.mask,
        start_layer: str | None = None,
        init_rel: Any = None,
        exclude_parallel: bool = True,
    ) -> list[str]:
        """Say for each condition, in a sentence, which relevance would pass, layer by layer from the output down.

        The arguments are those of `__call__`, and so are the errors; no relevance is computed.
        """
        checked = self._checked(conditions, start_layer, init_rel)
        with self._flow(data[:1], checked, None, (), start_layer) as flow:
            start = start_layer or OUTPUT
            sorted_ = [ordered(condition, flow, start=start, chain=exclude_parallel) for condition in checked]
            return [described(condition, flow, mask_map) for condition in sorted_]

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
        """Attribute under many conditions, and yield the results of `batch_size` conditions at a time.

        The arguments are those of `__call__`; `batch_size` bounds the memory of the results, `verbose` shows progress.
        """
        if batch_size < 1:
            raise InputError(f"batch_size must be 1 or more, given {batch_size}.")
        checked = self._checked(conditions, start_layer, init_rel)
        with self._flow(data, checked, composite, record_layer, start_layer) as flow:
            descent = Descent(flow, mask_map, start_layer or OUTPUT, exclude_parallel, on_device)
            batches = range(0, len(checked), batch_size)
            for first in tqdm(batches, total=math.ceil(len(checked) / batch_size), disable=not verbose):
                batch = checked[first : first + batch_size]
                grid = Grid(tuple((condition,) * len(data) for condition in batch), False)
                yield self._attributed(descent, grid, init_rel)

    def _attributed(self, descent: Descent, grid: Grid, init_rel: Any) -> attrResult:
        """Attribute every cell of the grid."""
        flow, start, device = descent.flow, descent.start, descent.on_device
        grid = grid.ordered(flow, start=start, chain=descent.chain)
        cells = grid.in_order()
        source = flow.prediction if start == OUTPUT else flow.activation(start)
        samples = torch.tensor([n for _, n in cells], device=source.device)
        prediction = source[samples]
        targets = targets_of([grid.cells[k][n] for k, n in cells]) if start == OUTPUT else None
        relevances = descent(self.relevance_init(prediction.clone(), targets, init_rel), grid)
        rows = flow.tensors(INPUT)[0].detach()[samples].requires_grad_()
        rows.grad = relevances.pop(INPUT)
        activations = {layer: flow.activation(layer)[samples] for layer in flow.layers}
        return attrResult(
            self.heatmap_modifier(rows, device).detach(),
            {layer: values.to(device) if device else values for layer, values in activations.items()},
            relevances,
            prediction,
        )

    def _checked(
        self, conditions: Sequence[Mapping[str, Any]], start_layer: str | None, init_rel: Any
    ) -> list[Condition]:
        checked = read_conditions(conditions, self.MODEL_OUTPUT_NAME)
        for condition in checked:
            if condition.targets is None and start_layer is None and init_rel is None:
                raise InputError(
                    f"Condition {condition.number} does not say where relevance starts: "
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
        layers = [*layer_names(record_layer), *(layer for condition in conditions for layer in condition.layers)]
        layers += [start_layer] * (start_layer is not None)
        # as in zennit-crp, a final softmax is part of the model
        return RelevanceFlow(self.model, composite, data, layers, before_activation=False)
