"""Regions of the picture in a real browser: selected by mouse and keyboard, ranked as Python ranks them."""

import numpy as np
import pytest

from browsing import CONTROL, SHIFT
from crp.visualization import wording
from page_in_browser import VIEW, assert_ranked, at, caption, focused, frame, pinned, ranking, selected


def told(page):
    """What the caption of the picture says of the region."""
    return page.run(f"document.querySelector('{VIEW} .answer').textContent")


def in_sight(page, selector):
    """Whether all of an element is in the window, and nothing lies on its middle."""
    return page.run(
        "(e => { const b = e.getBoundingClientRect(), x = b.left + b.width / 2, y = b.top + b.height / 2;"
        " return b.height > 0 && b.top >= 0 && b.bottom <= innerHeight &&"
        f" e.contains(document.elementFromPoint(x, y)); }})(document.querySelector('{selector}'))"
    )


@pytest.mark.parametrize("keyboard", [False, True])
@pytest.mark.parametrize("size", [(1300, 900), (900, 900), (390, 844), (1300, 640)])
def test_the_strongest_in_a_region_come_into_sight(browser, file, explanation, size, keyboard):
    """Where the ranking itself is below the window."""
    browser.open(file, width=size[0], height=size[1])
    grid = f"document.querySelector('{VIEW} .grid')"
    browser.run(f"scrollTo(0, {grid}.getBoundingClientRect().bottom + scrollY - innerHeight + 10)")  # just in sight
    if keyboard:
        browser.run(f"document.querySelector('{VIEW} [data-cell=\"8\"]').focus({{preventScroll: true}})")
        browser.press("ArrowRight", SHIFT)
        browser.press("ArrowDown", SHIFT)
    else:
        browser.drag(at(browser, 1, 1), at(browser, 2, 2))
    cells = [8, 9, 15, 16]
    assert selected(browser) == cells
    for row in (1, 2, 3):
        assert in_sight(browser, f"{VIEW} .answer li:nth-child({row})"), row
    found = browser.run(
        f"[...document.querySelectorAll('{VIEW} .answer li')].map(e => [Number(e.dataset.concept), e.innerText])"
    )
    assert [concept for concept, _ in found] == [concept for concept, _, _ in ranking(browser)[:3]]
    assert_ranked(browser, explanation.layers[0], cells)
    written = browser.run(f"[...document.querySelectorAll('{VIEW} .ranking strong')].map(e => e.textContent)")
    assert all(text.endswith(share) for (_, text), share in zip(found, written[:3], strict=True))
    assert browser.run("document.documentElement.scrollWidth") <= size[0]


def test_what_the_caption_names_leads_to_the_card_and_goes_with_the_region(page, explanation):
    page.drag(at(page, 0, 0), at(page, 6, 6))
    (first, *_), *_ = ranking(page)
    page.hover(f"{VIEW} .answer li:nth-child(1)")
    assert frame(page) == "concept"
    assert caption(page).startswith(f"Concept {first} of")
    assert told(page).startswith("49 cells selected")  # it stays under the pointer
    page.click(f"{VIEW} .answer li:nth-child(1) button")
    cards = [part.concept for part in explanation.layers[0].ranked]
    assert pinned(page) == [concept for concept in cards if concept == first]
    page.click("#tab-1")
    assert told(page) == ""


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
    assert told(page).startswith("4 cells selected, row 2 column 2 to row 3 column 3. Strongest there:Concept ")
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
