"""What a reader takes along of each part of the page: links that lead back to it, numbers that are those of Python."""

import base64
import csv
import io
import json
import time
import xml.etree.ElementTree
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from crp.explanations import concept_rows, numbers
from crp.visualization import encoding as images
from crp.visualization import wording
from crp.visualization.page.stored_tables import in_steps
from page_in_browser import VIEW, assert_ranked, at, open_panels, pinned
from page_source import numbers_of_a_page

PANEL = f"{VIEW} .panel:not([hidden])"


@pytest.fixture
def taking(page):
    """The page, on which files and copied addresses go to `window.taken`."""
    page.run(
        "window.taken = []; URL.createObjectURL = blob => { const reader = new FileReader();"
        " reader.onload = () => taken.push(reader.result); reader.readAsDataURL(blob); return '#'; };"
        "HTMLAnchorElement.prototype.click = function () { taken.push(this.download); };"
        "navigator.clipboard.writeText = async text => { taken.push(text); }; 1"
    )
    return page


def take(page, place, text, count=2):
    """Open a menu by keyboard, press one of its buttons, and return what was taken: name and content, or an address."""
    page.run(f"window.taken = []; document.querySelector('{place} > summary').focus()")
    page.press("Enter")
    found = page.run(
        f"[...document.querySelectorAll('{place} > button')].findIndex(e => e.textContent === {json.dumps(text)})"
    )
    assert found >= 0
    page.run(f"document.querySelectorAll('{place} > button')[{found}].focus()")
    page.press("Enter")
    end = time.monotonic() + 20
    while time.monotonic() < end and page.run("taken.length") < count:
        time.sleep(0.02)
    taken = page.run("taken")
    page.run(f"document.querySelector('{place}').open = false")
    if count == 1:
        return taken[0]
    name, content = sorted(taken, key=lambda text: text.startswith("data:"))
    return name, base64.b64decode(content.split(",")[1])


def rows(content):
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def rows_of(explanation):
    """The rows of one view, as `atlas.save("x.csv")` writes them."""
    return concept_rows(replace(explanation, beside=()))


def assert_rows(found, expected):
    """What a page writes is what Python writes, in nine digits."""
    assert list(found[0]) == list(expected[0])
    assert len(found) == len(expected)
    for row, other in zip(found, expected, strict=True):
        for name, value in other.items():
            text = row[name].removeprefix("'")
            assert text == value if isinstance(value, str) else float(text) == pytest.approx(value, rel=1e-8), name


def test_numbers_of_a_layer(taking, explanation):
    name, content = take(taking, f"{PANEL} .ledger > .takes", "Download CSV")
    assert name == "zebra-layer3.csv"
    relevance = explanation.layers[0].relevance
    found = rows(content)
    assert [int(row["concept"]) for row in found] == list(range(64))
    # the page keeps relevance as float32
    assert [float(row["relevance"]) for row in found] == pytest.approx(relevance.tolist(), rel=1e-6)
    shares = relevance / np.abs(relevance).sum()
    assert [float(row["share"]) for row in found] == pytest.approx(shares.tolist(), abs=1e-4)
    name, content = take(taking, f"{PANEL} .ledger > .takes", "Download JSON")
    assert (name, json.loads(content)) == ("zebra-layer3.json", numbers_of_a_page(numbers(explanation))["layers"][0])


def test_numbers_of_a_card_in_another_view(taking, explanation):
    taking.click('[data-switch="1"]')
    part = explanation.beside[0].layers[0].ranked[0]
    menu = f"#view-1-layer-0-concept-{part.concept} .takes"
    name, content = take(taking, menu, "Download JSON")
    assert name == f"zebra-layer3-{part.concept}.json"
    found = json.loads(content)
    assert (found["image"], found["layer"], found["concept"]) == ("zebra.jpg", "layer3", part.concept)
    assert found["target"]["name"] == explanation.beside[0].target.name
    assert found["share"] == pytest.approx(part.share, rel=1e-8)
    assert take(taking, menu, "Copy link", 1).endswith(f"atlas.html#layer3/{part.concept}@1")
    name, content = take(taking, menu, "Download CSV")
    assert name == f"zebra-layer3-{part.concept}.csv"
    assert_rows(rows(content), [row for row in rows_of(explanation.beside[0]) if row["concept"] == part.concept][:1])


def test_the_figure_of_a_card_is_its_heatmap_with_its_words(taking, explanation):
    taking.click('[data-switch="2"]')
    part = explanation.beside[1].layers[0].ranked[0]
    menu = f"#view-2-layer-0-concept-{part.concept} .takes"
    name, content = take(taking, menu, "Download the heatmap with its words as SVG")
    assert name == f"zebra-layer3-{part.concept}.svg"
    root = xml.etree.ElementTree.fromstring(content)
    space = "{http://www.w3.org/2000/svg}"
    said = [item.text for item in root.iter(f"{space}text")]
    assert said[0] == f"Concept {part.concept} of layer3"
    assert said[1] == f"{wording.side(part)}: {wording.both_shares(explanation.beside[1], part)}"
    assert said[2] == f"{explanation.target.name} rather than {explanation.beside[0].target.name}, zebra.jpg"
    limit = taking.run(f"document.querySelector('{PANEL}').dataset.limit")
    assert said[3] == f"Colours are full at {limit}."
    png = base64.b64decode(root.find(f"{space}image").get("href").removeprefix("data:image/png;base64,"))
    assert png == take(taking, menu, "Download the heatmap as PNG")[1]
    taking.click('[data-scale="own"]')
    _, content = take(taking, menu, "Download the heatmap with its words as SVG")
    full = taking.run(f"document.querySelector('#view-2-layer-0-concept-{part.concept}').dataset.full")
    assert f"Colours are full at {full}.</text>" in content.decode()


def test_the_heatmap_of_a_card_is_what_the_page_shows(taking, explanation):
    layer = explanation.layers[0]
    part = layer.ranked[1]
    card = f"#layer-0-concept-{part.concept}"
    name, content = take(taking, f"{card} .takes", "Download the heatmap as PNG")
    assert name == f"zebra-layer3-{part.concept}.png"
    with Image.open(io.BytesIO(content)) as picture:
        drawn = np.asarray(picture.convert("RGB")).astype(int)
    assert drawn.shape == (448, 448, 3)
    fade = float(taking.run(f"getComputedStyle(document.querySelector('{card} .where')).opacity"))
    limit = images.colour_limit(part.heatmap) / fade**2
    expected = images.tinted(explanation.picture, part.heatmap, limit).astype(int)
    assert np.abs(drawn[3::7, 3::7] - expected).max() <= 4


def test_the_map_is_a_picture_of_its_own(taking, explanation):
    name, content = take(taking, f"{PANEL} .ledger > .takes", "Download the map as SVG")
    assert name == "zebra-layer3-map.svg"
    root = xml.etree.ElementTree.fromstring(content)
    space = "{http://www.w3.org/2000/svg}"
    cells = [item.get("d").count("M") for item in root.iter(f"{space}path") if item.get("fill-opacity")]
    assert sum(cells) == int((explanation.layers[0].concept_map.concept >= 0).sum())
    assert root.find(f"{space}image").get("href").startswith("data:image/")
    assert "fill: rgb(255, 255, 255)" in next(root.iter(f"{space}text")).get("style")
    # what it has from the style of the page, or from the group of all areas
    areas = [item for item in root.iter(f"{space}g") if item.get("class") == "region-of"]
    assert all("shape-rendering: crispedges" in area.find(f"{space}g").get("style") for area in areas)
    (lines,) = [item for item in root.iter(f"{space}g") if item.get("stroke-linecap") == "square"]
    assert list(lines) == areas


def test_the_edges_of_the_graph(taking, explanation):
    name, content = take(taking, f"{VIEW} .graph .takes", "Download CSV")
    assert name == "zebra-graph.csv"
    found = {
        (row["upper layer"], row["upper concept"], row["lower layer"], row["lower concept"]): row
        for row in rows(content)
    }
    assert len(found) == len(explanation.graph.edges)
    for edge in explanation.graph.edges:
        row = found[tuple(str(part) for key in (edge.upper, edge.lower) for part in key)]
        assert float(row["relevance"]) == pytest.approx(edge.relevance, rel=1e-8)
        assert float(row["share of the prediction"]) == pytest.approx(edge.share, rel=1e-8)


def test_a_region_of_a_difference_has_the_very_steps_of_python(taking, explanation):
    """Though the page holds only what is left of them when the tables of the two classes are subtracted."""
    taking.click('[data-switch="2"]')
    taking.drag(at(taking, 1, 1), at(taking, 2, 2))
    _, content = take(taking, f"{VIEW} .region .takes", "Download CSV")
    own = in_steps(explanation.beside[1].layers[0].concept_map.table)
    cells = [8, 9, 15, 16]
    values = (own.steps[:, cells] * own.scale[cells].astype(np.float64)).sum(1)
    found = {int(row["concept"]): float(row["relevance"]) for row in rows(content)}
    some = np.flatnonzero(own.filled[:, cells].any(1))
    assert found == pytest.approx({int(c): values[c] for c in some}, rel=1e-12)


def test_the_ranking_of_a_region(taking, explanation):
    taking.drag(at(taking, 1, 1), at(taking, 2, 2))
    assert_ranked(taking, explanation.layers[0], [8, 9, 15, 16])
    _, content = take(taking, f"{VIEW} .region .takes", "Download CSV")
    cells = np.zeros((7, 7), dtype=bool)
    cells[1:3, 1:3] = True
    expected = explanation.layers[0].concept_map.ranking(cells)
    found = rows(content)
    assert [int(row["concept"]) for row in found[:10]] == [concept for concept, _ in expected[:10]]
    assert sum(abs(float(row["share"])) for row in found) == pytest.approx(1)


def test_the_whole_page(taking, explanation):
    name, content = take(taking, "footer .takes .takes", "Download JSON")
    expected = numbers_of_a_page(json.loads(json.dumps(numbers(explanation))))
    assert (name, json.loads(content)) == ("zebra-atlas.json", expected)
    assert take(taking, "footer .takes .takes", "Copy link", 1).endswith("/atlas.html")
    name, content = take(taking, "footer .takes .takes", "Download CSV")
    assert name == "zebra-atlas.csv"
    assert_rows(rows(content), concept_rows(explanation))


def test_links_hold_what_the_page_is_set_to(taking, browser, file, explanation):
    """A region, and the scale of colours; what is switched off is asked in `test_switch_in_browser`."""
    taking.click("#tab-1")
    taking.drag(at(taking, 1, 1), at(taking, 2, 2))
    taking.click('[data-scale="own"]')
    region = take(taking, f"{VIEW} .region .takes", "Copy link", 1)
    assert region.endswith("#&region=layer4/8,9,15,16&scale=own")
    part = explanation.layers[1].ranked[0]
    card = take(taking, f"#layer-1-concept-{part.concept} .takes", "Copy link", 1)
    assert card.endswith(f"#layer4/{part.concept}&scale=own")
    browser.open(file, region.split("#")[1])
    assert open_panels(browser) == [1]
    assert_ranked(browser, explanation.layers[1], [8, 9, 15, 16])
    assert browser.run("document.body.classList.contains('own-scale')")
    assert browser.run("document.querySelector('[data-scale=own]').getAttribute('aria-pressed')") == "true"
    browser.open(file, "&region=layer4/3,48,49,1000&scale=none")  # cells that are not there are left out
    assert_ranked(browser, explanation.layers[1], [3, 48])
    assert not browser.run("document.body.classList.contains('own-scale')")


def test_links_to_parts_lead_back(taking, browser, file):
    taking.click('[data-switch="1"]')
    taking.click("#view-1-tab-1")
    layer = take(taking, f"{PANEL} .ledger > .takes", "Copy link", 1)
    graph = take(taking, f"{VIEW} .graph .takes", "Copy link", 1)
    browser.open(file, layer.split("#")[1])
    assert browser.run(f"document.querySelector('{VIEW}').id") == "view-1"
    assert open_panels(browser) == [1]
    browser.open(file, graph.split("#")[1])
    assert browser.run(f"document.querySelector('{VIEW}').id") == "view-1"
    assert pinned(browser) == []
    top = browser.run(f"document.querySelector('{VIEW} .graph h3').getBoundingClientRect().top")
    assert 0 <= top < 900
