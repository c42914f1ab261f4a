import dataclasses
import json
import re
from html.parser import HTMLParser

import pytest

import example_explanations as examples
from crp.explanation import numbers
from crp.visualization import wording
from crp.visualization.page import render

VOID = {"img", "meta", "br", "rect", "path"}


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
    assert not re.search(r"(?:https?:)?//[a-z]", re.sub(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+", "", source))
    for name, attributes in page.tags:
        for key in ("src", "href", "action", "data", "srcset", "poster"):
            if key in attributes:
                assert attributes[key].startswith(("data:image/", "#")), (name, key)
    assert not page.all("link")
    assert "@import" not in source
    assert set(re.findall(r"url\((.{10})", source)) == {
        "data:image",
    }
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_every_picture_says_what_is_seen(page):
    pictures = page.all("img")
    assert len(pictures) == 3 + 2 * 9 + 2 * 9 * 16
    assert [image for image in pictures if "alt" not in image] == []
    # Only the frame that waits for a concept to be chosen shows nothing yet.
    assert [image["data-frame"] for image in pictures if not image["alt"]] == ["concept"]


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
    cells = page.all("rect")
    assert len(cells) == sum(int((layer.concept_map.concept >= 0).sum()) for layer in explanation.layers)
    colours = {}
    for layer in range(2):
        for region in page.all("g", **{"class": "region"}):
            colours.setdefault((layer, region["data-concept"]), set()).add(region["data-card"])
    assert len(page.all("svg")) == 2


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
    assert len(page.all("script")) == 2
    assert json.loads(page.scripts["atlas-numbers"]) == numbers(value)
    block = page.scripts["atlas-numbers"]
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
    assert not page.all("svg")
    assert not page.all("div", **{"class": "strip"})
    assert len(page.all("article")) == len(layer.ranked)


def test_one_layer_needs_no_tabs():
    page = Page(render(examples.explanation(layers=("conv",), patches=0)))
    assert not page.all("div", role="tablist")
    assert not page.all("section", role="tabpanel")


def test_a_large_page_stays_small():
    value = examples.explanation(shape=(224, 224), layers=("a", "b", "c"), size=512, grid=(14, 14))
    assert len(render(value)) < 1_500_000
