"""Cards of weaker concepts lie folded: opened by mouse, keyboard and links, printed as they are."""

import pytest

import example_explanations as examples
from crp.visualization import concentration_wording
from crp.visualization.atlases import Atlas
from page_in_browser import VIEW, focused, pinned

PANEL = f"{VIEW} .panel:not([hidden])"
SUMMARY = f"{PANEL} .fold summary"


@pytest.fixture(scope="module")
def folding():
    """One layer whose cards do not all lie open."""
    value = examples.explanation(3, layers=("layer3",), patches=1, supporting=8, opposing=4)
    (layer,) = value.layers
    assert 3 <= concentration_wording.open_cards(layer) < len(layer.ranked)
    return value


@pytest.fixture(scope="module")
def file(folding, tmp_path_factory):
    return Atlas(folding).save(tmp_path_factory.mktemp("folding") / "atlas.html")


def seen(page):
    """Concepts whose cards take up room."""
    cards = f"[...document.querySelectorAll('{PANEL} .card')].filter(e => e.checkVisibility())"
    return page.run(f"{cards}.map(e => Number(e.dataset.concept))")


@pytest.fixture
def ranked(folding):
    return [part.concept for part in folding.layers[0].ranked]


@pytest.fixture
def first(folding, ranked):
    return ranked[: concentration_wording.open_cards(folding.layers[0])]


def test_a_button_opens_the_rest_by_mouse_and_by_keyboard(page, folding, ranked, first):
    assert seen(page) == first
    assert page.run(f"document.querySelector('{SUMMARY}').textContent") == (
        concentration_wording.folded(folding.layers[0])
    )
    page.click(SUMMARY)
    assert seen(page) == ranked
    page.press("Enter")
    assert seen(page) == first
    page.press(" ")
    assert seen(page) == ranked


def test_what_stands_first_is_how_much_is_shown(page, folding):
    said = concentration_wording.concentration(folding.layers[0])
    assert page.run(f"document.querySelector('{PANEL} .ledger').firstElementChild.textContent") == said


@pytest.mark.parametrize("way", ["address", "search", "segment"])
def test_links_to_a_folded_card_open_it(browser, file, ranked, first, way):
    last = ranked[-1]
    if way == "address":
        browser.open(file, f"layer3/{last}")
    else:
        browser.open(file)
        assert last not in seen(browser)
        if way == "search":
            browser.click("#search")
            browser.type(f"layer3/{last}")
            browser.press("Enter")
        else:
            browser.run(f"document.querySelector('{PANEL} .sum [data-concept=\"{last}\"]').click()")
    assert seen(browser) == ranked
    assert pinned(browser) == [last]
    assert focused(browser).strip().startswith(f"Concept {last}")


@pytest.mark.parametrize("opened", [False, True])
def test_print_shows_what_is_open(page, ranked, first, opened):
    if opened:
        page.click(SUMMARY)
    page.media(kind="print")
    assert seen(page) == (ranked if opened else first)
    assert page.run(f"document.querySelector('{SUMMARY}').checkVisibility()")


def test_without_scripts_all_cards_are_open(browser, file, ranked):
    browser.open(file, scripts=False)
    assert seen(browser) == ranked
