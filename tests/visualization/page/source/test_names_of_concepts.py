"""Concepts are shown by the name that their kind gives them, and what belongs to no concept is a node of its own."""

import dataclasses
import json

import pytest

import example_explanations as examples
from crp.errors import InputError
from crp.explanations import from_json, to_json
from crp.graphs.concept_graph import NO_CONCEPT, REST, ConceptGraph, GraphEdge
from crp.visualization import Atlas
from crp.visualization.graph_layout import dot
from crp.visualization.page.explanation_page import render
from page_source import Page

LONG = "a name that is too long to fit into any heading of a card, " * 3


@pytest.fixture(scope="module")
def named():
    """A layer whose strongest concepts have names, one of them too long and one that looks like HTML."""
    value = examples.explanation(patches=1, layers=("conv",))
    layer = value.layers[0]
    first, second, third = (part.concept for part in layer.ranked[:3])
    names = [""] * layer.size
    names[first], names[second], names[third] = "<b>tag</b>", LONG.strip(), "stripes"
    nodes = [
        dataclasses.replace(node, name="" if node.is_output else names[node.concept]) if node.layer == "conv" else node
        for node in value.graph.nodes
    ]
    rest = dataclasses.replace(nodes[1], concept=REST, relevance=0.3, share=0.15, rest=0.0, name=NO_CONCEPT, patch=None)
    edge = GraphEdge(value.graph.root.key, rest.key, 0.3, 0.15, 1.0)
    graph = dataclasses.replace(value.graph, nodes=(*nodes, rest), edges=(*value.graph.edges, edge))
    layer = dataclasses.replace(layer, names=tuple(names), outside=0.3)
    return dataclasses.replace(value, layers=(layer,), graph=graph), (first, second, third)


def test_cards_map_and_graph_show_names_escaped_and_shortened(named):
    value, (first, second, third) = named
    source = render(value)
    page = Page(source)
    assert "<b>tag</b>" not in source
    cards = {card["data-concept"]: card["aria-label"] for card in page.all("article")}
    assert cards[str(first)] == "<b>tag</b>"
    assert cards[str(second)] == f"{LONG[:39]}…"
    assert cards[str(third)] == "stripes"
    titles = {button["title"] for button in page.all("button", **{"class": "pick"})}
    assert {f"concept {second} of conv: {LONG.strip()}", f"concept {third} of conv: stripes"} <= titles
    nodes = {node["data-concept"]: node for node in page.all("a") if node.get("data-layer-name") == "conv"}
    assert nodes[str(REST)]["class"].split()[-1] == "outside"
    assert nodes[str(REST)]["data-text"].startswith("conv no concept: +15.0")
    assert nodes[str(third)]["data-text"].startswith(f"conv stripes ({third}): ")


def test_json_and_console_hold_names(named):
    value, (first, *_) = named
    found = to_json(value)
    assert from_json(json.loads(json.dumps(found))).layers[0].names == value.layers[0].names
    parts = {part["concept"]: part["name"] for side in ("supporting", "opposing") for part in found["layers"][0][side]}
    assert parts[first] == "<b>tag</b>"
    rest = found["graph"]["nodes"][-1]
    assert (rest["concept"], rest["name"]) == (-1, "no concept")
    assert isinstance(from_json(found).graph, ConceptGraph)
    assert "stripes" in repr(Atlas(value))
    assert 'label="conv no concept\\n+15.0' in dot(value.graph)


def test_the_figure_shows_names(named):
    value, (first, second, third) = named
    texts = [text.get_text() for axes in Atlas(value).figure().axes for text in axes.texts]
    number = f" ({second})"
    short = f"{LONG[: 17 - len(number)].rstrip()}…{number}"
    assert {f"stripes ({third})", f"<b>tag</b> ({first})", "no concept", short} <= set(texts)


def test_as_many_names_as_concepts():
    layer = examples.explanation(patches=0, layers=("conv",)).layers[0]
    with pytest.raises(InputError, match=rf"^layer 'conv' has {layer.size} concepts and 1 names\.$"):
        dataclasses.replace(layer, names=("one",))
