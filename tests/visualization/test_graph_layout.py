"""The attribution graph drawn: places, artists, texts, Graphviz's language."""

import dataclasses
import re

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.image import AxesImage
from matplotlib.patches import PathPatch

import example_explanations as examples
from crp.errors import InputError
from crp.graphs.concept_graph import ConceptGraph, GraphEdge, GraphNode
from crp.visualization import graph_wording
from crp.visualization.atlases import Atlas
from crp.visualization.figures import artists
from crp.visualization.figures.overview import atlas_figure
from crp.visualization.figures.paper import plot_graph
from crp.visualization.graph_layout import WIDEST, dot, edge_width, places


def node(layer, concept, relevance, rest, **changes):
    return GraphNode(layer, concept, relevance=relevance, share=relevance / 4, rest=rest, **changes)


def edge(upper, lower, relevance, part):
    return GraphEdge(upper, lower, relevance=relevance, share=relevance / 4, part=part)


def graph_axes(graph, **options):
    return plot_graph(graph, **options).child_axes[0]


@pytest.fixture(scope="module")
def graph():
    """A class of two concepts for and one against, and two below, one of them shared."""
    return ConceptGraph(
        layers=("(output)", "top", "low"),
        nodes=(
            node("(output)", 3, 4.0, 4.0, passed=4.5, carried=0.9, name="zebra"),
            node("top", 0, 2.0, 0.0, carried=1.0),
            node("top", 1, -1.0, 0.0, carried=0.5),
            node("top", 2, 3.0, 0.0, carried=1.0),
            node("low", 7, 2.5, 0.5),
            node("low", 8, 2.0, 0.5),
        ),
        edges=(
            edge(("(output)", 3), ("top", 0), 2.0, 1.0),
            edge(("(output)", 3), ("top", 1), -1.0, 1.0),
            edge(("(output)", 3), ("top", 2), 3.0, 1.0),
            edge(("top", 2), ("low", 7), 3.0, 1.2),
            edge(("top", 1), ("low", 7), -1.0, -0.4),
            edge(("top", 0), ("low", 8), 1.5, 0.75),
        ),
        started=4.0,
        coverage=0.9,
        breadth=3,
    )


def test_rows_are_layers_and_concepts_stand_below_their_parents(graph):
    place = places(graph)
    assert {key: row for key, (_, row) in place.items()} == {
        ("(output)", 3): 0, ("top", 0): 1, ("top", 1): 1, ("top", 2): 1, ("low", 7): 2, ("low", 8): 2,
    }  # fmt: skip
    # of one parent: the strongest first
    assert [place["top", i][0] for i in (2, 0, 1)] == pytest.approx([1 / 6, 3 / 6, 5 / 6])
    # 7 is pulled to (3 * 1/6 + 1 * 5/6) / 4 = 1/3, 8 to 1/2
    assert [place["low", i][0] for i in (7, 8)] == [0.25, 0.75]


def test_a_layer_without_concepts_takes_no_row(graph):
    gap = dataclasses.replace(graph, layers=("(output)", "top", "between", "low"))
    assert places(gap) == places(graph)


def test_edges_are_as_wide_as_they_are_strong(graph):
    assert edge_width(graph, 3.0) == edge_width(graph, -3.0) == WIDEST
    assert edge_width(graph, 1.5) == WIDEST / 2
    assert edge_width(graph, 0.001) == 1.0


def test_the_figure_draws_every_node_and_edge(graph):
    axes = graph_axes(graph)
    drawn = {patch.get_label(): patch for patch in axes.patches if isinstance(patch, PathPatch)}
    assert len(drawn) == 6
    against = drawn["top 1 → low 7"]
    assert (against.get_linestyle(), to_hex(against.get_edgecolor())) == ("--", artists.AGAINST)
    supporting = drawn["zebra → top 2"]
    assert (supporting.get_linestyle(), to_hex(supporting.get_edgecolor())) == ("-", artists.FOR)
    assert supporting.get_linewidth() > drawn["zebra → top 0"].get_linewidth() > against.get_linewidth()
    texts = [text.get_text().replace("\N{NO-BREAK SPACE}", " ") for text in axes.texts]
    assert {"zebra", "+100.0 %", "0", "1", "−25.0 %", "2", "+75.0 %", "prediction", "top", "low"} <= set(texts)
    assert not any(text.get_parse_math() for text in axes.texts)


def test_nodes_show_patch_and_heatmap():
    graph = examples.explanation(layers=("conv",)).graph
    axes = graph_axes(graph, width=3.5)
    assert len([image for image in axes.get_children() if isinstance(image, AxesImage)]) == 1 + 2 * 3
    assert min(text.get_fontsize() for text in axes.texts) >= 5


def test_the_atlas_ends_with_the_graph():
    value = examples.explanation(layers=("conv",), patches=1)
    by_label = {axes.get_label(): axes for axes in atlas_figure(value).axes}
    assert len(by_label["graph"].texts) == 2 * len(value.graph.nodes) + 2
    without = atlas_figure(dataclasses.replace(value, graph=None))
    assert "graph" not in {axes.get_label() for axes in without.axes}


def test_hostile_names_are_drawn_as_text(graph):
    hostile = dataclasses.replace(graph.nodes[0], name="$x_{" + examples.HOSTILE)
    axes = graph_axes(dataclasses.replace(graph, nodes=(hostile, *graph.nodes[1:])))
    axes.figure.canvas.draw()


def test_dot_holds_nodes_ranks_and_edges(graph):
    text = dot(graph).replace("\N{NO-BREAK SPACE}", " ")
    assert '"(output)/3" [label="zebra\\n+100.0 %"];' in text
    assert '{ rank=same; "top/0"; "top/1"; "top/2"; }' in text
    assert '"top/1" -> "low/7" [label="−25.0 %", penwidth=2.33, color="#1d5a9c", style=dashed];' in text
    assert len(re.findall("->", text)) == 6
    assert text.count("{") == text.count("}")


def test_dot_names_cannot_end_their_string(graph):
    name = 'a"]; b [label="\\'
    text = dot(dataclasses.replace(graph, nodes=(dataclasses.replace(graph.nodes[0], name=name), *graph.nodes[1:])))
    # outside of strings nothing changes
    outside = re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)
    assert outside == re.sub(r'"(?:[^"\\]|\\.)*"', '""', dot(graph))
    assert r'[label="a\"]; b [label=\"\\\n' in text


def test_an_atlas_saves_its_graph(tmp_path, graph):
    value = dataclasses.replace(examples.explanation(layers=()), graph=graph)
    assert Atlas(value).save(tmp_path / "graph.dot").read_text("utf-8") == dot(graph)
    with pytest.raises(InputError, match=r"^this atlas has no graph to save as \.dot"):
        Atlas(dataclasses.replace(value, graph=None)).save(tmp_path / "none.dot")


def test_a_sentence_accounts_for_a_node(graph):
    sentence = graph_wording.node_sentence(graph, graph.node("low", 7)).replace("\N{NO-BREAK SPACE}", " ")
    assert sentence == (
        "low 7: +62.5 % of the prediction. "
        "Of that, 120.0 % from top 2, −40.0 % from top 1, 20.0 % along edges not drawn."
    )
    root = graph_wording.node_sentence(graph, graph.root).replace("\N{NO-BREAK SPACE}", " ")
    assert root == (
        "zebra: +100.0 % of the prediction. It is made of top 0 +50.0 %, top 1 −25.0 %, top 2 +75.0 %; "
        "the drawn edges carry 90.0 % of what leaves it."
    )


def test_what_nearly_cancels_is_not_divided_by_the_little_that_is_left(graph):
    """Of 0.06 % of the prediction, 1200 times as much comes from one concept."""
    node = graph.node("low", 7)
    left = dataclasses.replace(node, relevance=node.relevance / 1000, share=node.share / 1000)
    left = dataclasses.replace(left, rest=node.rest + left.relevance - node.relevance)
    edges = [
        dataclasses.replace(edge, part=edge.relevance / left.relevance) if edge.lower == node.key else edge
        for edge in graph.edges
    ]
    nodes = [left if one is node else one for one in graph.nodes]
    graph = dataclasses.replace(graph, nodes=tuple(nodes), edges=tuple(edges))
    assert graph_wording.node_sentence(graph, left).replace("\N{NO-BREAK SPACE}", " ") == (
        "low 7: +0.1 % of the prediction. It is what remains of parts that nearly cancel out, as shares of the "
        "prediction: +75.0 % from top 2, −25.0 % from top 1, −49.9 % along edges not drawn."
    )


REFUSED = {
    "twice": (lambda g: {"nodes": (*g.nodes, g.nodes[1])}, r"^the graph holds \('top', 0\) twice\.$"),
    "nowhere": (lambda g: {"nodes": g.nodes[:-1]}, r"ends at a concept outside the graph\.$"),
    "up": (lambda g: {"layers": ("(output)", "low", "top")}, r"does not lead down\.$"),
    "sum": (
        lambda g: {"nodes": (*g.nodes[:-1], dataclasses.replace(g.nodes[-1], rest=0.0))},
        r"^\('low', 8\) holds 2, its edges and rest bring 1\.5\.$",
    ),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_a_graph_that_does_not_add_up_is_refused(graph, change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(graph, **change(graph))


def test_a_graph_without_samples_in_common_has_no_heatmaps(graph):
    axes = graph_axes(dataclasses.replace(graph, samples=12))
    assert not axes.images
    assert graph_wording.graph(dataclasses.replace(graph, samples=12)) == (
        "Attribution graph of zebra, mean of 12 samples: 5 concepts of top, low, 6 edges."
    )
    assert np.isnan(graph.node("low", 7).carried)
