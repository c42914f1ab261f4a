"""The attribution graph as the page shows it: places, widths and texts. Nodes are elements, edges an SVG behind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from crp.explanations import Explanation
from crp.graphs.concept_graph import ConceptGraph, GraphEdge, GraphNode, Key
from crp.visualization import colours as palette
from crp.visualization import concept_names, graph_wording, wording
from crp.visualization.graph_layout import edge_width, places
from crp.visualization.page.context import Context
from crp.visualization.page.heatmap_sheets import HeatmapSheet
from crp.visualization.page.heatmaps import heatmap_view

# Nodes are laid out in a drawing of this width; the page stretches it.
WIDTH, ROW = 1000.0, 172.0
# Edges leave and reach a node this far above and below its middle; the root is larger.
HALF, ROOT_HALF = 44.0, 52.0
NODE_SIDE = 112
NAME_LENGTH = 18


def graph_view(
    explanation: Explanation,
    cards: Mapping[Key, str],
    limits: Mapping[str, float],
    sheets: Mapping[str, HeatmapSheet],
    context: Context,
) -> dict[str, Any]:
    """Lay out and describe the graph of an explanation that has one.

    Parameters
    ----------
    explanation
        The explanation.
    cards
        Ids of the cards of concepts that have one.
    limits
        By layer, where the scale of its heatmaps ends.
    sheets
        By layer, where the heatmaps of its cards are drawn.
    context
        Of the page.
    """
    graph = explanation.graph
    place = places(graph)
    rows = 1 + max(row for _, row in place.values())
    widest = max(sum(row == other for _, other in place.values()) for row in range(rows))
    layers = list(dict.fromkeys(node.layer for node in graph.nodes))
    nodes, others = [], context.heatmap_sheet(NODE_SIDE)
    # in the order in which they are read: row by row, from left to right
    for node in sorted(graph.nodes, key=lambda node: place[node.key][::-1]):
        x, row = place[node.key]
        drawn = _node(graph, node, cards, context)
        if node.heatmap is not None:
            sheet = sheets[node.layer] if node.key in cards else others
            drawn["heatmap"] = heatmap_view(node.heatmap, limits[node.layer], sheet, context)
        nodes.append(drawn | {"left": f"{x:.4%}", "top": f"{(row + 0.5) / rows:.4%}"})
    return {
        "height": rows * ROW,
        "width": WIDTH,
        "columns": widest,
        "rows": [
            {"name": graph_wording.root_row(graph) if index == 0 else layer, "top": f"{(index + 0.5) / rows:.4%}"}
            for index, layer in enumerate(layers)
        ],
        "nodes": nodes,
        "edges": [_edge(graph, edge, place) for edge in sorted(graph.edges, key=lambda edge: abs(edge.relevance))],
        "table": [_account(graph, node) for node in graph.nodes if graph.into(node) and node.relevance],
        "drawn": graph_wording.edges_drawn(graph),
        "note": _note(graph),
        "text": graph_wording.graph(graph),
    }


def _note(graph: ConceptGraph) -> str:
    """Say why shares exceed 100 %, where some do by more than rounding."""
    if not any(abs(node.share) > 1.05 for node in graph.nodes):
        return ""
    return " Some shares exceed 100 %: concepts for and against cancel out."


def _node(graph: ConceptGraph, node: GraphNode, cards: Mapping[Key, str], context: Context) -> dict[str, Any]:
    sheet = context.glimpses.get(node.layer)
    of_concept = not (node.is_output or node.is_rest)
    cell = "" if sheet is None or not of_concept else sheet["glimpses"].style(node.concept)
    return {
        "layer": node.layer,
        "concept": node.concept,
        "root": node is graph.root,
        "rest": node.is_rest,
        # A concept's name gets lines of its own, because nodes may be narrow.
        "named": bool(node.name) and not node.is_output,
        # numbers of a position stay on one line
        "of": f"{node.layer}/{node.concept}" if of_concept else "",
        "length": NAME_LENGTH,
        "name": graph_wording.node_label(node, NAME_LENGTH).replace(", ", f",{wording.SPACE}"),
        "full": concept_names.full(*node.key, node.name) if of_concept else graph_wording.node_name(node),
        "share": wording.share_of_all(node.share),
        "side": "supports" if node.relevance > 0 else "opposes",
        "text": graph_wording.node_sentence(graph, node),
        "card": cards.get(node.key, ""),
        "colour": "" if not of_concept else context.colours.get(node.layer, {}).get(node.concept, palette.OTHER),
        "heatmap": None,
        "glimpse": cell and f"background-image:var(--s{sheet['index']});{cell}",
    }


def _edge(graph: ConceptGraph, edge: GraphEdge, place: Mapping[Key, tuple[float, int]]) -> dict[str, Any]:
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
        "text": f"{graph_wording.edge_name(graph, edge)}: "
        f"{wording.share_of_all(edge.share)} of the prediction",
    }


def _account(graph: ConceptGraph, node: GraphNode) -> dict[str, Any]:
    # Incoming edges and rest, as rows of a table that add up to what the node holds.
    entries = [
        {
            "from": graph_wording.node_name(graph.node(*edge.upper)),
            "share": wording.share_of_all(edge.share),
            "part": wording.percent(edge.part),
        }
        for edge in graph.into(node)
    ]
    entries.append(
        {
            "from": graph_wording.not_drawn(graph),
            "share": wording.share_of_all(node.rest / graph.started if graph.started else math.nan),
            "part": wording.percent(node.rest / node.relevance),
        }
    )
    return {"name": graph_wording.node_name(node), "share": wording.share_of_all(node.share), "entries": entries}
