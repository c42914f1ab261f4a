"""The page in a real browser: every control by mouse and by keyboard, numbers against Python's, nothing asked for."""

import dataclasses
import io
import json
from importlib import resources

import numpy as np
import pytest
from PIL import Image

import example_explanations as examples
from browsing import CONTROL, SHIFT
from crp.explanations import ClassScore
from crp.visualization import colours as palette
from crp.visualization import encoding as images
from crp.visualization import wording
from crp.visualization.atlases import Atlas
from crp.visualization.page.explanation_page import render


@pytest.fixture(scope="module")
def explanation():
    return examples.beside(examples.explanation(patches=2), patches=2)


@pytest.fixture(scope="module")
def file(explanation, tmp_path_factory):
    return Atlas(explanation).save(tmp_path_factory.mktemp("page") / "atlas.html")


@pytest.fixture
def page(browser, file):
    browser.open(file)
    yield browser
    assert browser.complaints == []
    assert {address.split(":")[0] for address in browser.requests} <= {"file", "data"}
    assert [address for address in browser.requests if address.startswith("file")] == [file.resolve().as_uri()]


VIEW = ".view:not([hidden])"


def frame(page):
    """What the picture shows."""
    shown = page.run(f"[...document.querySelectorAll('{VIEW} [data-frame]:not([hidden])')].map(e => e.dataset.frame)")
    (name,) = shown
    assert page.run(f"document.querySelector('{VIEW} [data-show=\"{name}\"]').getAttribute('aria-pressed')") == "true"
    return name


def caption(page):
    return page.run(f"document.querySelector('{VIEW} .now').textContent")


def open_panels(page):
    return page.run(f"[...document.querySelectorAll('{VIEW} .panel:not([hidden])')].map(e => Number(e.dataset.layer))")


def pinned(page):
    return page.run(
        f"[...document.querySelectorAll('{VIEW} .pick[aria-pressed=true]')]"
        ".map(e => Number(e.closest('.card').dataset.concept))"
    )


def focused(page, what="textContent"):
    return page.run(f"document.activeElement.{what}")


def ranking(page):
    """(concept, relevance, share in the region) of every row."""
    return page.run(
        f"[...document.querySelectorAll('{VIEW} .ranking li')].map(e => "
        "[Number(e.dataset.concept), Number(e.dataset.relevance), Number(e.dataset.share)])"
    )


def selected(page):
    cells = f"[...document.querySelectorAll('{VIEW} [aria-selected=true][data-cell]')]"
    return page.run(f"{cells}.map(e => Number(e.dataset.cell))")


def assert_ranked(page, layer, cells):
    """The page's ranking of a region is Python's; shown and rest are 100.0 %."""
    concept_map = layer.concept_map
    region = np.zeros(concept_map.concept.shape, dtype=bool)
    region.ravel()[list(cells)] = True
    expected = concept_map.ranking(region)
    total = sum(abs(value) for _, value in expected)
    found = ranking(page)
    assert [concept for concept, _, _ in found] == [concept for concept, _ in expected[:8]]
    scale = float(np.abs(concept_map.table).max())
    for (_, relevance, share), (_, value) in zip(found, expected, strict=False):
        assert relevance == pytest.approx(value, abs=len(cells) * scale / 65534)
        assert share == pytest.approx(value / total, abs=1e-4)
    written = page.run(f"[...document.querySelectorAll('{VIEW} .ranking strong')].map(e => e.textContent)")
    assert written == [wording.signed_percent(value / total) for _, value in expected[:8]]
    rest = page.run(f"document.querySelector('{VIEW} .region .others').textContent")
    shown = sum(abs(round(1000 * value / total)) for _, value in expected[:8]) / 10
    assert rest == f"{len(expected) - 8} other concepts {100 - shown:.1f}\N{NO-BREAK SPACE}%"


def at(page, row, column, rows=7, columns=7):
    """The middle of a cell, in the window."""
    return page.place(f"{VIEW} .grid", (column + 0.5) / columns, (row + 0.5) / rows)


# -- regions -----------------------------------------------------------------------------------------------------


def test_brushing_with_the_mouse_ranks_as_python_does(page, explanation):
    page.drag(at(page, 1, 2), at(page, 3, 5))
    cells = [row * 7 + column for row in (1, 2, 3) for column in (2, 3, 4, 5)]
    assert selected(page) == cells
    assert_ranked(page, explanation.layers[0], cells)
    page.drag(at(page, 6, 0), at(page, 5, 0), CONTROL)
    assert selected(page) == [*cells, 35, 42]
    assert_ranked(page, explanation.layers[0], [*cells, 35, 42])
    page.click(f"{VIEW} .clear")
    assert (selected(page), ranking(page)) == ([], [])


def test_a_click_selects_one_cell_and_lets_it_go(page, explanation):
    for wanted in ([24], []):
        point = at(page, 3, 3)
        for kind in ("Moved", "Pressed", "Released"):
            page.mouse(kind, point)
        assert selected(page) == wanted
    assert ranking(page) == []


def test_brushing_with_the_keyboard_ranks_as_python_does(page, explanation):
    page.run(f"document.querySelector('{VIEW} [data-cell=\"0\"]').focus()")
    for key in ("ArrowRight", "ArrowDown", "ArrowDown"):
        page.press(key)
    assert focused(page, "dataset.cell") == "15"
    assert selected(page) == []
    page.press("ArrowRight", SHIFT)
    page.press("ArrowUp", SHIFT)
    assert selected(page) == [8, 9, 15, 16]
    assert_ranked(page, explanation.layers[0], [8, 9, 15, 16])
    status = page.run(f"document.querySelector('{VIEW} .region [role=status]').textContent")
    assert status.startswith("4 cells selected, row 2 column 2 to row 3 column 3. Strongest: concept ")
    page.press("End")
    page.press(" ", CONTROL)
    assert selected(page) == [8, 9, 13, 15, 16]
    page.press("Home")
    page.press("Enter")
    assert selected(page) == [7]
    page.press("Enter")
    assert selected(page) == []
    page.press(" ")
    page.press("Escape")
    assert selected(page) == []


def test_a_ranked_concept_leads_to_its_card_or_shows_its_cells(page, explanation):
    layer = explanation.layers[0]
    cards = {part.concept for part in layer.ranked}
    page.drag(at(page, 0, 0), at(page, 6, 6))
    listed = [concept for concept, _, _ in ranking(page)]
    without = next(concept for concept in listed if concept not in cards)
    page.click(f'{VIEW} .ranking [data-concept="{without}"] button')
    assert frame(page) == "concept"
    share = layer.relevance[without] / np.abs(layer.relevance).sum()
    rank = 1 + int((np.abs(layer.relevance) > abs(layer.relevance[without])).sum())
    assert caption(page) == (
        f"Concept {without} of {layer.layer}: {wording.signed_percent(share)} of the layer, rank {rank} of 64. "
        "It has no card; its cells are shown."
    )
    assert page.run(f"document.querySelectorAll('{VIEW} .frame.concept rect').length") > 5
    # a region of the cells that a concept with a card owns names it
    owned = np.flatnonzero(layer.concept_map.concept.ravel() == next(iter(layer.concept_map.strength())))
    page.press("Escape")
    page.drag(at(page, *divmod(int(owned[0]), 7)), at(page, *divmod(int(owned[0]), 7)))
    with_card = next((concept for concept, _, _ in ranking(page) if concept in cards), None)
    if with_card is not None:
        page.run(f"document.querySelector('{VIEW} .ranking [data-concept=\"{with_card}\"] button').focus()")
        page.press("Enter")
        assert pinned(page) == [with_card]


# -- concepts, layers, views -------------------------------------------------------------------------------------


def test_pointing_at_a_card_lights_it_up_everywhere(page, explanation):
    part = explanation.layers[0].ranked[0]
    card = f"#layer-0-concept-{part.concept}"
    assert frame(page) == "relevance"
    page.hover(f"{card} .where")
    assert frame(page) == "concept"
    shares = wording.both_shares(explanation, part)
    assert "of the prediction" in shares
    assert caption(page) == f"Concept {part.concept} of layer3 {wording.side(part)}: {shares}."
    pictures = (f"{VIEW} .frame.concept img", f"{card} .where")
    large, small = (f"document.querySelector('{picture}').src" for picture in pictures)
    assert page.run(f"{large} === {small}")
    lit = f"[...document.querySelectorAll('{VIEW} .sum .on, {VIEW} .legend .on')]"
    lit = page.run(f"{lit}.map(e => Number(e.dataset.concept))")
    assert set(lit) == {part.concept}
    node = f'{VIEW} .node[data-layer-name="layer3"][data-concept="{part.concept}"]'
    assert page.run(f"document.querySelector('{node}').classList.contains('self')")
    edges = [e for e in explanation.graph.edges if ("layer3", part.concept) in (e.upper, e.lower)]
    assert page.run(f"document.querySelectorAll('{VIEW} .edge.on').length") == len(edges)
    page.mouse("Moved", (2, 2))
    assert frame(page) == "relevance"


def test_a_card_is_kept_by_click_and_by_enter_and_let_go_by_escape(page, explanation):
    first, second = (part.concept for part in explanation.layers[0].ranked[:2])
    page.click(f"#layer-0-concept-{first} .pick")
    page.mouse("Moved", (2, 2))
    assert (frame(page), pinned(page)) == ("concept", [first])
    assert page.run("location.hash") == f"#layer3/{first}"
    page.run(f"document.querySelector('#layer-0-concept-{second} .pick').focus()")
    page.press("Enter")
    assert pinned(page) == [second]
    page.press("Enter")
    assert pinned(page) == []
    page.press("Enter")
    page.press("Escape")
    assert (pinned(page), page.run("location.hash")) == ([], "")


@pytest.mark.parametrize("view", ["input", "relevance", "map", "concept"])
def test_layers_of_the_picture(page, explanation, view):
    button = f'{VIEW} [data-show="{view}"]'
    if view == "concept":
        assert page.run(f"document.querySelector('{button}').disabled")
        page.click(f"#layer-0-concept-{explanation.layers[0].ranked[0].concept} .pick")
    page.click(f"{VIEW} [data-show=input]")
    page.run(f"document.querySelector('{button}').focus()")
    page.press(" ")
    assert frame(page) == view
    page.click(f"{VIEW} [data-show=input]")
    assert frame(page) == "input"
    page.click(button)
    assert frame(page) == view


def test_layers_are_opened_by_click_and_arrow_keys(page):
    page.click("#tab-1")
    assert open_panels(page) == [1]
    page.press("ArrowRight")
    assert open_panels(page) == [0]
    assert focused(page) == "layer3"
    for key, index in (("End", 1), ("Home", 0), ("ArrowLeft", 1)):
        page.press(key)
        assert open_panels(page) == [index]


def test_a_second_class_and_the_difference_have_views_of_their_own(page, explanation):
    part = explanation.layers[0].ranked[0]
    page.drag(at(page, 1, 1), at(page, 2, 2))
    page.click('[data-switch="1"]')
    assert page.run(f"document.querySelector('{VIEW}').id") == "view-1"
    assert selected(page) == [8, 9, 15, 16]
    assert_ranked(page, explanation.beside[0].layers[0], [8, 9, 15, 16])
    page.run("document.querySelector('[data-switch=\"2\"]').focus()")
    page.press("Enter")
    assert page.run(f"document.querySelector('{VIEW}').id") == "view-2"
    assert_ranked(page, explanation.beside[1].layers[0], [8, 9, 15, 16])
    counts = page.run(f"[...document.querySelectorAll('{VIEW} .card')].map(e => e.querySelectorAll('.patch').length)")
    assert set(counts) == {4}  # patches that stand on another view's card were brought here
    page.click('[data-switch="0"]')
    assert page.run(f"document.querySelector('{VIEW}').id") == "view-0"
    assert page.run(f"document.querySelector('#layer-0-concept-{part.concept}') !== null")


def test_the_map_names_the_strongest_concept_under_the_mouse(page, explanation):
    concept_map = explanation.layers[0].concept_map
    row, column = np.argwhere(concept_map.concept >= 0)[0]
    page.click(f"{VIEW} [data-show=map]")
    page.mouse("Moved", at(page, row, column))
    assert frame(page) == "map"
    cell = concept_map.table[row, column].astype(float)
    total = np.abs(cell).sum()
    share, *sides = (value / total for value in (cell.max(), cell[cell > 0].sum(), -cell[cell < 0].sum()))
    sentence = (
        f"Concept {concept_map.concept[row, column]} supports most in this cell and holds {wording.percent(share)} of "
        f"the absolute relevance there; all concepts together: {wording.percent(sides[0])} for, "
        f"{wording.percent(sides[1])} against."
    )
    assert caption(page) == sentence
    label = page.run(f"document.querySelector('{VIEW} [data-cell=\"{row * 7 + column}\"]').getAttribute('aria-label')")
    assert label == f"row {row + 1}, column {column + 1}: {sentence}"
    blank = np.argwhere(concept_map.concept < 0)[0]
    page.mouse("Moved", at(page, *blank))
    assert caption(page) == "No relevance in this cell."
    page.mouse("Moved", (2, 2))
    assert caption(page).startswith("Concept map of layer3")
    # the same by keyboard
    page.run(f"document.querySelector('{VIEW} [data-cell=\"{row * 7 + column + (1 if column < 6 else -1)}\"]').focus()")
    page.press("ArrowLeft" if column < 6 else "ArrowRight")
    assert caption(page) == sentence


def test_a_legend_leads_to_the_card(page):
    page.click(f"{VIEW} [data-show=map]")
    link = f"document.querySelector('{VIEW} .legend:not([hidden]) a')"
    concept = page.run(f"Number({link}.closest('li').dataset.concept)")
    page.click(f'{VIEW} .legend:not([hidden]) [data-concept="{concept}"] a')
    assert pinned(page) == [concept]
    page.press("Escape")
    page.run(f"document.querySelector('{VIEW} .legend:not([hidden]) [data-concept=\"{concept}\"] a').focus()")
    page.press("Enter")
    assert pinned(page) == [concept]


def test_a_segment_of_the_ledger_leads_to_the_card(page, explanation):
    concept = explanation.layers[0].ranked[0].concept
    page.click(f'{VIEW} .panel:not([hidden]) .sum [data-concept="{concept}"]')
    assert pinned(page) == [concept]


def test_a_node_of_the_graph_says_what_it_is_made_of(page, explanation):
    part = explanation.layers[1].ranked[0]
    node = f'{VIEW} .node[data-layer-name="layer4"][data-concept="{part.concept}"]'
    page.hover(node)
    sentence = wording.node_sentence(explanation.graph, explanation.graph.node("layer4", part.concept))
    about = f"document.querySelector('{VIEW} .graph .about').textContent"
    assert page.run(about) == f"{sentence} Go to its card"
    page.click(node)
    page.mouse("Moved", (2, 2))
    assert page.run(about).startswith(sentence)
    assert page.run(f"document.querySelector('{node}').getAttribute('aria-current')") == "true"
    page.click(f"{VIEW} .graph .to-card")
    assert (open_panels(page), pinned(page)) == ([1], [part.concept])
    page.press("Escape")
    page.run(f"document.querySelector('{node}').focus()")
    assert page.run(about).startswith(sentence)
    page.press("Enter")
    assert pinned(page) == [part.concept]


def test_nothing_moves_under_the_mouse(page, explanation):
    """What the picture shows changes; where the controls stand does not."""
    places = set()
    for selector in (".eyebrow", f"#layer-0-concept-{explanation.layers[0].ranked[0].concept} .word", f"{VIEW} .grid"):
        page.hover(selector)
        places.add(page.run(f"document.querySelector('{VIEW} .clear').getBoundingClientRect().top + scrollY"))
    assert len(places) == 1


def test_the_page_opens_on_input_and_relevance(page):
    assert frame(page) == "relevance"
    assert page.run("document.querySelector('.given img').getBoundingClientRect().height") > 100


# -- colours -----------------------------------------------------------------------------------------------------


def opacities(page):
    """Of the heatmaps that are shown: of cards, of the graph's nodes, of the picture."""
    return page.run(
        f"[...document.querySelectorAll('{VIEW} .panel:not([hidden]) .where, {VIEW} .node img, {VIEW} .picture')]"
        ".map(e => Number(getComputedStyle(e).opacity))"
    )


def seen(page, selector):
    """The heatmap of a card, pixel for pixel: uint8 [64, 64, 3]."""
    box = f"document.querySelector('{selector}').style"
    page.run(f"({box}.cssText += ';width:64px;height:64px;border-radius:0;transition:none')")
    picture = Image.open(io.BytesIO(page.screenshot(of=selector))).convert("RGB")
    page.run(f"({box}.cssText = '')")
    assert picture.size == (64, 64)
    return np.asarray(picture)


def test_the_scale_of_heatmaps_is_switched_by_keyboard(page, explanation):
    layer = explanation.layers[0]
    limit = images.shared_limit([part.heatmap for part in layer.ranked])
    part = min(layer.ranked, key=lambda part: images.colour_limit(part.heatmap))
    own = images.colour_limit(part.heatmap)
    nodes = [node.heatmap for node in explanation.graph.nodes if node.layer == layer.layer]
    limit = max(limit, images.shared_limit(nodes))
    card = f"#layer-0-concept-{part.concept}"
    shared = opacities(page)
    assert min(shared) < 0.5
    text = f"document.querySelector('{VIEW} .panel:not([hidden]) .scale-note').innerText"
    assert page.run(text) == f"Heatmaps of this layer share one colour scale: colours are full at ±{limit:.3g}."
    expected = images.tinted(explanation.picture, part.heatmap, limit).astype(int)
    # pictures of two steps (levels of a small picture, opacity), each rounded
    assert np.abs(seen(page, f"{card} .heat") - expected).max() <= 4
    page.run("document.querySelector('[data-scale=own]').focus()")
    page.press(" ")
    assert page.run("document.querySelector('[data-scale=own]').getAttribute('aria-pressed')") == "true"
    assert set(opacities(page)) == {1}
    assert page.run(text) == "Each heatmap has its own colour scale: compare concepts by share, not by colour."
    assert page.run(f"document.querySelector('{card} .place .own').innerText") == f"full at ±{wording.number(own)}"
    expected = images.tinted(explanation.picture, part.heatmap).astype(int)
    assert np.abs(seen(page, f"{card} .heat") - expected).max() <= 4
    # what is printed has the scale that is chosen, and says which
    page.media(kind="print")
    assert page.run(text).startswith("Each heatmap has its own colour scale")
    page.run("document.querySelector('[data-scale=layer]').click()")
    assert page.run(text).startswith("Heatmaps of this layer share one colour scale")
    assert opacities(page) == shared
    page.media()
    # the large picture of a concept is on the scale of its card
    page.hover(f"{card} .word")
    large = f"Number(getComputedStyle(document.querySelector('{VIEW} .frame.concept .picture')).opacity)"
    assert page.run(large) == pytest.approx((own / limit) ** 0.5, abs=1e-3)
    full = f"document.querySelector('{VIEW} .full').innerText"
    assert page.run(full) == f"full at ±{wording.number(limit)}"
    page.run("document.querySelector('[data-scale=own]').click()")
    assert page.run(full) == f"full at ±{wording.number(own)}"
    page.mouse("Moved", (2, 2))
    assert page.run(full) == f"full at ±{wording.number(images.colour_limit(explanation.heatmap))}"


def test_a_concept_without_heatmap_shows_its_cells_on_the_scale_of_all_concepts(page, explanation):
    layer = explanation.layers[0]
    table = layer.concept_map.table
    peaks = np.abs(table).max((0, 1))
    shown = {part.concept for part in layer.ranked} | {node.concept for node in explanation.graph.nodes}
    weak = min(set(range(64)) - shown, key=lambda concept: peaks[concept])
    page.run(f"location.hash = 'layer3/{weak}'")
    page.run("new Promise(done => setTimeout(done, 50))")
    rect = f"document.querySelector('{VIEW} .frame.concept rect')"
    fade = (peaks[weak] / peaks.max()) ** 0.5
    assert page.run(f"document.querySelector('{VIEW} .full').innerText") == f"full at ±{peaks.max():.3g} a cell"
    assert page.run(f"Number(getComputedStyle({rect}).opacity)") == pytest.approx(fade, abs=1e-3)
    page.click("[data-scale=own]")
    assert page.run(f"getComputedStyle({rect}).opacity") == "1"


def test_a_concept_has_one_colour_in_all_views(page, explanation):
    """On cards, in the map, its legend, the ranking of a region and the graph, of every view."""
    colours = palette.concept_colours(explanation)
    found = set()
    for view in range(3):
        if view:
            page.click(f'[data-switch="{view}"]')
        page.drag(at(page, 0, 0), at(page, 6, 6))
        for kind, one, place in (
            ("card", ".card", ".chip"), ("node", ".node:not(.root)", ".chip"), ("legend", ".legend li", "i"),
            ("map", ".region-of", ".cell"), ("ranking", ".ranking li", ".chip"),
        ):  # fmt: skip
            shown = page.run(
                f"[...document.querySelectorAll('{VIEW} {one}')].map(e => [e.dataset.layerName ?? "
                "Number(e.closest('[data-layer]').dataset.layer), Number(e.dataset.concept), "
                f"e.querySelector('{place}')])"
                ".filter(([, , c]) => c).map(([layer, concept, c]) => [layer, concept, "
                "c.tagName === 'rect' ? getComputedStyle(c).fill : getComputedStyle(c).backgroundColor])"
            )
            assert shown
            for layer, concept, colour in shown:
                name = layer if isinstance(layer, str) else explanation.layers[layer].layer
                code = colours[name].get(concept, palette.OTHER)
                assert colour == f"rgb({', '.join(str(int(code[i : i + 2], 16)) for i in (1, 3, 5))})", (kind, concept)
                found.add(kind)
    assert found == {"card", "node", "legend", "map", "ranking"}


def test_all_edges_of_the_graph_stay_drawn(page, explanation):
    """The sentence above the graph counts them, so pointing at a concept makes none disappear."""
    count = (
        f"[...document.querySelectorAll('{VIEW} .edge')].filter(e => Number(getComputedStyle(e).opacity) > 0 && "
        "e.getTotalLength() > 0 && parseFloat(getComputedStyle(e).strokeWidth) >= 1).length"
    )
    lead = page.run(f"document.querySelector('{VIEW} .graph .lead').textContent")
    assert wording.edges_drawn(explanation.graph) in lead
    assert page.run(count) == len(explanation.graph.edges)
    page.hover(f"{VIEW} .node:nth-child(3)")
    assert page.run(count) == len(explanation.graph.edges)


# -- search and addresses ----------------------------------------------------------------------------------------


def found(page):
    return page.run("[...document.querySelectorAll('#found:not([hidden]) li')].map(e => e.textContent)")


def test_search_finds_numbers_layers_and_classes(page, explanation):
    concept = explanation.layers[1].ranked[0].concept
    page.click("#search")
    page.type(f"layer4/{concept}")
    assert found(page)[0].startswith(f"layer4 · {concept}")
    page.press("Enter")
    assert (open_panels(page), pinned(page), found(page)) == ([1], [concept], [])
    page.click("#search")
    page.run("document.querySelector('#search').value = ''")
    page.type("fox")
    assert ["fox" in line for line in found(page)] == [True] * 8
    assert page.run("document.querySelector('#found-count').textContent") == "18 concepts found"
    page.press("ArrowDown")
    page.press("ArrowDown")
    page.press("ArrowUp")
    best = max((part for layer in explanation.layers for part in layer.ranked), key=lambda part: abs(part.share))
    assert focused(page).startswith(f"{best.layer} · {best.concept}")
    page.press("Enter")
    assert pinned(page) == [best.concept]
    page.click("#search")
    page.run("document.querySelector('#search').value = ''")
    page.type("nothing")
    assert found(page) == []
    assert page.run("document.querySelector('#found-count').textContent") == "0 concepts found"


def test_results_open_by_click_and_close_by_escape(page, explanation):
    concept = explanation.layers[0].ranked[1].concept
    page.click("#search")
    page.type(f"{concept}")
    page.press("Escape")
    assert found(page) == []
    page.type(f"{concept}")
    page.click("#found li button")
    assert pinned(page) == [concept]


def test_an_address_opens_the_page_at_a_concept(browser, file, explanation):
    part = explanation.layers[1].ranked[2]
    for fragment in (f"layer4/{part.concept}", f"layer-1-concept-{part.concept}"):
        browser.open(file, fragment)
        assert (open_panels(browser), pinned(browser)) == ([1], [part.concept])
        assert focused(browser) == f"Concept {part.concept}"
    other = explanation.beside[1].layers[0].ranked[0]
    browser.open(file, f"layer3/{other.concept}@2")
    assert browser.run(f"document.querySelector('{VIEW}').id") == "view-2"
    assert pinned(browser) == [other.concept]
    for fragment in ("layer3/64", "nowhere/1", "%", "layer3/1@9"):
        browser.open(file, fragment)
        assert browser.complaints == []
    browser.open(file)
    browser.run(f"location.hash = 'layer4/{part.concept}'")
    browser.run("new Promise(done => setTimeout(done, 50))")
    assert pinned(browser) == [part.concept]


# -- what the page promises to everybody -------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["as opened", "in use", "narrow and dark", "difference"])
def test_axe_finds_no_fault(page, explanation, state):
    axe = resources.files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
    if state == "in use":
        page.drag(at(page, 1, 1), at(page, 4, 4))
        page.click(f"#layer-0-concept-{explanation.layers[0].ranked[0].concept} .pick")
        page.click("#search")
        page.type("1")
        page.run("document.querySelector('.account').open = true")
    elif state == "narrow and dark":
        page.resize(400, 800)
        page.media(dark=True)
    elif state == "difference":
        page.click('[data-switch="2"]')
    page.run(f"{axe}; 1")
    faults = page.run(
        "axe.run(document, {resultTypes: ['violations']}).then(result => result.violations.map(fault => "
        "[fault.impact, fault.id, fault.nodes.slice(0, 3).map(node => node.html.slice(0, 200))]))"
    )
    assert faults == []


def test_axe_can_find_a_fault(page):
    """The look at the page is no look away: a picture without words is found."""
    axe = resources.files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
    page.run("document.querySelector('.where').removeAttribute('alt')")
    page.run(f"{axe}; 1")
    only = "axe.run({runOnly: ['image-alt']})"
    assert page.run(f"{only}.then(result => result.violations.map(fault => fault.id))") == ["image-alt"]


def test_everything_is_reached_by_tab(page):
    """Every control takes the focus in turn; of tabs and cells one each, as the arrow keys do the rest."""
    reached = []
    for _ in range(200):
        page.press("Tab")
        name = page.run(
            "(e => e === document.body ? '' : e.getAttribute('role') || e.className || e.id || e.tagName)"
            "(document.activeElement)"
        )
        if not name:
            break
        reached.append(name)
    else:
        pytest.fail("the focus never comes out of the page")
    assert reached[0] == "skip"
    assert {"search", "gridcell", "tab", "pick", "group", "SUMMARY"} <= set(reached)
    assert any(name.startswith("node") for name in reached)
    assert reached.count("gridcell") == 1
    assert reached.count("tab") == 1


def test_hostile_names_stay_text(browser, tmp_path):
    hostile = examples.HOSTILE + "<img src=x onerror=alert(1)>"
    value = examples.beside(
        examples.explanation(names=(hostile, hostile), image=hostile, layers=(hostile,), patches=1),
        names=(hostile, hostile),
        layers=(hostile,),
        patches=1,
    )
    path = Atlas(value).save(tmp_path / "hostile.html")
    browser.open(path)
    assert browser.complaints == []
    assert browser.run("document.querySelectorAll('script').length") == 3
    assert browser.run("document.querySelectorAll('img[src=x]').length") == 0
    # also what the script writes: captions, results, addresses
    browser.drag(at(browser, 0, 0), at(browser, 4, 4))
    browser.click(f"{VIEW} .ranking button")
    browser.click("#search")
    browser.type("1")
    browser.click("#found button")
    browser.hover(f"{VIEW} .node:nth-child(2)")
    browser.click('[data-switch="2"]')
    assert browser.run("document.querySelectorAll('script').length") == 3
    assert browser.run("document.querySelectorAll('img[src=x]').length") == 0
    assert browser.complaints == []
    assert "<script>alert(1)" in browser.run(f"document.querySelector('{VIEW} .question').textContent")
    assert {address.split(":")[0] for address in browser.requests} <= {"file", "data"}


def test_without_scripts_everything_is_said(browser, file, explanation):
    browser.open(file, scripts=False)
    shown = [layer for view in (explanation, *explanation.beside) for layer in view.layers]
    # scripts of the page are off; the test's own questions are not
    count = "[...document.querySelectorAll('{}')].filter(e => e.getBoundingClientRect().height > 0).length"
    assert browser.run(count.format(".card")) == sum(len(layer.ranked) for layer in shown)
    assert browser.run(count.format(".map svg")) == len(shown)
    assert browser.run(count.format(".net")) == 1 + len(explanation.beside)
    assert browser.run(count.format(".tabs, .tools, .views, .region, .grid")) == 0


def test_print_shows_every_layer_and_no_controls(page, explanation):
    page.media(kind="print")
    count = "[...document.querySelectorAll('{}')].filter(e => e.getBoundingClientRect().height > 0).length"
    assert page.run(count.format(".panel")) == len(explanation.layers)
    assert page.run(count.format(".map svg")) == len(explanation.layers)
    assert page.run(count.format(".card")) == sum(len(layer.ranked) for layer in explanation.layers)
    assert page.run(count.format("input, .tabs, .views, .tools, .grid, .clear")) == 0


@pytest.mark.parametrize("width", [320, 768, 1300])
def test_nothing_is_wider_than_the_window(page, width):
    page.resize(width, 800)
    assert page.run("document.documentElement.scrollWidth") <= width


def test_light_and_dark(page):
    colours = []
    for dark in (False, True):
        page.media(dark=dark)
        colours.append(page.run("getComputedStyle(document.body).backgroundColor"))
    assert colours == ["rgb(251, 251, 249)", "rgb(19, 20, 23)"]


def test_a_layer_without_space_has_no_cells(browser, tmp_path):
    value = examples.explanation(layers=("conv", "fc"), patches=1)
    layer = dataclasses.replace(value.layers[1], concept_map=None)
    value = dataclasses.replace(value, layers=(value.layers[0], layer))
    path = tmp_path / "flat.html"
    path.write_text(render(value), "utf-8")
    browser.open(path)
    browser.click("#tab-1")
    assert browser.run(f"document.querySelector('{VIEW} .grid').hidden")
    assert browser.run(f"document.querySelector('{VIEW} .region').hidden")
    assert browser.run(f"document.querySelector('{VIEW} [data-show=map]').disabled")
    browser.click(f"#layer-1-concept-{layer.ranked[0].concept} .pick")
    assert pinned(browser) == [layer.ranked[0].concept]
    without = next(i for i in range(64) if i not in {part.concept for part in layer.ranked})
    browser.open(path, f"fc/{without}")
    assert caption(browser).startswith(f"Concept {without} of fc: ")
    assert browser.complaints == []


def test_a_regression_whose_layer_conserves_nothing(browser, tmp_path, explanation):
    """One negative output, negative coverage: sentences instead of shares, in words that fit a value."""
    score = ClassScore(0, "output", -0.1158, None)
    layer = dataclasses.replace(explanation.layers[0], coverage=-2.09)
    value = dataclasses.replace(
        explanation, classes=(score,), target=score, layers=(layer,), absorbed=2.76, beside=(), graph=None
    )
    path = tmp_path / "regression.html"
    path.write_text(render(value), "utf-8")
    browser.open(path)
    text = browser.run("document.body.innerText").replace("\N{NO-BREAK SPACE}", " ")
    for sentence in (
        "The model’s output is −0.116",
        "What is explained is negative (−0.116): what supports raises it, what opposes lowers it.",
        "Relevance is not conserved here: −2.1 times what started at the output arrives at this layer",
        "Relevance is not conserved: at the input it adds up to −1.8 times what started at the output",
        "Relevance for the output: colours are full at",
    ):
        assert sentence in text
    for wrong in ("class 0", "over 99", "209", "276", "of the prediction"):
        assert wrong not in text.split("How to read this page")[0]
    assert browser.complaints == []


def test_the_page_holds_its_numbers(page, explanation):
    content = page.run("document.getElementById('atlas-numbers').textContent")
    assert json.loads(content)["graph"]["nodes"][0]["name"] == "zebra"
