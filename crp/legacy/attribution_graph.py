"""zennit-crp's attribution graph: a concept decomposed into the lower concepts it is made of."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping, Sequence

from torch import Tensor
from zennit.core import Composite

from crp.attribution.conditional import ConditionalAttribution
from crp.concepts import ConceptKind
from crp.errors import InputError, nearest
from crp.graph import ModelGraph

attrGraphResult = namedtuple("AttributionGraphResults", "nodes, connections")


class AttributionGraph:
    """Decomposes a concept into the lower concepts it is made of, for one prediction.

    Parameters
    ----------
    attribution
        Conditional attributions of the model.
    graph
        Which layers feed which (`crp.graph.trace_model_graph`).
    layer_map
        The kind of concept of each layer.
    """

    def __init__(
        self, attribution: ConditionalAttribution, graph: ModelGraph, layer_map: Mapping[str, ConceptKind]
    ) -> None:
        self.attribution = attribution
        self.graph = graph
        self.set_layer_map(layer_map)

    def set_layer_map(self, layer_map: Mapping[str, ConceptKind]) -> None:
        """Set the kind of concept of each layer."""
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

        At each level, relevance passes through the decomposed concept (and its parent) and through one concept of the
        level above. The relevance that arrives at the layers below tells which of their concepts it is made of.

        Parameters
        ----------
        sample
            `[1, c, *S]`.
        composite
            zennit composite.
        concept_id, layer_name
            The concept to decompose.
        target
            The class whose relevance is decomposed; None to start with the activation of the concept's layer (or of
            the parent's).
        width
            How many lower concepts to keep in each layer, one number for each level.
        parent_c_id, parent_layer
            A higher concept in whose context the concept is decomposed.
        abs_norm
            Whether to divide relevance by the absolute sum over the layer's concepts.
        batch_size
            Concepts at a time.
        verbose
            Whether to show progress.

        Returns
        -------
        AttributionGraphResults
            `nodes`, a list of `(layer, concept)`, each once; `connections`, a dict from a node to the list of
            `(layer, concept, relevance)` it is made of, strongest first within each layer.

        Raises
        ------
        KeyError
            If the model graph has no such layer.
        InputError
            If `layer_map` lacks a layer that the concept is decomposed into.
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
