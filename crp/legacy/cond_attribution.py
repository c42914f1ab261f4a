"""`CondAttribution` with the last two of zennit-crp's seams, and its attribution graph.

The seams that fit our engine (`relevance_init`, `heatmap_modifier`, `MODEL_OUTPUT_NAME`) are in the core. `backward`
and `broadcast` rest on one row of the data for each result; only a subclass that overrides one of them is served so.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm
from zennit.core import Composite

from crp.attribution.conditional import CondAttribution as _CondAttribution
from crp.attribution.conditional import attrResult
from crp.attribution.conditions import Condition, mask_function, ordered, targets_of
from crp.attribution.flow import INPUT, OUTPUT, RelevanceFlow
from crp.concepts import ConceptKind
from crp.errors import InputError, nearest
from crp.graph import ModelGraph

attrGraphResult = namedtuple("AttributionGraphResults", "nodes, connections")

# How zennit-crp put its results together, in methods that are not ours: an override would be without effect.
_INNER = (
    "_append_recording_layer_hooks",
    "_attribute",
    "_check_arguments",
    "_collect_hook_activation_relevance",
    "_conditions_wrapper",
    "_register_mask_fn",
)


class CondAttribution(_CondAttribution):
    __doc__ = _CondAttribution.__doc__

    def __init__(
        self,
        model: nn.Module,
        device: torch.device | str | None = None,
        overwrite_data_grad: bool = True,
        no_param_grad: bool = True,
    ) -> None:
        super().__init__(model, device, overwrite_data_grad, no_param_grad)
        self.overwrite_data_grad = overwrite_data_grad
        for name in _INNER:
            if hasattr(self, name):
                raise InputError(
                    f"{type(self).__name__} overrides '{name}', an inner method of zennit-crp that crp-atlas does not "
                    "have: override 'relevance_init', 'heatmap_modifier', 'backward' or 'broadcast' instead."
                )

    def broadcast(self, data: Tensor, conditions: Sequence[Mapping]) -> tuple[Tensor, Sequence[Mapping]]:
        """Make one row of data and one condition for each result; an override decides what meets what.

        Equal numbers are paired; any other numbers are multiplied, sample by sample.
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
        """Carry relevance from `pred` to the gradient of the data; called where a subclass overrides it.

        Parameters
        ----------
        pred
            Output of the model, or of the start layer, in the graph of a forward pass, `[rows, ...]`. Masks act on
            relevance on its way through their layers.
        grad_mask
            Relevance that starts there.
        partial_backward
            Whether it must go through each layer in turn (`exclude_parallel`).
        layer_names
            Masked layers, from the output down.
        layer_out
            Their outputs (and those of recorded layers) in the same graph.
        generate
            Whether the graph is to be kept.
        """
        relevance = grad_mask.to(pred)
        for layer in layer_names if partial_backward else ():
            (relevance,) = torch.autograd.grad(pred, layer_out[layer], relevance, retain_graph=True)
            pred = layer_out[layer]
        torch.autograd.backward(pred, relevance, retain_graph=generate)

    def __call__(self, data: Tensor, conditions: Sequence[Mapping[str, Any]], *args: Any, **options: Any) -> attrResult:
        if not self._overridden("backward", "broadcast"):
            return super().__call__(data, conditions, *args, **options)
        rows, each = self.broadcast(data, conditions)
        if len(rows) != len(each):
            raise InputError(f"broadcast gives one condition for each row, given {len(rows)} rows and {len(each)}.")
        return self._by_rows(rows, each, **_bound(super().__call__, *args, **options))

    def generate(
        self, data: Tensor, conditions: Sequence[Mapping[str, Any]], *args: Any, **options: Any
    ) -> Iterator[attrResult]:
        if not self._overridden("backward"):
            yield from super().generate(data, conditions, *args, **options)
            return
        options = _bound(super().generate, *args, **options)
        size, verbose = options.pop("batch_size"), options.pop("verbose")
        for first in tqdm(range(0, len(conditions), size), disable=not verbose):
            batch = conditions[first : first + size]
            yield self._by_rows(data.repeat_interleave(len(batch), 0), batch, **options)

    # said once, in the core
    __call__.__doc__, __call__.__signature__ = _CondAttribution.__call__.__doc__, signature(_CondAttribution.__call__)
    generate.__doc__, generate.__signature__ = _CondAttribution.generate.__doc__, signature(_CondAttribution.generate)

    def _overridden(self, *seams: str) -> bool:
        return any(getattr(type(self), seam) is not getattr(CondAttribution, seam) for seam in seams)

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
        """Attribute row i under condition i: one call of `backward` for each set of layers."""
        checked = self._checked(conditions, start_layer, init_rel)
        start = start_layer or OUTPUT
        groups: dict[frozenset | None, list[int]] = {}
        for row, condition in enumerate(checked):
            groups.setdefault(frozenset(condition.layers) if exclude_parallel else None, []).append(row)
        parts = []
        for rows in groups.values():
            with self._flow(data[rows], checked, composite, record_layer, start_layer) as flow:
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
        """Attribute rows whose conditions name the same layers (any, where parallel ways are open)."""
        relevances = {layer: torch.zeros_like(flow.activation(layer)) for layer in flow.layers}
        for layer in flow.layers:
            masks = {row: dict(cell.masks)[layer] for row, cell in enumerate(cells) if layer in cell.layers}

            def arrive(relevance: Tensor, layer: str = layer, masks: dict[int, Any] = masks) -> Tensor:
                relevances[layer] += relevance
                relevance = relevance.clone()
                for row, ids in masks.items():
                    relevance = mask_function(mask_map, layer)(row, ids, layer)(relevance)
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


def _bound(function: Callable, *args: Any, **options: Any) -> dict[str, Any]:
    """All arguments of a call after data and conditions, by name."""
    call = signature(function).bind(None, None, *args, **options)
    call.apply_defaults()
    return {name: value for name, value in call.arguments.items() if name not in ("data", "conditions")}


class AttributionGraph:
    """Decomposes a concept into the lower concepts it is made of, in one prediction.

    Parameters
    ----------
    attribution
        Conditional attributions of the model.
    graph
        Which layers feed which (`crp.graph.trace_model_graph`).
    layer_map
        The kind of concept of each layer.
    """

    def __init__(self, attribution: _CondAttribution, graph: ModelGraph, layer_map: Mapping[str, ConceptKind]) -> None:
        self.attribution = attribution
        self.graph = graph
        self.set_layer_map(layer_map)

    def set_layer_map(self, layer_map: Mapping[str, ConceptKind]) -> None:
        """Choose the kind of concept of each layer."""
        self.layer_map = layer_map
        self.mask_map = {layer: concept.mask for layer, concept in layer_map.items()}

    def __call__(
        self,
        sample: Tensor,
        composite: Composite | None,
        concept_id: int,
        layer_name: str,
        target: int | None = None,
        width: Sequence[int] = (4, 2),
        parent_c_id: int | None = None,
        parent_layer: str | None = None,
        abs_norm: bool = True,
        batch_size: int = 16,
        verbose: bool = True,
    ) -> attrGraphResult:
        """Decompose one concept, level by level.

        Every level passes relevance through the decomposed concept (and its parent), and through one concept of the
        level above at a time; what arrives at the layers below says which of their concepts it was made of.

        Parameters
        ----------
        sample
            `[1, c, *S]`.
        composite
            zennit composite.
        concept_id, layer_name
            The concept to decompose.
        target
            The class whose relevance is decomposed; None to start from the activation of the concept's layer (or of
            the parent's).
        width
            How many lower concepts are kept of each layer, one number a level.
        parent_c_id, parent_layer
            A higher concept in whose context the concept is decomposed.
        abs_norm
            Whether relevance is divided by the absolute sum over its layer's concepts.
        batch_size
            Concepts handled at a time.
        verbose
            Whether progress is shown.

        Returns
        -------
        AttributionGraphResults
            `nodes`, a list of `(layer, concept)`, each once; `connections`, a dict from a node to a list of
            `(layer, concept, relevance)` it was made of, strongest first within each layer.

        Raises
        ------
        KeyError
            If the model graph has no such layer.
        InputError
            If `layer_map` lacks a layer that feeds a concept.
        """
        root = (layer_name, concept_id)
        context: dict[str, list[int]] = {layer_name: [concept_id]}
        if parent_c_id is not None and parent_layer:
            context[parent_layer] = [parent_c_id]
        start = None if target is not None else parent_layer or layer_name
        if target is not None:
            context[self.attribution.MODEL_OUTPUT_NAME] = [target]
        nodes: dict[tuple[str, int], None] = {root: None}
        connections: dict[tuple[str, int], list[tuple[str, int, float]]] = {}
        level = [root]
        for kept in width:
            feeders = {node: self._feeders(node[0]) for node in level}
            results = self.attribution.generate(
                sample,
                [{node[0]: [node[1]], **context} for node in level],
                composite,
                record_layer=list(dict.fromkeys(layer for layers in feeders.values() for layer in layers)),
                mask_map=self.mask_map,
                start_layer=start,
                batch_size=batch_size,
                exclude_parallel=False,
                verbose=verbose,
            )
            lower: dict[tuple[str, int], None] = {}
            for first, result in zip(range(0, len(level), batch_size), results, strict=True):
                for row, node in enumerate(level[first : first + batch_size]):
                    for layer in feeders[node]:
                        arriving = result.relevances[layer][[row]]
                        share = self.layer_map[layer].attribute(arriving, abs_norm=abs_norm)[0]
                        best = share.argsort(descending=True, stable=True)[:kept].tolist()
                        connections.setdefault(node, []).extend((layer, each, share[each].item()) for each in best)
                        lower.update(((layer, each), None) for each in best)
            nodes.update(lower)
            level = list(lower)
        return attrGraphResult(list(nodes), connections)

    def _feeders(self, layer: str) -> list[str]:
        feeders = self.graph.find_input_layers(layer)
        for feeder in feeders:
            if feeder not in self.layer_map:
                raise InputError(
                    f"Layer '{feeder}' feeds '{layer}', and layer_map has no concept for it: "
                    f"{nearest(feeder, list(self.layer_map))}"
                )
        return feeders
