"""A patch for each node of an attribution graph."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from crp.values import Patch

from .concept_graph import REST, ConceptGraph

if TYPE_CHECKING:
    from crp.library import Library

_MODE = "relevance"


def concepts_in(graph: ConceptGraph, library: Library) -> dict[str, list[int]]:
    """List the concepts of the nodes, by layer of the library."""
    found = defaultdict(list)
    for node in graph.nodes:
        if node.layer in library.layers and node.concept != REST:
            found[node.layer].append(node.concept)
    return dict(found)


def with_patches(graph: ConceptGraph, library: Library) -> ConceptGraph:
    """Give each node the sample patch that its concept is most relevant in, if the library has it or can make it."""
    concepts = concepts_in(graph, library)
    files = {layer: library.patch_files(layer) for layer in concepts}
    library.make_patches({layer: files[layer].keys(ids, [_MODE], 1) for layer, ids in concepts.items()})
    patches: Mapping[tuple[str, int], tuple[Patch, ...]] = {
        (layer, concept): found
        for layer, ids in concepts.items()
        for (concept, _), found in library.patches_of(layer, [(one, _MODE) for one in ids], count=1).items()
    }
    nodes = tuple(
        replace(node, patch=next(iter(patches.get((node.layer, node.concept), ())), None)) for node in graph.nodes
    )
    return replace(graph, nodes=nodes)
