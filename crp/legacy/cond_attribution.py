"""zennit-crp's `CondAttribution`, with the methods that its users override."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm
from zennit.core import Composite

from crp.attribution.conditional import ConditionalAttribution, attrResult
from crp.attribution.conditions import Condition, mask_function, ordered, targets_of
from crp.attribution.flow import INPUT, OUTPUT, RelevanceFlow
from crp.concepts import ConceptKind
from crp.errors import InputError

# Methods in which zennit-crp computes its results. They do not exist here, so an override would have no effect.
_INTERNAL = (
    "_append_recording_layer_hooks",
    "_attribute",
    "_check_arguments",
    "_collect_hook_activation_relevance",
    "_conditions_wrapper",
    "_generate_hook",
    "_register_mask_fn",
    "_reset_gradients",
    "_separate_conditions",
)


class CondAttribution(ConditionalAttribution):
    """zennit-crp's conditional attributions; parameters as in `crp.attribution.ConditionalAttribution`.

    `relevance_init`, `heatmap_modifier`, `backward` and `broadcast` may be replaced in a subclass, on this class or on
    an object. `backward` and `broadcast` need one row of the forward pass for each result. Attributions are computed
    that way only where one of them is replaced, because it is slower.
    """

    def __init__(
        self,
        model: nn.Module,
        device: torch.device | str | None = None,
        overwrite_data_grad: bool = True,
        no_param_grad: bool = True,
    ) -> None:
        super().__init__(model, device, overwrite_data_grad, no_param_grad)
        self.overwrite_data_grad = overwrite_data_grad
        for name in _INTERNAL:
            if hasattr(self, name):
                raise self._without_effect(name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse to replace a method that would never be called."""
        if name in _INTERNAL:
            raise self._without_effect(name)
        super().__setattr__(name, value)

    def _without_effect(self, name: str) -> InputError:
        return InputError(
            f"{type(self).__name__} overrides '{name}', an internal method of zennit-crp that crp-atlas does not have: "
            "override 'relevance_init', 'heatmap_modifier', 'backward' or 'broadcast' instead."
        )

    def broadcast(self, data: Tensor, conditions: Sequence[Mapping]) -> tuple[Tensor, Sequence[Mapping]]:
        """Make one row of data and one condition for each result. An override decides how they are combined.

        Equal numbers are paired. Any other numbers give all pairs, sample by sample.
        """
        if len(data) == len(conditions):
            return data, conditions
        return data.repeat_interleave(len(conditions), 0), [*conditions] * len(data)

    def backward(
        self,
        pred: Tensor,
        grad_mask: Tensor,
        partial_backward: bool,
        layer_names: Sequence[str],
        layer_out: Mapping[str, Tensor],
        generate: bool = False,
    ) -> None:
        """Carry relevance from `pred` to the gradient of the data. Called only where it or `broadcast` is replaced.

        Parameters
        ----------
        pred
            Output of the model, or of the start layer, in the graph of a forward pass, `[rows, ...]`. The masks are
            hooks on the outputs of their layers.
        grad_mask
            Relevance that starts there.
        partial_backward
            Whether it must pass through each layer in turn (`exclude_parallel`).
        layer_names
            Masked layers, from the output down.
        layer_out
            Their outputs (and those of recorded layers) in the same graph.
        generate
            Whether to keep the graph.
        """
        relevance = grad_mask.to(pred)
        for layer in layer_names if partial_backward else ():
            (relevance,) = torch.autograd.grad(pred, layer_out[layer], relevance, retain_graph=True)
            pred = layer_out[layer]
        torch.autograd.backward(pred, relevance, retain_graph=generate)

    def __call__(self, data: Tensor, conditions: Sequence[Mapping[str, Any]], *args: Any, **options: Any) -> attrResult:
        """Attribute under conditions; arguments and results as in `ConditionalAttribution`."""
        if not replaced(self, "backward", "broadcast"):
            return super().__call__(data, conditions, *args, **options)
        rows, each = self.broadcast(data, conditions)
        if len(rows) != len(each):
            raise InputError(f"broadcast must return as many rows as conditions, given {len(rows)} and {len(each)}.")
        return self._by_rows(rows, each, **_bound(super().__call__, *args, **options))

    def generate(
        self, data: Tensor, conditions: Sequence[Mapping[str, Any]], *args: Any, **options: Any
    ) -> Iterator[attrResult]:
        """Attribute under many conditions, some at a time; arguments and results as in `ConditionalAttribution`."""
        if not replaced(self, "backward"):
            yield from super().generate(data, conditions, *args, **options)
            return
        options = _bound(super().generate, *args, **options)
        size, verbose = options.pop("batch_size"), options.pop("verbose")
        for first in tqdm(range(0, len(conditions), size), disable=not verbose):
            batch = conditions[first : first + size]
            yield self._by_rows(data.repeat_interleave(len(batch), 0), batch, **options)

    __call__.__signature__ = signature(ConditionalAttribution.__call__)
    generate.__signature__ = signature(ConditionalAttribution.generate)

    def _by_rows(
        self,
        data: Tensor,
        conditions: Sequence[Mapping[str, Any]],
        composite: Composite | None,
        record_layer: Sequence[str],
        mask_map: Any,
        start_layer: str | None,
        init_rel: Any,
        on_device: torch.device | str | None,
        exclude_parallel: bool,
    ) -> attrResult:
        """Attribute row i under condition i, with one call of `backward` for each set of layers."""
        checked = self._checked(conditions, start_layer, init_rel)
        start = start_layer or OUTPUT
        groups: dict[frozenset | None, list[int]] = {}
        for row, condition in enumerate(checked):
            groups.setdefault(frozenset(condition.layers) if exclude_parallel else None, []).append(row)
        parts = []
        for rows in groups.values():
            with self._flow(data[rows], checked, composite, record_layer, start_layer) as flow:
                if flow.replica.by_purpose:
                    raise InputError(
                        "A replaced 'backward' or 'broadcast' makes one pass for layers and input, and rules by "
                        "purpose need one for each: use composite_for(model, rules='epsilon-plus-flat')."
                    )
                cells = [ordered(checked[row], flow, start=start, chain=exclude_parallel) for row in rows]
                parts.append(self._group(flow, cells, mask_map, start, init_rel, on_device, exclude_parallel))
        order = torch.tensor([row for rows in groups.values() for row in rows]).argsort()

        def joined(tensors: Iterable[Tensor]) -> Tensor:
            whole = torch.cat(list(tensors))
            return whole[order.to(whole.device)]

        heatmaps, activations, relevances, predictions = zip(*parts, strict=True)
        return attrResult(
            joined(heatmaps),
            {layer: joined(part[layer] for part in activations) for layer in activations[0]},
            {layer: joined(part[layer] for part in relevances) for layer in relevances[0]},
            joined(predictions),
        )

    def _group(
        self,
        flow: RelevanceFlow,
        cells: Sequence[Condition],
        mask_map: Any,
        start: str,
        init_rel: Any,
        on_device: torch.device | str | None,
        chain: bool,
    ) -> attrResult:
        """Attribute rows whose conditions name the same layers (any layers, with `exclude_parallel=False`)."""
        relevances = {layer: torch.zeros_like(flow.activation(layer)) for layer in flow.layers}
        for layer in flow.layers:
            masks = {row: dict(cell.masks)[layer] for row, cell in enumerate(cells) if layer in cell.layers}

            def arrive(relevance: Tensor, layer: str = layer, masks: dict[int, Any] = masks) -> Tensor:
                relevances[layer] += relevance
                relevance = relevance.clone()
                for row, ids in masks.items():
                    mask = mask_function(mask_map, layer)
                    if isinstance(mask, ConceptKind):
                        parts = flow.parts(layer, mask).of_samples(torch.tensor([row]))
                        relevance[row] = parts.carried(relevance[row, None], [ids])[0, 0]
                    else:
                        relevance = mask(row, ids, layer)(relevance)
                return relevance

            flow.tensors(layer)[0].register_hook(arrive)
        prediction = flow.tensors(start)[0]
        targets = targets_of(cells) if start == OUTPUT else None
        masked = {layer for cell in cells for layer in cell.layers} - {start}
        layers = [layer for layer in flow.layers[::-1] if layer in masked]
        outputs = {layer: flow.tensors(layer)[1] for layer in flow.layers}
        self.backward(
            prediction, self.relevance_init(prediction.detach().clone(), targets, init_rel), chain, layers, outputs
        )
        leaf = flow.tensors(INPUT)[0]
        if leaf.grad is None:
            leaf.grad = torch.zeros_like(leaf)

        def placed(result: Tensor) -> Tensor:
            return result.detach().to(on_device) if on_device else result.detach()

        return attrResult(
            self.heatmap_modifier(leaf, on_device).detach(),
            {layer: placed(flow.activation(layer)) for layer in flow.layers},
            {layer: placed(relevance) for layer, relevance in relevances.items()},
            prediction.detach(),
        )


# as defined here, even if a script replaces them later
_OWN = {name: getattr(CondAttribution, name) for name in ("__call__", "backward", "broadcast")}


def replaced(attribution: Any, *methods: str) -> bool:
    """Return whether a method of `CondAttribution` is replaced in a subclass, on the class or on the object."""
    for name in methods:
        # Python looks up the method of a call on the class alone
        found = getattr(type(attribution) if name == "__call__" else attribution, name, None)
        if getattr(found, "__func__", found) is not _OWN[name]:
            return True
    return False


def _bound(function: Callable, *args: Any, **options: Any) -> dict[str, Any]:
    """Bind the arguments of a call after data and conditions to their names."""
    call = signature(function).bind(None, None, *args, **options)
    call.apply_defaults()
    return {name: value for name, value in call.arguments.items() if name not in ("data", "conditions")}
