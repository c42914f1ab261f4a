"""The page in a real browser: every control by mouse and by keyboard."""

import numpy as np

from crp.visualization import graph_wording, wording
from page_in_browser import VIEW, assert_ranked, at, caption, focused, frame, open_panels, pinned, selected


def test_pointing_at_a_card_lights_it_up_everywhere(page, explanation):
    part = explanation.layers[0].ranked[0]
    card = f"#layer-0-concept-{part.concept}"
    assert frame(page) == "relevance"
    page.hover(f"{card} .where")
    assert frame(page) == "concept"
    shares = wording.both_shares(explanation, part)
    assert "of the prediction" in shares
    assert caption(page) == f"Concept {part.concept} of layer3 {wording.side(part)}: {shares}."
    for what in ("backgroundImage", "backgroundPosition"):
        large, small = (
            f"getComputedStyle(document.querySelector('{picture}')).{what}"
            for picture in (f"{VIEW} .frame.concept .picture", f"{card} .where")
        )
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


def test_layers_of_the_picture(page, explanation):
    for view in ("input", "relevance", "map", "concept"):
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
    cards = f"[...document.querySelectorAll('{VIEW} .card')]"
    counts = page.run(f"{cards}.map(e => e.querySelectorAll('.patches b').length)")
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
    sentence = graph_wording.node_sentence(explanation.graph, explanation.graph.node("layer4", part.concept))
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
