import base64
import dataclasses
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import example_explanations as examples
from crp.explanations import ClassScore, numbers
from crp.graphs.concept_graph import ConceptGraph, GraphEdge, GraphNode
from crp.visualization import colours as palette
from crp.visualization import encoding as images
from crp.visualization import wording
from crp.visualization.map_cells import outweighed, winner_shares
from crp.visualization.page.explanation_page import render

VOID = {"img", "meta", "br", "rect", "input"}


class Page(HTMLParser):
    """Start tags with their attributes, and the text of everything but scripts and styles."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.text, self.scripts, self.open = [], [], {}, []
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append((tag, dict(attributes)))

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        tag, attributes = self.open[-1] if self.open else ("", {})
        if tag == "script":
            key = attributes.get("id", "")
            self.scripts[key] = self.scripts.get(key, "") + data
        elif tag != "style":
            self.text.append(data)

    def all(self, tag, **wanted):
        return [found for name, found in self.tags if name == tag and all(found.get(k) == v for k, v in wanted.items())]


@pytest.fixture(scope="module")
def explanation():
    return examples.explanation()


@pytest.fixture(scope="module")
def source(explanation):
    return render(explanation)


@pytest.fixture(scope="module")
def page(source):
    return Page(source)


def test_every_element_is_closed(page):
    assert page.open == []


def test_the_page_asks_for_nothing_outside_itself(source, page):
    plain = re.sub(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+|[A-Za-z0-9+/=]{60,}", "", source)
    # The names of two XML namespaces look like addresses; nobody goes there.
    assert not re.search(r"(?:https?:)?//[a-z]", re.sub(r"http://www\.w3\.org/(2000/svg|1999/xhtml)", "", plain))
    for name, attributes in page.tags:
        for key in ("src", "href", "action", "data", "srcset", "poster"):
            if key in attributes:
                assert attributes[key].startswith(("data:image/", "#")), (name, key)
    assert not page.all("link")
    assert "@import" not in source
    assert {address for address in re.findall(r"url\((.{10})", source) if not address.startswith("#hatch-")} == {
        "data:image",
    }
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_every_picture_says_what_is_seen(page):
    pictures = page.all("img")
    assert len(pictures) == 2 + 2 * 9 + 2 * 9 * 16 + 7
    assert [image for image in pictures if "alt" not in image] == []
    # Only the graph's small heatmaps are silent: their nodes say it in words.
    assert len([image for image in pictures if not image["alt"]]) == 7


def test_alternative_texts_name_place_verdict_and_class(explanation, page):
    part = explanation.layers[0].ranked[0]
    alt = f"Where concept {part.concept} {wording.side(part)} zebra: {wording.where(part.heatmap)}"
    assert alt in [image["alt"] for image in page.all("img", **{"class": "where"})]
    assert "most relevant for · relmax, 1: sample 0, zebra, score 0.5" in [image["alt"] for image in page.all("img")]


def test_embedded_numbers_are_those_of_the_json(explanation, page):
    assert json.loads(page.scripts["atlas-numbers"]) == numbers(explanation)


def test_cards_stand_by_absolute_share_with_the_numbers_of_the_json(explanation, page):
    for index, layer in enumerate(numbers(explanation)["layers"]):
        cards = [card for card in page.all("article") if card["data-layer"] == str(index)]
        shown = [
            (int(card["data-concept"]), float(card["data-share"]), float(card["data-relevance"])) for card in cards
        ]
        expected = [
            (part["concept"], part["share"], part["relevance"]) for part in layer["supporting"] + layer["opposing"]
        ]
        assert sorted(shown) == sorted(expected)
        assert [abs(share) for _, share, _ in shown] == sorted((abs(share) for _, share, _ in shown), reverse=True)
        assert float(page.all("section", id=f"panel-{index}")[0]["data-rest"]) == layer["rest"]


def test_sign_is_said_by_word_sign_and_class(explanation, page):
    text = " ".join(page.text)
    for layer in explanation.layers:
        for part in layer.ranked:
            card = next(
                c
                for c in page.all("article")
                if c["id"].endswith(f"-{part.concept}") and c["data-share"] == str(part.share)
            )
            assert card["class"] == f"card {'supports' if part.share > 0 else 'opposes'}"
            assert wording.signed_percent(part.share) in text
    assert {"supports", "opposes"} <= set(page.text)


def test_ledger_coverage_and_absorption_are_on_the_page(explanation, page):
    text = " ".join("".join(page.text).split())
    for layer in explanation.layers:
        ledger = wording.ledger(layer)
        line = (
            f"{ledger['for']} for + {ledger['against']} against + {ledger['rest']} in {wording.hidden(layer)} = 100 %"
        )
        assert " ".join(line.split()) in text
        assert " ".join(wording.coverage(layer).split()) in text
    assert " ".join(wording.absorbed(explanation).split()) in text


def test_the_concept_map_has_a_cell_for_every_cell_that_is_not_blank(explanation, page):
    cells = page.all("rect", **{"class": "cell"})
    assert len(cells) == sum(int((layer.concept_map.concept >= 0).sum()) for layer in explanation.layers)
    hatched = len(page.all("rect")) - len(cells)
    assert hatched == sum(int(outweighed(layer.concept_map).sum()) for layer in explanation.layers) > 0
    colours = {}
    for layer in range(2):
        for region in page.all("g", **{"class": "region-of"}):
            colours.setdefault((layer, region["data-concept"]), set()).add(region["data-card"])
    assert len(page.all("svg")) == 3  # two maps, one graph


def test_links_lead_to_elements_of_the_page(page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for link in page.all("a"):
        assert link["href"][1:] in ids
    for tab in page.all("button", role="tab"):
        assert tab["aria-controls"] in ids


def test_footer_holds_command_versions_and_fingerprints(page):
    text = "".join(page.text)
    for fact in ("crp atlas library.crp 'zebra.jpg' --out atlas.html", "2.13.0", "9f86d081884c7d65", "EpsilonPlusFlat"):
        assert fact in text


def test_hostile_names_stay_text():
    hostile = examples.HOSTILE
    value = examples.explanation(
        names=(hostile, hostile), image=hostile, layers=(hostile,), patches=1, supporting=1, opposing=1
    )
    page = Page(render(value))
    assert page.open == []
    assert len(page.all("script")) == 3
    assert json.loads(page.scripts["atlas-numbers"]) == numbers(value)
    for block in (page.scripts["atlas-numbers"], page.scripts["atlas-cells"]):
        assert not set(block) & set("<>&\u2028\u2029")
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert "".join(page.text).count("<script>alert(1)") >= 4


def test_hostile_provenance_stays_text():
    def page(open, close):
        provenance = {"settings": {open: f"{open}x{close}"}, close: open}
        return Page(render(dataclasses.replace(examples.explanation(layers=()), provenance=provenance)))

    hostile = page("<i>", "</i>")
    assert [name for name, _ in hostile.tags] == [name for name, _ in page("a", "b").tags]
    assert "<i>x</i>" in hostile.text


@pytest.mark.parametrize("shape", [(20, 48), (150, 90), (1, 5)])
def test_inputs_of_any_shape(shape):
    page = Page(render(examples.explanation(shape=shape, layers=("conv",), patches=1)))
    frames = [image for image in page.all("img") if "data-frame" in image]
    assert {(image["width"], image["height"]) for image in frames} == {(str(shape[1]), str(shape[0]))}


def test_a_layer_without_map_patches_or_rest():
    value = examples.explanation(layers=("fc",), patches=0, supporting=64, opposing=64)
    layer = dataclasses.replace(value.layers[0], concept_map=None, rest=0.0)
    page = Page(render(dataclasses.replace(value, layers=(layer,))))
    assert page.open == []
    assert len(page.all("svg")) == 1  # the graph's
    assert not page.all("button", **{"data-show": "map"})
    assert not page.all("div", **{"class": "strip"})
    assert len(page.all("article")) == len(layer.ranked)


def test_one_layer_needs_no_tabs():
    page = Page(render(examples.explanation(layers=("conv",), patches=0)))
    assert not page.all("div", role="tablist")
    assert not page.all("section", role="tabpanel")


def test_a_large_page_stays_small():
    value = examples.explanation(shape=(224, 224), layers=("a", "b", "c"), size=512, grid=(14, 14))
    assert len(render(value)) < 2_000_000  # 800,000 of it all 512 concepts in all 196 cells of three layers


def cells_of(page):
    """The tables that the script reads, decoded: by view and layer, float [rows, columns, C]."""
    tables = []
    for view in json.loads(page.scripts["atlas-cells"]):
        tables.append([])
        for layer in view:
            scale = np.frombuffer(base64.b64decode(layer["scale"]), "<f4")
            steps = np.frombuffer(base64.b64decode(layer["table"]), "<i2")
            tables[-1].append(steps.reshape(layer["rows"], layer["columns"], layer["size"]) * scale)
    return tables


def test_cells_are_those_of_the_explanation(explanation, page):
    """Each within half a step of its concept's scale: 1/65534 of the concept's strongest cell."""
    (tables,) = cells_of(page)
    for table, layer in zip(tables, explanation.layers, strict=True):
        exact = layer.concept_map.table
        assert (np.abs(table - exact) <= np.abs(exact).max((0, 1)) / 65534 * 1.01).all()


def test_views_stand_below_each_other_and_show_each_patch_once(explanation):
    several = examples.beside(explanation, patches=2)
    page = Page(render(several))
    assert page.open == []
    assert [section["id"] for section in page.all("section", **{"class": "view"})] == ["view-0", "view-1", "view-2"]
    text = " ".join("".join(page.text).split())
    assert "What speaks for horse" in text
    assert "Why zebra and not horse?" in text
    cards = page.all("article")
    assert len(cards) == sum(len(layer.ranked) for view in (several, *several.beside) for layer in view.layers)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    again = [link["href"] for link in page.all("a") if "-concept-" in link["href"] and link["href"][1:] in ids]
    strips = {(card["data-layer"], card["data-concept"]) for card in cards}
    assert len(page.all("div", **{"class": "strips"})) == len(strips)
    assert len(cards) - len(strips) == "".join(page.text).count("Its patches are on")
    assert again
    assert json.loads(page.scripts["atlas-numbers"])["beside"][1]["against"]["name"] == "horse"


def test_every_node_of_the_graph_says_what_it_holds(explanation, page):
    nodes = page.all("a", **{"data-layer-name": explanation.layers[0].layer})
    for node in nodes:
        value = explanation.graph.node(explanation.layers[0].layer, int(node["data-concept"]))
        assert node["data-text"] == wording.node_sentence(explanation.graph, value)
    assert len(page.all("a", **{"data-layer-name": "y"})) == 1
    assert len([edge for edge in page.all("path") if "data-upper" in edge]) == len(explanation.graph.edges)
    text = " ".join(page.text)
    for entry in explanation.graph.nodes[1:]:
        assert wording.node_name(entry) in text


def test_users_of_a_concept_are_named(page):
    assert len(page.all("dl", **{"class": "users"})) == 18
    assert page.text.count("fox") == 18


def test_one_common_picture_of_patches_a_layer(explanation, source):
    assert len(re.findall(r"--s\d+:url\(data:image/jpeg", source)) == 2
    for layer, content in zip(explanation.layers, json.loads(Page(source).scripts["atlas-cells"])[0], strict=True):
        known = {str(part.concept) for part in layer.ranked} | {str(concept) for concept in layer.glimpses}
        assert known <= set(content["sprite"]["place"])
        assert sorted(content["sprite"]["place"].values()) == list(range(len(content["sprite"]["place"])))


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
    fades = [float(image["style"].removeprefix("--fade:")) for image in page.all("img", **{"class": "where"})]
    parts = [part for layer in explanation.layers for part in layer.ranked]
    limits = {}
    for layer in explanation.layers:
        nodes = [node.heatmap for node in explanation.graph.nodes if node.layer == layer.layer]
        limits[layer.layer] = images.shared_limit([*(part.heatmap for part in layer.ranked), *nodes])
        assert f"Heatmaps of this layer share one colour scale: colours are full at ±{limits[layer.layer]:.3g}." in text
    expected = [(images.colour_limit(part.heatmap) / limits[part.layer]) ** 0.5 for part in parts]
    assert fades == pytest.approx(expected, abs=1e-4)
    assert min(fades) < 0.2
    small = [image for image in page.all("img") if not image["alt"]]
    nodes = explanation.graph.nodes
    limits["y"] = images.colour_limit(nodes[0].heatmap)
    expected = [(images.colour_limit(node.heatmap) / limits[node.layer]) ** 0.5 for node in nodes]
    assert [float(image["style"].removeprefix("--fade:")) for image in small] == pytest.approx(expected, abs=1e-4)


def test_a_concept_has_one_colour_wherever_it_is_shown(explanation):
    several = examples.beside(explanation, patches=2)
    source = render(several)
    colours = palette.concept_colours(several)
    names = list(colours)
    found = []
    # cards, nodes, map, legend: what names a concept, and the first colour behind it
    for opening in re.finditer(r'<(?:article|a|g|li) [^>]*?data-concept="(\d+)"[^>]*>', source):
        tag, concept = opening.group(0), int(opening.group(1))
        colour = re.compile(r'(?:background:|fill=")(#[0-9a-f]{6})').search(source, opening.end())
        if 'data-layer-name="y"' in tag or not colour:
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
    opacities = {float(cell["fill-opacity"]) for cell in page.all("rect", **{"class": "cell"})}
    everywhere = [winner_shares(one.concept_map)[one.concept_map.concept >= 0] for one in explanation.layers]
    expected = {round(palette.cell_opacity(share), 2) for share in np.concatenate(everywhere)}
    assert sorted(opacities) == sorted(expected)


def graph_of(edges, *, started=4.0, carried=0.8):
    """A class made of concepts 1 and 2 of a layer, by the edges given as {concept: relevance}."""
    nodes = [GraphNode("y", 0, relevance=started, share=1.0, rest=started, carried=carried, name="zebra")]
    lines = []
    for concept, relevance in edges.items():
        share = relevance / started if started else float("nan")
        nodes.append(GraphNode("conv", concept, relevance=relevance, share=share, rest=0.0))
        lines.append(GraphEdge(("y", 0), ("conv", concept), relevance, share, 1.0 if relevance else float("nan")))
    return ConceptGraph(("y", "conv"), nodes, lines, started=started, coverage=0.9, breadth=2)


def test_the_drawn_part_of_the_graph_is_what_its_edges_carry():
    """Concepts receive 2.0, 1.2 and 0.8 of the class: the two drawn carry 80 %, whatever the graph aimed at."""
    value = dataclasses.replace(examples.explanation(layers=("conv",), patches=0), graph=graph_of({1: 2.0, 2: 1.2}))
    source = render(value)
    page = Page(source)
    text = " ".join("".join(page.text).split())
    assert "they carry 80.0 % of the absolute relevance that leaves it (median; 80.0 % to 80.0 %)." in text
    assert "90 %" not in text.replace("The model sees zebra (90 %)", "").replace("zebra (explained here) 90 %", "")
    drawn = [edge for edge in page.all("path") if "data-upper" in edge]
    assert [(edge["data-upper"], edge["data-lower"]) for edge in drawn] == [("y/0", "conv/2"), ("y/0", "conv/1")]
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
    assert "The model’s output is −0.116" in text
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
