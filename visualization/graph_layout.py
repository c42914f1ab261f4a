"""An attribution graph drawn: where its nodes stand, as matplotlib figure, as Graphviz DOT.

Upper layers stand above lower ones, one row a layer. In a row, concepts stand below those they get their relevance from
(the mean place of their parents, weighted by edge), which keeps crossings few.
"""

from __future__ import annotations

from crp.graphs.concept_graph import ConceptGraph, Key
from crp.visualization import graph_wording, wording

# Edges are drawn as wide as their share, up to this many points for the strongest one.
WIDEST = 14.0


def places(graph: ConceptGraph) -> dict[Key, tuple[float, int]]:
    """Place each node: (x in 0..1, row), the root in row 0. Rows without concepts are left out."""
    place: dict[Key, tuple[float, int]] = {}
    rows = [[node for node in graph.nodes if node.layer == layer] for layer in graph.layers]
    for row, nodes in enumerate([nodes for nodes in rows if nodes]):
        wanted = {}
        for node in nodes:
            edges = graph.into(node)
            weight = sum(abs(edge.relevance) for edge in edges)
            pull = sum(abs(edge.relevance) * place[edge.upper][0] for edge in edges)
            # Siblings of one parent: the strongest first.
            wanted[node.key] = (round(pull / weight, 6) if weight else 0.5, -abs(node.relevance), node.concept)
        for index, key in enumerate(sorted(wanted, key=wanted.__getitem__)):
            place[key] = ((index + 0.5) / len(nodes), row)
    return place


def edge_width(graph: ConceptGraph, relevance: float) -> float:
    """Return the width of an edge in points, 1 to `WIDEST`."""
    strongest = max(abs(edge.relevance) for edge in graph.edges)
    return max(1.0, WIDEST * abs(relevance) / strongest)


def dot(graph: ConceptGraph) -> str:
    """Write the graph in Graphviz's language: `dot -Tsvg graph.dot > graph.svg`.

    Labels say the signed share of the whole prediction; edges against are dashed.
    """
    lines = ["digraph concepts {", '  node [shape=box, style=rounded, fontname="sans-serif"];']
    lines.append('  edge [fontname="sans-serif", fontsize=10];')
    for layer in graph.layers:
        nodes = [node for node in graph.nodes if node.layer == layer]
        names = [_quoted(_id(node.key)) for node in nodes]
        for node, name in zip(nodes, names, strict=True):
            label = f"{graph_wording.node_name(node)}\n{wording.share_of_all(node.share)}"
            lines.append(f"  {name} [label={_quoted(label)}];")
        if nodes:
            lines.append(f"  {{ rank=same; {'; '.join(names)}; }}")
    for edge in graph.edges:
        style = ', color="#1d5a9c", style=dashed' if edge.relevance < 0 else ', color="#b3470c"'
        label = _quoted(wording.share_of_all(edge.share))
        width = edge_width(graph, edge.relevance) / 2
        ends = f"{_quoted(_id(edge.upper))} -> {_quoted(_id(edge.lower))}"
        lines.append(f"  {ends} [label={label}, penwidth={width:.2f}{style}];")
    return "\n".join([*lines, "}", ""])


def _id(key: Key) -> str:
    return f"{key[0]}/{key[1]}"


def _quoted(text: str) -> str:
    # DOT reads only \" inside a string as a character of its own; \n, \l and the like are breaks of a line.
    text = "\n".join(wording.printable(line) for line in text.split("\n"))
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
