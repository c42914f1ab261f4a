"""The attribution graph as the page shows it: places, widths and texts. Nodes are elements, edges an SVG behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from crp.graphs.concept_graph import ConceptGraph, GraphNode, Key
from crp.visualization import encoding as images
from crp.visualization import wording
from crp.visualization.graph_layout import edge_width, places

# Nodes are laid out in a drawing of this width; the page stretches it.
WIDTH, ROW = 1000.0, 172.0
# Edges leave and reach a node this far above and below its middle; the root is larger.
HALF, ROOT_HALF = 44.0, 52.0
NODE_SIDE = 112


def graph_view(
    graph: ConceptGraph, picture: np.ndarray, cards: Mapping[Key, str], sprites: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what the template draws; `cards`: ids of the concepts' cards, `sprites`: where their patches are."""
    place = places(graph)
    rows = 1 + max(row for _, row in place.values())
    widest = max(sum(row == other for _, other in place.values()) for row in range(rows))
    layers = list(dict.fromkeys(node.layer for node in graph.nodes))
    return {
        "height": rows * ROW,
        "width": WIDTH,
        "columns": widest,
        "rows": [
            {"name": "prediction" if index == 0 and graph.root.name else layer, "top": f"{(index + 0.5) / rows:.4%}"}
            for index, layer in enumerate(layers)
        ],
        "nodes": [_node(graph, node, place[node.key], rows, picture, cards, sprites) for node in graph.nodes],
        "edges": [_edge(graph, edge, place) for edge in sorted(graph.edges, key=lambda edge: abs(edge.relevance))],
        "table": [_account(graph, node) for node in graph.nodes if graph.into(node)],
        "coverage": wording.percent(graph.coverage).replace(".0", ""),
        "text": wording.graph(graph),
    }


def _node(
    graph: ConceptGraph,
    node: GraphNode,
    place: tuple[float, int],
    rows: int,
    picture: np.ndarray,
    cards: Mapping[Key, str],
    sprites: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    x, row = place
    sprite = sprites.get(node.layer, {"place": {}})
    found = {
        "layer": node.layer,
        "concept": node.concept,
        "root": node is graph.root,
        "name": node.name or str(node.concept),
        "share": wording.share_of_all(node.share),
        "side": "supports" if node.relevance > 0 else "opposes",
        "left": f"{x:.4%}",
        "top": f"{(row + 0.5) / rows:.4%}",
        "text": wording.node_sentence(graph, node),
        "card": cards.get(node.key, ""),
        "heatmap": "",
        "sprite": None,
    }
    if node.heatmap is not None:
        found["heatmap"] = images.overlay_uri(picture, node.heatmap, side=NODE_SIDE, quality=66)
        found["where"] = wording.where(node.heatmap)
    if node.concept in sprite["place"] and not node.name:
        found["sprite"] = {"name": sprite["index"], "position": _position(sprite, node.concept)}
    return found


def _position(sprite: Mapping[str, Any], concept: int) -> str:
    """Where a concept's patch lies in its layer's common picture, as CSS wants it."""
    down, across = divmod(sprite["place"][concept], sprite["columns"])
    return f"{across / (sprite['columns'] - 1):.4%} {down / max(1, sprite['rows'] - 1):.4%}"


def _edge(graph: ConceptGraph, edge: Any, place: Mapping[Key, tuple[float, int]]) -> dict[str, Any]:
    (x1, row1), (x2, row2) = place[edge.upper], place[edge.lower]
    x1, x2 = x1 * WIDTH, x2 * WIDTH
    y1 = (row1 + 0.5) * ROW + (ROOT_HALF if edge.upper == graph.root.key else HALF)
    y2 = (row2 + 0.5) * ROW - HALF
    strongest = max(abs(other.relevance) for other in graph.edges if other.upper[0] == edge.upper[0])
    bend = (y2 - y1) * 0.5
    return {
        "path": f"M{x1:.1f} {y1:.1f}C{x1:.1f} {y1 + bend:.1f} {x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2:.1f}",
        "width": f"{edge_width(graph, edge.relevance):.1f}",
        # Weak edges recede, so that a dense layer can be read.
        "weight": f"{0.2 + 0.5 * abs(edge.relevance) / strongest:.2f}",
        "side": "supports" if edge.relevance > 0 else "opposes",
        "upper": "/".join(map(str, edge.upper)),
        "lower": "/".join(map(str, edge.lower)),
        "text": f"{wording.node_name(graph.node(*edge.upper))} → {wording.node_name(graph.node(*edge.lower))}: "
        f"{wording.share_of_all(edge.share)} of the prediction",
    }


def _account(graph: ConceptGraph, node: GraphNode) -> dict[str, Any]:
    """One node's incoming edges and rest, as rows of a table that add up to what it holds."""
    started = graph.started
    entries = [
        {
            "from": wording.node_name(graph.node(*edge.upper)),
            "share": wording.share_of_all(edge.share),
            "part": wording.percent(edge.part),
        }
        for edge in graph.into(node)
    ]
    rest = node.rest / node.relevance
    entries.append(
        {
            "from": "concepts not drawn",
            "share": wording.share_of_all(node.rest / started),
            "part": wording.percent(rest),
        }
    )
    return {"name": wording.node_name(node), "share": wording.share_of_all(node.share), "entries": entries}
