"""How lower concepts compose higher ones, as frozen values: the attribution graph.

    ConceptGraph     a directed graph without cycles, from one root (a class or a concept) down
    ├── GraphNode    one concept, with all relevance that arrives there on any path
    └── GraphEdge    relevance at a lower concept that comes directly from an upper one

**What an edge is.** All relevance flows down from the root. At the layer of the upper concept it is masked to that
concept and carried on to the lower layer *without passing any other layer of the graph*. The edge is the relevance that
arrives at the lower concept. A path through a third layer of the graph is therefore two edges. Edges from *all* upper
concepts to one lower concept add up to that concept's relevance; its `rest` is the sum of the edges that are not in the
graph. What belongs to no concept of a layer is a node, too (`REST`), with edges of its own; without it they would not
add up.

`crp.graphs.composition.compose` computes graphs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from crp.errors import InputError
from crp.values import Patch, defined, finite_array, packed_patch, patch_from, patch_numbers, set_fields, undefined

# Incoming edges and rest are sums of float32 relevance.
TOLERANCE = 1e-4

Key = tuple[str, int]

# The layer of the root of a whole prediction: `crp.attribution.OUTPUT`, which would load torch.
OUTPUT = "(output)"
# Id and name of the node that holds what belongs to no concept of its layer.
REST, NO_CONCEPT = -1, "no concept"


@dataclass(frozen=True, eq=False)
class GraphNode:
    """One concept of the graph.

    Parameters
    ----------
    layer
        Name of the layer; for the root of a whole prediction `crp.attribution.OUTPUT`.
    concept
        Id of the concept; at the output, of the class (0 if something else than one class is explained). `REST` (-1)
        for what belongs to no concept of the layer.
    relevance
        Signed relevance that arrives at the concept under the root's condition, on any path; mean over the samples.
    share
        Share of the prediction: `relevance` divided by the relevance that started at the output. It exceeds
        -1..1 if concepts for and against cancel out. NaN if no relevance started.
    rest
        Part of `relevance` that does not arrive along an edge of the graph. For the root, all of it.
    passed
        Relevance that all concepts of the layers directly below receive from the concept. The rest of `relevance` was
        absorbed (bias, stabiliser) or bypassed these layers on its way to the input. 0 if there is no layer below.
    carried
        Absolute relevance of the edges that leave the concept / that of all edges that leave it, drawn or not: 0..1.
        NaN if there is no layer of the graph below.
    heatmap
        float32 [H, W], conditional heatmap at the input; None for graphs over several samples.
    patch
        The patch that shows the concept best, if a library was given.
    name
        Name of what is explained, for a node at the output; the name that the kind of concept gives the concept,
        otherwise empty.
    """

    layer: str
    concept: int
    relevance: float
    share: float
    rest: float
    passed: float = 0.0
    carried: float = math.nan
    heatmap: np.ndarray | None = None
    patch: Patch | None = None
    name: str = ""

    def __post_init__(self) -> None:
        """Check and convert the fields."""
        set_fields(self, concept=int(self.concept))
        for field in ("relevance", "share", "rest", "passed", "carried"):
            set_fields(self, **{field: float(getattr(self, field))})
        if self.heatmap is not None:
            set_fields(self, heatmap=finite_array(self.heatmap, f"the heatmap of {self.key}"))

    @property
    def key(self) -> Key:
        """(layer, concept)."""
        return self.layer, self.concept

    @property
    def is_output(self) -> bool:
        """Whether it is what is explained, and no concept."""
        return self.layer == OUTPUT

    @property
    def is_rest(self) -> bool:
        """Whether it holds what belongs to no concept of its layer."""
        return self.concept == REST


@dataclass(frozen=True)
class GraphEdge:
    """Relevance that flows from an upper to a lower concept, directly.

    Parameters
    ----------
    upper, lower
        (layer, concept) of both ends.
    relevance
        Signed relevance; mean over the samples.
    share
        `relevance` / relevance started at the output. NaN if none was started.
    part
        `relevance` / relevance of the lower concept: incoming parts and the part of the rest add up to 1. NaN if the
        lower concept has no relevance.
    """

    upper: Key
    lower: Key
    relevance: float
    share: float
    part: float

    def __post_init__(self) -> None:
        """Check and convert the fields."""
        for end in ("upper", "lower"):
            layer, concept = getattr(self, end)
            set_fields(self, **{end: (str(layer), int(concept))})
        for field in ("relevance", "share", "part"):
            set_fields(self, **{field: float(getattr(self, field))})


@dataclass(frozen=True, eq=False)
class ConceptGraph:
    """How lower concepts compose a class or a concept.

    Parameters
    ----------
    layers
        Layers of the nodes, the root's first, from the output down.
    nodes
        The root first, then by layer.
    edges
        From upper to lower layers.
    started
        Relevance started at the output; mean over the samples.
    coverage
        For every concept, the strongest edges that together carry this fraction of its absolute relevance were kept,
        as far as `breadth` allowed.
    breadth
        Largest number of concepts in a layer.
    samples
        Number of samples over which the numbers are means.
    first_order
        Whether relevance is a first-order effect, which is not conserved from layer to layer
        (`LayerExplanation.first_order`). Then rests hold what edges and nodes differ by, too.

    Raises
    ------
    InputError
        If a node occurs twice, an edge does not lead down to a node of the graph, or incoming edges and rest do not add
        up.
    """

    layers: tuple[str, ...]
    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]
    started: float
    coverage: float
    breadth: int
    samples: int = 1
    first_order: bool = False

    def __post_init__(self) -> None:
        """Check and convert the fields."""
        set_fields(self, layers=tuple(self.layers), nodes=tuple(self.nodes), edges=tuple(self.edges))
        set_fields(self, started=float(self.started), coverage=float(self.coverage))
        set_fields(self, breadth=int(self.breadth), samples=int(self.samples))
        keys = [node.key for node in self.nodes]
        if len(set(keys)) < len(keys):
            raise InputError(f"the graph holds {next(key for key in keys if keys.count(key) > 1)} twice.")
        depth = {layer: index for index, layer in enumerate(self.layers)}
        for edge in self.edges:
            if not {edge.upper, edge.lower} <= set(keys):
                raise InputError(f"the edge from {edge.upper} to {edge.lower} ends at a concept outside the graph.")
            if depth[edge.upper[0]] >= depth[edge.lower[0]]:
                raise InputError(f"the edge from {edge.upper} to {edge.lower} does not lead down.")
        scale = max((abs(node.relevance) for node in self.nodes), default=0)
        for node in self.nodes:
            total = math.fsum(edge.relevance for edge in self.into(node)) + node.rest
            if abs(total - node.relevance) > TOLERANCE * scale:
                raise InputError(f"{node.key} holds {node.relevance:.6g}, its edges and rest bring {total:.6g}.")

    def __repr__(self) -> str:
        """Return a line with the root and the numbers of nodes, edges and layers."""
        root = self.root.name if self.root.is_output else f"{self.root.layer} {self.root.name or self.root.concept}"
        return f"<ConceptGraph of {root!r}: {len(self.nodes)} nodes, {len(self.edges)} edges, {', '.join(self.layers)}>"

    def _repr_html_(self) -> str:
        # Notebooks call this method on the value; nothing else in this package depends on drawing.
        from crp.visualization.notebook import graph_html

        return graph_html(self)

    @property
    def root(self) -> GraphNode:
        """The class or concept that the others compose."""
        return self.nodes[0]

    def node(self, layer: str, concept: int) -> GraphNode | None:
        """Find the node of a concept, or None."""
        return next((node for node in self.nodes if node.key == (layer, concept)), None)

    def into(self, node: GraphNode) -> tuple[GraphEdge, ...]:
        """List the edges that lead to a node."""
        return tuple(edge for edge in self.edges if edge.lower == node.key)

    def out_of(self, node: GraphNode) -> tuple[GraphEdge, ...]:
        """List the edges that leave a node."""
        return tuple(edge for edge in self.edges if edge.upper == node.key)


def graph_numbers(graph: ConceptGraph) -> dict[str, Any]:
    """Turn names and numbers of a graph into plain JSON values; undefined numbers (NaN) are None."""
    return {
        "layers": list(graph.layers),
        "started": graph.started,
        "coverage": graph.coverage,
        "breadth": graph.breadth,
        "samples": graph.samples,
        "first_order": graph.first_order,
        "nodes": [
            {
                "layer": node.layer,
                "concept": node.concept,
                "name": node.name,
                "relevance": node.relevance,
                "share": defined(node.share),
                "rest": node.rest,
                "passed": node.passed,
                "carried": defined(node.carried),
                "patch": node.patch and patch_numbers(node.patch),
            }
            for node in graph.nodes
        ],
        "edges": [
            {
                "upper": list(edge.upper),
                "lower": list(edge.lower),
                "relevance": edge.relevance,
                "share": defined(edge.share),
                "part": defined(edge.part),
            }
            for edge in graph.edges
        ],
    }


def graph_arrays(graph: ConceptGraph, place: str) -> dict[str, np.ndarray]:
    """Collect the arrays of a graph by name; `place` is the prefix of all names."""
    arrays = {}
    for index, node in enumerate(graph.nodes):
        if node.heatmap is not None:
            arrays[f"{place}/{index}/heatmap"] = node.heatmap
        if node.patch is not None:
            arrays |= packed_patch(f"{place}/{index}/patch", node.patch)
    return arrays


def graph_from(content: Mapping[str, Any], arrays: Mapping[str, np.ndarray], place: str) -> ConceptGraph:
    """Build the graph from `graph_numbers` and `graph_arrays`."""
    nodes = [
        GraphNode(
            **node
            | {
                "share": undefined(node["share"]),
                "carried": undefined(node["carried"]),
                "heatmap": arrays.get(f"{place}/{index}/heatmap"),
                "patch": node["patch"] and patch_from(node["patch"], f"{place}/{index}/patch", arrays),
            }
        )
        for index, node in enumerate(content["nodes"])
    ]
    edges = [
        GraphEdge(**edge | {"share": undefined(edge["share"]), "part": undefined(edge["part"])})
        for edge in content["edges"]
    ]
    return ConceptGraph(**{**content, "nodes": nodes, "edges": edges})
