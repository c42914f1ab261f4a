"""Numbers, colours and sentences of a page are those of its explanation, and say what is so."""

import dataclasses
import json
import re

import numpy as np
import pytest

import example_explanations as examples
from crp.explanations import ClassScore
from crp.graphs.concept_graph import ConceptGraph, GraphEdge, GraphNode
from crp.visualization import colours as palette
from crp.visualization import encoding as images
from crp.visualization import graph_layout, wording
from crp.visualization.map_cells import outweighed, winner_shares
from crp.visualization.page.explanation_page import render
from page_source import Page, opened


def test_a_concept_has_both_its_numbers_with_their_names(explanation, page):
    text = " ".join("".join(page.text).split())
    in_graph = 0
    for card in page.all("article"):
        layer = explanation.layers[int(card["data-layer"])]
        part = next(part for part in layer.ranked if part.concept == int(card["data-concept"]))
        assert card["data-shares"] == wording.both_shares(explanation, part)
        node = explanation.graph.node(layer.layer, part.concept)
        if node is not None:
            in_graph += 1
            assert " ".join(f"of the layer; {wording.share_of_all(node.share)} of the prediction".split()) in text
    assert in_graph == 6
    assert text.count(wording.LAYER_SHARE_MEANS) == 1
    assert text.count(wording.PREDICTION_SHARE_MEANS) == 2  # at the graph, and how to read the page
    assert "whole prediction" not in text


def test_heatmaps_of_a_layer_share_one_scale(explanation, page):
    """On cards and nodes: the opacity that a heatmap has, drawn up to its own limit, is its place on that scale."""
    text = "".join(page.text)
    fades = [float(re.match(r"--fade:([\d.]+)", heatmap["style"])[1]) for heatmap in page.all("i", role="img")]
    parts = [part for layer in explanation.layers for part in layer.ranked]
    limits = {}
    for layer in explanation.layers:
        nodes = [node.heatmap for node in explanation.graph.nodes if node.layer == layer.layer]
        limits[layer.layer] = images.shared_limit([*(part.heatmap for part in layer.ranked), *nodes])
        assert f"Heatmaps of this layer share one colour scale: colours are full at ±{limits[layer.layer]:.3g}." in text
    expected = [(images.colour_limit(part.heatmap) / limits[part.layer]) ** 0.5 for part in parts]
    assert fades == pytest.approx(expected, abs=1e-4)
    assert min(fades) < 0.2
    small = [heatmap["style"] for heatmap in page.all("i") if re.fullmatch(r"h\d+", heatmap.get("class", ""))]
    place = graph_layout.places(explanation.graph)
    nodes = sorted(explanation.graph.nodes, key=lambda node: place[node.key][::-1])  # in reading order
    limits["(output)"] = images.colour_limit(nodes[0].heatmap)
    expected = [(images.colour_limit(node.heatmap) / limits[node.layer]) ** 0.5 for node in nodes]
    assert [float(re.match(r"--fade:([\d.]+)", style)[1]) for style in small] == pytest.approx(expected, abs=1e-4)


def test_a_concept_has_one_colour_wherever_it_is_shown(explanation):
    several = examples.beside(explanation, patches=2)
    source = opened(render(several))
    colours = palette.concept_colours(several)
    names = list(colours)
    found = []
    # cards, nodes, map, legend: what names a concept, and the first colour behind it
    for opening in re.finditer(r'<(?:article |a |g class=|li )[^>]*?data-concept="(\d+)"[^>]*>', source):
        tag, concept = opening.group(0), int(opening.group(1))
        colour = re.compile(r'(?:background:|fill=")(#[0-9a-f]{6})').search(source, opening.end())
        if 'data-layer-name="(output)"' in tag or not colour:
            continue
        named = re.search(r'data-layer-name="(\w+)"', tag)
        place = re.findall(r'data-layer="(\d)"', source[: opening.end()])[-1]
        layer = named.group(1) if named else names[int(place)]
        found.append((layer, concept, colour.group(1)))
    assert len(found) > 100
    assert {(layer, concept): colour for layer, concept, colour in found if colours[layer][concept] != colour} == {}
    for view in json.loads(Page(source).scripts["atlas-cells"]):
        assert [{int(i): c for i, c in layer["colours"].items()} for layer in view] == list(colours.values())


def test_the_map_says_what_its_winners_hold(explanation, page):
    layer = explanation.layers[0]
    shares = winner_shares(layer.concept_map)[layer.concept_map.concept >= 0]
    text = " ".join("".join(page.text).split())
    low, high = (wording.percent(value).replace(wording.SPACE, " ") for value in (shares.min(), shares.max()))
    assert f"It holds {low} to {high} of the absolute relevance in its cell" in text
    cells = int(outweighed(layer.concept_map).sum())
    assert f"Hatched: {cells} of 49 cells in which concepts against outweigh those for" in text
    opacities = {float(cell["fill-opacity"]) for cell in page.all("path") if "fill-opacity" in cell}
    everywhere = [winner_shares(one.concept_map)[one.concept_map.concept >= 0] for one in explanation.layers]
    expected = {round(palette.cell_opacity(share), 2) for share in np.concatenate(everywhere)}
    assert sorted(opacities) == sorted(expected)


def graph_of(edges, *, started=4.0, carried=0.8):
    """A class made of concepts 1 and 2 of a layer, by the edges given as {concept: relevance}."""
    nodes = [GraphNode("(output)", 0, relevance=started, share=1.0, rest=started, carried=carried, name="zebra")]
    lines = []
    for concept, relevance in edges.items():
        share = relevance / started if started else float("nan")
        nodes.append(GraphNode("conv", concept, relevance=relevance, share=share, rest=0.0))
        part = 1.0 if relevance else float("nan")
        lines.append(GraphEdge(("(output)", 0), ("conv", concept), relevance, share, part))
    return ConceptGraph(("(output)", "conv"), nodes, lines, started=started, coverage=0.9, breadth=2)


def test_the_drawn_part_of_the_graph_is_what_its_edges_carry():
    """Concepts receive 2.0, 1.2 and 0.8 of the class: the two drawn carry 80 %, whatever the graph aimed at."""
    value = dataclasses.replace(examples.explanation(layers=("conv",), patches=0), graph=graph_of({1: 2.0, 2: 1.2}))
    source = render(value)
    page = Page(source)
    text = " ".join("".join(page.text).split())
    assert "They carry 80.0 % of the absolute relevance that leaves it (median; 80.0 % to 80.0 %)." in text
    assert "90 %" not in text.replace("The model sees zebra (90 %)", "").replace("zebra (explained here) 90 %", "")
    drawn = [edge for edge in page.all("path") if "data-upper" in edge]
    ends = [(edge["data-upper"], edge["data-lower"]) for edge in drawn]
    assert ends == [("(output)/0", "conv/2"), ("(output)/0", "conv/1")]
    shares = [float(share) for share in re.findall(r"→ conv \d: \+([\d.]+)\s% of the prediction", source)]
    assert sum(shares) == pytest.approx(80.0)
    assert "Some shares exceed 100 %" not in text
    beyond = dataclasses.replace(value, graph=graph_of({1: 9.0, 2: -5.0}))
    assert "Some shares exceed 100 %: concepts for and against cancel out." in render(beyond)


@pytest.mark.parametrize(("edges", "started"), [({1: 0.0, 2: 1.0}, 4.0), ({1: 1.0, 2: -1.0}, 0.0)])
def test_undefined_shares_are_not_written_as_numbers(edges, started):
    graph = graph_of(edges, started=started)
    text = "".join(Page(render(dataclasses.replace(examples.explanation(layers=(), patches=0), graph=graph))).text)
    assert "nan" not in text
    assert ("no share of the prediction" in text) == (started == 0)


def test_numbers_out_of_range_become_a_warning():
    value = examples.explanation(layers=("conv",), patches=0)
    layer = dataclasses.replace(value.layers[0], coverage=-2.09)
    page = Page(render(dataclasses.replace(value, layers=(layer,), absorbed=2.76)))
    text = " ".join("".join(page.text).split())
    assert len(page.all("p", **{"class": "coverage warning"})) == 1
    assert len(page.all("p", **{"class": "absorbed warning"})) == 1
    assert "Relevance is not conserved here: −2.1 times what started at the output arrives at this layer" in text
    assert "at the input it adds up to −1.8 times what started at the output" in text
    assert "209" not in text
    assert "276" not in text
    fine = Page(render(value))
    assert not fine.all("p", **{"class": "coverage warning"})
    assert not fine.all("p", **{"class": "absorbed warning"})


def test_a_layer_without_relevance_does_not_add_up_to_anything():
    value = examples.explanation(layers=("conv",), patches=0)
    layer = dataclasses.replace(value.layers[0], supporting=(), opposing=(), rest=0.0, coverage=0.0)
    text = " ".join("".join(Page(render(dataclasses.replace(value, layers=(layer,), graph=None))).text).split())
    assert "No relevance arrives at this layer." in text
    assert "= 100 %" not in text


def one_output(value):
    """The explanation as that of a regression with one negative output."""
    score = ClassScore(0, "output", -0.1158, None)
    return dataclasses.replace(value, classes=(score,), target=score)


def test_the_only_output_is_a_value_and_no_class(explanation):
    page = Page(render(one_output(explanation)))
    text = " ".join("".join(page.text).split())
    assert "The model sees this input as −0.116" in text
    assert "The concepts of the network that raise or lower the output, where" in text
    assert "What is explained is negative (−0.116)" in text
    assert "class 0" not in text
    assert "over 99" not in text
    assert "Used most by" not in text
    assert text.count("Mean over mined samples") == 19  # on cards, and how to read the page
    assert not page.all("span", **{"class": "track"})
    (caption,) = [words for words in page.text if words == "Output of the model"]
    rest = text[text.index(caption) : text.index("Heatmap colours")]
    assert "%" not in rest
