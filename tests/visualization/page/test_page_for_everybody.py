"""What the page promises to everybody: axe, keyboard, hostile names, no scripts, print, narrow windows, dark."""

import dataclasses
import json

import pytest

import example_explanations as examples
from crp.explanations import ClassScore
from crp.visualization.atlases import Atlas
from crp.visualization.page.explanation_page import render
from crp.visualization.page.patch_sheets import SIDE
from page_in_browser import COLOURS, STATES, VIEW, at, caption, faults, pinned, printed_patches
from page_source import unpacked


def test_axe_finds_no_fault_on_the_whole_page(page):
    assert faults(page) == []


@pytest.fixture(scope="module")
def small():
    """An explanation whose page has everything once or twice, of which axe makes less work."""
    options = {"patches": 1, "supporting": 2, "opposing": 1}
    return examples.beside(examples.explanation(**options), **options)


@pytest.fixture(scope="module")
def small_file(small, tmp_path_factory):
    return Atlas(small).save(tmp_path_factory.mktemp("small") / "atlas.html")


@pytest.mark.parametrize("state", ["in use", "difference"])
def test_axe_finds_no_fault(browser, small_file, small, state):
    browser.open(small_file)
    if state == "in use":
        browser.drag(at(browser, 1, 1), at(browser, 4, 4))
        browser.click(f"#layer-0-concept-{small.layers[0].ranked[0].concept} .pick")
        browser.click("#search")
        browser.type("1")
        browser.run("document.querySelector('.account').open = true")
    elif state == "difference":
        browser.click('[data-switch="2"]')
    assert faults(browser) == []
    assert browser.complaints == []


@pytest.mark.parametrize(("narrow", "rules"), STATES[1:])
def test_axe_finds_no_fault_of_a_page_that_is(browser, small_file, narrow, rules):
    browser.open(small_file, width=400 if narrow else 1300)
    browser.media(dark=narrow)
    assert faults(browser, rules) == []
    assert browser.complaints == []


def test_axe_can_find_a_fault(browser, small_file):
    """The look at the page is no look away: a picture without words is found."""
    browser.open(small_file)
    browser.run("document.querySelector('.where').removeAttribute('aria-label')")
    assert [rule for _, rule, _ in faults(browser, "role-img-alt")] == ["role-img-alt"]


def test_axe_can_find_a_fault_of_colours(browser, small_file):
    """Where colours alone differ, the rules about colours are asked: grey on grey is among them."""
    grey = '<p style="color: #777; background: #666">grey on grey</p>'
    browser.open(small_file)
    browser.run(f"document.querySelector('main').insertAdjacentHTML('afterbegin', '{grey}')")
    assert [rule for _, rule, _ in faults(browser, COLOURS)] == ["color-contrast"]


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
    options = {"names": (hostile, hostile), "layers": (hostile,), "patches": 1, "supporting": 2, "opposing": 1}
    value = examples.beside(examples.explanation(image=hostile, **options), **options)
    path = Atlas(value).save(tmp_path / "hostile.html")
    browser.open(path)
    assert browser.complaints == []
    assert browser.run("document.querySelectorAll('script:not([data-packed])').length") == 4
    assert browser.run("document.querySelectorAll('img[src=x]').length") == 0
    # also what the script writes: captions, results, addresses
    browser.drag(at(browser, 0, 0), at(browser, 4, 4))
    browser.click(f"{VIEW} .ranking button")
    browser.click("#search")
    browser.type("1")
    browser.click("#found button")
    browser.hover(f"{VIEW} .node:nth-child(2)")
    browser.click('[data-switch="2"]')
    assert browser.run("document.querySelectorAll('script:not([data-packed])').length") == 4
    assert browser.run("document.querySelectorAll('img[src=x]').length") == 0
    assert browser.complaints == []
    assert "<script>alert(1)" in browser.run(f"document.querySelector('{VIEW} .question').textContent")
    assert {address.split(":")[0] for address in browser.requests} <= {"file", "data"}


def test_without_scripts_all_of_the_first_view_is_said(browser, file, explanation):
    browser.open(file, scripts=False)
    shown = explanation.layers
    # scripts of the page are off; the test's own questions are not
    count = "[...document.querySelectorAll('{}')].filter(e => e.getBoundingClientRect().height > 0).length"
    assert browser.run(count.format(".card")) == sum(len(layer.ranked) for layer in shown)
    assert browser.run(count.format(".map svg")) == len(shown)
    assert browser.run(count.format(".net")) == 1
    assert browser.run(count.format("[data-frame=relevance]")) == 1 + len(explanation.beside)
    missing = browser.run("[...document.querySelectorAll('noscript')].map(e => e.innerText)")
    assert [text.count("The concepts for this question are packed") for text in missing] == [1, 1]
    assert browser.run(count.format(".tabs, .tools, .views, .region, .grid")) == 0


def test_print_draws_every_patch_of_every_sheet(browser, tmp_path):
    """Patches are counted in the print itself: Chromium left out tall ones from the second sheet of paper on."""
    value = examples.explanation(shape=(40, 56), patches=2)  # heatmaps are of another size than patches
    (tmp_path / "page.html").write_text(render(value))
    browser.open(tmp_path / "page.html")
    # a cell, which may have a pixel of the next one
    cells = [(width, height) for width in range(SIDE, SIDE + 3) for height in range(SIDE, SIDE + 3)]
    expected, tall, printed = printed_patches(browser, tmp_path / "page.pdf", cells)
    assert expected > tall > 10  # what a wrong print would leave out is there
    assert printed == expected


def test_print_shows_every_layer_and_no_controls(page, explanation):
    page.media(kind="print")
    count = "[...document.querySelectorAll('{}')].filter(e => e.getBoundingClientRect().height > 0).length"
    assert page.run(count.format(".panel")) == len(explanation.layers)
    assert page.run(count.format(".map svg")) == len(explanation.layers)
    assert page.run(count.format(".card")) == sum(len(layer.ranked) for layer in explanation.layers)
    assert page.run(count.format("input, .tabs, .views, .tools, .grid, .clear")) == 0


def test_nothing_is_wider_than_the_window(page):
    for width in (320, 768, 1300):
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
    browser.mouse("Moved", (1, 1))  # where it does not point at a concept of the next page
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
        "The model sees this input as −0.116",
        "What is explained is negative (−0.116): supporting concepts raise it, opposing ones lower it.",
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
    assert json.loads(unpacked(content))["graph"]["nodes"][0]["name"] == "zebra"
