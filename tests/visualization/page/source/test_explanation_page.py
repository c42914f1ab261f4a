import dataclasses
import json
import re

import numpy as np
import pytest

import example_explanations as examples
from crp.explanations import numbers
from crp.visualization import conservation_wording, graph_wording, wording
from crp.visualization.map_cells import outweighed
from crp.visualization.page.explanation_page import render
from page_source import Page, numbers_in, numbers_of_a_page, opened, table_of


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
    assert len(pictures) == 2
    assert [image for image in pictures if not image.get("alt")] == []
    heatmaps = [element for element in page.all("i", role="img") if element["class"].startswith("where h")]
    assert len(heatmaps) == 2 * 9
    assert [heatmap for heatmap in heatmaps if not heatmap.get("aria-label")] == []
    patches = [text for text in page.text if re.match(r"\d+: sample", text)]
    assert len(patches) == 2 * 9 * 16


def test_alternative_texts_name_place_verdict_and_class(explanation, page):
    part = explanation.layers[0].ranked[0]
    alt = f"Where concept {part.concept} {wording.side(part)} zebra: {wording.where(part.heatmap)}"
    assert alt in [heatmap["aria-label"] for heatmap in page.all("i", role="img")]
    assert "1: sample 0, zebra, score 0.5" in page.text
    assert "Most relevant for · RelMax" in page.text


def test_embedded_numbers_are_those_of_the_json(explanation, source):
    assert numbers_in(source) == numbers_of_a_page(numbers(explanation))


def test_cards_stand_by_absolute_share_with_the_numbers_of_the_json(explanation, page):
    for index, layer in enumerate(numbers(explanation)["layers"]):
        cards = [card for card in page.all("article") if card["data-layer"] == str(index)]
        expected = sorted(layer["supporting"] + layer["opposing"], key=lambda part: -abs(part["share"]))
        assert [int(card["data-concept"]) for card in cards] == [part["concept"] for part in expected]
        for card, part in zip(cards, expected, strict=True):
            assert card["data-shares"].startswith(f"{wording.signed_percent(part['share'])} of the layer")
        assert float(page.all("section", id=f"panel-{index}")[0]["data-rest"]) == layer["rest"]


def test_sign_is_said_by_word_sign_and_class(explanation, page):
    text = " ".join(page.text)
    for index, layer in enumerate(explanation.layers):
        for part in layer.ranked:
            (card,) = page.all("article", id=f"layer-{index}-concept-{part.concept}")
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
        assert " ".join(conservation_wording.coverage(layer).split()) in text
    assert " ".join(conservation_wording.absorbed(explanation).split()) in text


def test_the_concept_map_has_a_cell_for_every_cell_that_is_not_blank(explanation, page):
    coloured = [path for path in page.all("path") if "fill-opacity" in path]
    hatched = page.all("path", **{"class": "outweighed"})
    for paths, cells in ((coloured, lambda drawn: drawn.concept >= 0), (hatched, outweighed)):
        drawn = sum(path["d"].count("M") for path in paths)
        assert drawn == sum(int(cells(layer.concept_map).sum()) for layer in explanation.layers) > 0
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
    source = render(value)
    page = Page(source)
    assert page.open == []
    assert len(page.all("script")) == 4
    assert numbers_in(source) == numbers_of_a_page(numbers(value))
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
    return [[table_of(layer) for layer in view] for view in json.loads(page.scripts["atlas-cells"])]


def test_cells_are_those_of_the_explanation(explanation, page):
    """Each within a step: 1/65536 of its cell's absolute relevance; twice that where a concept holds half of it."""
    (tables,) = cells_of(page)
    for table, layer in zip(tables, explanation.layers, strict=True):
        exact = layer.concept_map.table
        assert (np.abs(table - exact) <= np.abs(exact).sum(-1, keepdims=True) / 32767 * 1.01).all()


def test_views_stand_below_each_other_and_show_each_patch_once(explanation):
    several = examples.beside(explanation, patches=2)
    source = render(several)
    page = Page(opened(source))
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
    assert len(re.findall(r'<div class="strips p\d+">', opened(source))) == len(strips)
    assert len(cards) - len(strips) == "".join(page.text).count("Its patches are on")
    assert again
    assert numbers_in(source)["beside"][1]["against"]["name"] == "horse"


def test_every_node_of_the_graph_says_what_it_holds(explanation, page):
    nodes = page.all("a", **{"data-layer-name": explanation.layers[0].layer})
    for node in nodes:
        value = explanation.graph.node(explanation.layers[0].layer, int(node["data-concept"]))
        assert node["data-text"] == graph_wording.node_sentence(explanation.graph, value)
    assert len(page.all("a", **{"data-layer-name": "(output)"})) == 1
    assert len([edge for edge in page.all("path") if "data-upper" in edge]) == len(explanation.graph.edges)
    text = " ".join(page.text)
    for entry in explanation.graph.nodes[1:]:
        assert graph_wording.node_name(entry) in text


def test_users_of_a_concept_are_named(page):
    assert len(page.all("dl", **{"class": "users"})) == 18
    assert page.text.count("fox") == 18


def test_one_common_picture_of_patches_a_layer(explanation, source):
    assert len(re.findall(r"--s\d+:url\(data:image/webp", source)) == 2
    for layer, content in zip(explanation.layers, json.loads(Page(source).scripts["atlas-cells"])[0], strict=True):
        known = {part.concept for part in layer.ranked} | set(layer.glimpses)
        shown = content["sprite"]["concepts"]
        assert known <= set(shown)
        assert len(shown) == len(set(shown))
