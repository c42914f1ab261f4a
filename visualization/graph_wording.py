"""The sentences about an attribution graph that pages and figures share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from crp.graphs import ConceptGraph, GraphEdge, GraphNode
from crp.visualization import concept_names
from crp.visualization.number_formats import number, percent, signed_percent
from crp.visualization.wording import share_of_all, shortened

# Parts of more than this many times the whole say little as parts.
_CANCELS = 3


def node_label(node: GraphNode, length: int | None = None) -> str:
    """Name a node on its own: what is explained, or the concept's name and number; shortened to a `length`."""
    if node.is_output or node.is_rest:
        return node.name if length is None else shortened(node.name, length)
    return concept_names.label(node.concept, node.name, length)


def node_name(node: GraphNode) -> str:
    """Name a node in a sentence: what is explained, or layer and concept."""
    return node_label(node) if node.is_output else f"{node.layer} {node_label(node)}"


def edge_name(graph: ConceptGraph, edge: GraphEdge) -> str:
    """Name both ends of an edge."""
    return " → ".join(node_name(graph.node(*key)) for key in (edge.upper, edge.lower))


def root_row(graph: ConceptGraph) -> str:
    """Name the row of the root: the prediction, or the layer of the concept that is decomposed."""
    return "prediction" if graph.root.is_output else graph.root.layer


def not_drawn(graph: ConceptGraph) -> str:
    """Name what the rest of a node comes from; first-order effects do not add up from layer to layer."""
    return "edges not drawn, and effects of higher order" if graph.first_order else "edges not drawn"


def node_sentence(graph: ConceptGraph, node: GraphNode) -> str:
    """Say what one node of the graph holds, where it comes from, and what it is made of.

    Incoming parts and rest add up to 100 %.
    """
    sentences = [f"{node_name(node)}: {share_of_all(node.share)} of the prediction."]
    if abs(node.share) > 1.005:
        sentences.append("More than all of it: other concepts of the layer oppose and cancel it out.")
    into = graph.into(node)
    if into and node.relevance:
        sentences.append(_where_from(graph, node, into))
    out = graph.out_of(node)
    if out:
        parts = [f"{node_name(graph.node(*edge.lower))} {share_of_all(edge.share)}" for edge in out]
        sentences.append(
            f"It is made of {', '.join(parts)}; the drawn edges carry {percent(node.carried)} of what leaves it."
        )
    return " ".join(sentences)


def _where_from(graph: ConceptGraph, node: GraphNode, into: Sequence[GraphEdge]) -> str:
    """Divide what a node holds by where it comes from; where that nearly cancels, as shares of the prediction."""
    sources = [(edge.part, f"from {node_name(graph.node(*edge.upper))}") for edge in into]
    sources.append((node.rest / node.relevance, f"along {not_drawn(graph)}"))
    if math.isnan(node.share) or max(abs(part) for part, _ in sources) <= _CANCELS:
        return f"Of that, {', '.join(f'{percent(part)} {where}' for part, where in sources)}."
    parts = ", ".join(f"{signed_percent(part * node.share)} {where}" for part, where in sources)
    return f"It is what remains of parts that nearly cancel out, as shares of the prediction: {parts}."


def graph(value: ConceptGraph) -> str:
    """Say what a graph shows."""
    below = ", ".join(layer for layer in value.layers[1:] if any(node.layer == layer for node in value.nodes))
    mean = f", mean of {value.samples} samples" if value.samples > 1 else ""
    if not below:
        return f"Attribution graph of {node_name(value.root)}{mean}: no relevance flows into the layers chosen."
    concepts = sum(not node.is_rest for node in value.nodes[1:])
    rest = "" if concepts == len(value.nodes) - 1 else " and what belongs to no concept"
    negative = ""
    if value.started < 0:
        negative = f" What is explained is negative ({number(value.started)}): positive shares make it more negative."
    return (
        f"Attribution graph of {node_name(value.root)}{mean}: {concepts} concepts of {below}{rest}, "
        f"{len(value.edges)} edges.{negative}"
    )


def edges_drawn(value: ConceptGraph) -> str:
    """Say how much of the relevance that leaves a concept the drawn edges carry."""
    carried = sorted(node.carried for node in value.nodes if not math.isnan(node.carried))
    if not carried:
        return "No edges are drawn."
    low, middle, high = carried[0], float(np.median(carried)), carried[-1]
    return (
        f"Only the strongest edges of each concept are drawn. They carry {percent(middle)} of the absolute relevance "
        f"that leaves it (median; {percent(low)} to {percent(high)})."
    )
