"""Pages of many layers: what is packed is what would otherwise stand in the page, and is put in when it is opened."""

import html
import json

import pytest

import example_explanations as examples
from crp.visualization.atlases import Atlas
from crp.visualization.page import explanation_page
from crp.visualization.page.explanation_page import render
from page_in_browser import VIEW, assert_ranked, at, caption, faults, open_panels, pinned
from page_source import opened
from tests.ablated import explained

# In these tests, so that pages stay small.
MOST_LAYERS = 4
LAYERS = tuple(f"conv{index}" for index in range(MOST_LAYERS + 1))
LAST = len(LAYERS) - 1
PACKED = "document.querySelectorAll('[data-packed]').length"
# Panels and maps: all of the first view but one, and all of two others; and three graphs.
PANELS = LAST + 2 * len(LAYERS)
ALL = 2 * PANELS + 3


@pytest.fixture(scope="module", autouse=True)
def _five_layers_are_many():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(explanation_page, "MOST_LAYERS", MOST_LAYERS)
        yield


@pytest.fixture(scope="module")
def explanation():
    options = {"layers": LAYERS, "supporting": 2, "opposing": 1, "size": 12, "grid": (4, 4)}
    return examples.beside(examples.explanation(patches=2, **options), patches=2, **options)


@pytest.fixture(scope="module")
def file(explanation, tmp_path_factory):
    return Atlas(explanation).save(tmp_path_factory.mktemp("packed") / "atlas.html")


def plainly(explanation, monkeypatch):
    """The page with everything in it."""
    with monkeypatch.context() as patched:
        patched.setattr(explanation_page, "packed_part", lambda content: content)
        return render(explanation)


def test_what_is_packed_is_what_would_stand_there(explanation, monkeypatch):
    source, plain = render(explanation), plainly(explanation, monkeypatch)
    assert len(source) < 0.8 * len(plain)
    assert source.count("data-packed>") == ALL
    assert opened(source) == plain


MAIN = "document.querySelector('main').outerHTML.replace(/<noscript>.*?<[/]noscript>/g, '').replace(/\\s*\\n\\s*/g, '')"


def all_opened(browser, file, packed):
    """All of a page, when everything that is packed has been put in."""
    browser.open(file)
    assert (browser.run(PACKED) > 1) == packed
    browser.run("dispatchEvent(new Event('beforeprint')); 1")
    assert (browser.run(PACKED), browser.complaints) == (0, [])
    return browser.run(MAIN)


def test_all_of_it_opened_is_the_page_that_is_not_packed(browser, file, explanation, monkeypatch, tmp_path):
    # the script does the same with what is opened late as with what it finds at the start
    plain = tmp_path / "plain.html"
    plain.write_text(plainly(explanation, monkeypatch))
    assert all_opened(browser, file, True) == all_opened(browser, plain, False)


def test_so_it_is_with_names_of_the_reader_and_concepts_that_are_switched_off(browser, monkeypatch, tmp_path):
    value = explained(tmp_path, against=7)
    plain, packed = tmp_path / "plain.html", tmp_path / "packed.html"
    plain.write_text(plainly(value, monkeypatch))
    monkeypatch.setattr(explanation_page, "MOST_LAYERS", 1)
    packed.write_text(render(value))
    layer = value.layers[1]
    of = f"{layer.layer}/{layer.ranked[0].concept}"
    said = {"label": "a stripe", "note": "", "tags": ["one"], "verdict": "fine", "author": "", "date": ""}
    browser.open(packed)
    assert browser.run(f"conceptNames.keep({json.dumps(of)}, {json.dumps(said)})")
    assert all_opened(browser, packed, True) == all_opened(browser, plain, False)
    assert browser.run(f"document.querySelector('.card [data-of=\"{of}\"]').textContent") == "a stripe"
    # opened by an address that switches a concept off
    fragment = f"&without={layer.layer}/{layer.ranked[0].concept}"
    browser.open(packed, fragment)
    assert open_panels(browser) == [1]
    assert browser.run(f"document.querySelectorAll('{VIEW} .card.is-off').length") == 1
    browser.run(f"conceptNames.keep({json.dumps(of)}, null)")


def test_a_layer_is_put_in_when_it_is_opened(page, explanation):
    layer = explanation.layers[LAST]
    assert page.run(f"document.querySelectorAll('{VIEW} .card').length") == len(explanation.layers[0].ranked)
    page.run(f"document.getElementById('tab-{LAST - 1}').click()")
    page.run(f"document.getElementById('tab-{LAST - 1}').focus()")
    page.press("ArrowRight")
    assert open_panels(page) == [LAST]
    card = f"#layer-{LAST}-concept-{layer.ranked[0].concept}"
    assert page.run(f"document.querySelector('{card} .patches b').title") != ""
    assert page.run(f"document.querySelectorAll('{VIEW} .panel:not([hidden]) .takes').length") == 1 + len(layer.ranked)
    page.drag(at(page, 0, 0, 4, 4), at(page, 2, 3, 4, 4))
    assert_ranked(page, layer, [row * 4 + column for row in range(3) for column in range(4)])
    page.hover(f"{card} .where")
    assert caption(page).startswith(f"Concept {layer.ranked[0].concept} of {layer.layer} ")
    # of the rest of the page, `test_page_for_everybody` asks
    assert faults(page, within=f"{VIEW} .panel:not([hidden])") == []


@pytest.mark.parametrize("view", [0, 1])
@pytest.mark.parametrize("by", ["name", "id"])
def test_a_link_leads_into_a_layer_that_is_packed(browser, file, explanation, view, by):
    concept = (explanation, *explanation.beside)[view].layers[LAST].ranked[1].concept
    place = f"layer-{LAST}-concept-{concept}"
    links = {"name": f"{LAYERS[LAST]}/{concept}@{view}", "id": f"view-{view}-{place}" if view else place}
    browser.open(file, links[by])
    assert (open_panels(browser), pinned(browser)) == ([LAST], [concept])
    assert browser.run("document.activeElement.closest('.card').getBoundingClientRect().top") >= 0
    # the patches of a concept that an earlier view shows, too, are brought from there
    strips = f"document.querySelectorAll('{VIEW} #{links['id']} .patches b').length"
    assert browser.run(strips) == 4
    assert browser.complaints == []


def test_search_finds_concepts_by_classes_of_their_cards(page, explanation):
    used = {use.name for layer in explanation.layers for part in layer.ranked for use in part.classes}
    page.click("#search")
    page.type(min(used))
    assert page.run("document.getElementById('found').hidden") is False
    # nothing is opened for it
    assert page.run("document.querySelectorAll('.panel > [data-packed]').length") == PANELS
    page.press("Enter")
    assert len(pinned(page)) == 1
    assert page.run(f"document.querySelector('{VIEW} .card .pick[aria-pressed=true]').closest('.card') !== null")


def test_the_graph_is_put_in_when_it_comes_into_sight(browser, file, explanation):
    page = browser
    page.open(file, height=300)
    height = "document.documentElement.scrollHeight"
    before = page.run(height)
    assert page.run(f"document.querySelectorAll('{VIEW} .node').length") == 0
    page.run(f"document.querySelector('{VIEW} .graph').scrollIntoView()")
    page.run("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")
    assert page.run(f"document.querySelectorAll('{VIEW} .node').length") == len(explanation.graph.nodes)
    assert abs(page.run(height) - before) < 150  # its place was kept
    part = explanation.layers[3].ranked[0]
    node = f'{VIEW} .node[data-layer-name="{LAYERS[3]}"][data-concept="{part.concept}"]'
    page.run(f"document.querySelector('{node}').click()")
    page.run(f"document.querySelector('{VIEW} .graph .to-card').click()")
    assert (open_panels(page), pinned(page)) == ([3], [part.concept])


def test_print_holds_all_layers(page, explanation, tmp_path):
    page.pdf(tmp_path / "page.pdf")
    assert page.run(PACKED) == 0
    page.media(kind="print")
    count = "[...document.querySelectorAll('{}')].filter(e => e.getBoundingClientRect().height > 0).length"
    assert page.run(count.format(".panel")) == page.run(count.format(".map svg")) == len(LAYERS)
    assert page.run(count.format(".card")) == sum(len(layer.ranked) for layer in explanation.layers)


def test_without_scripts_the_first_layer_can_be_read_and_the_rest_is_named(browser, file, explanation):
    browser.open(file, scripts=False)
    count = "[...document.querySelectorAll('{}')].filter(e => e.getBoundingClientRect().height > 0).length"
    assert browser.run(count.format(".panel")) == 1
    assert browser.run(count.format(".view")) == 1 + len(explanation.beside)
    assert browser.run(count.format(".graph")) == 0
    said = browser.run("[...document.querySelectorAll('.layers noscript')].map(e => e.innerText)")
    assert f"This page holds {LAST} more layers, and the graph of the prediction." in html.unescape(said[0])
    assert [text.count("The concepts for this question are packed") for text in said] == [0, 1, 1]
