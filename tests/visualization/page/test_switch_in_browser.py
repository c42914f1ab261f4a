"""Concepts switched off on the page: the answers are those of live runs, by mouse, keyboard and address."""

import json
import re
from dataclasses import replace
from importlib import resources
from itertools import combinations

import pytest
from torch import nn

import crp
from crp.visualization import concentration_wording, wording
from crp.visualization.atlases import Atlas
from page_in_browser import VIEW, faults, focused, open_panels, pinned
from tests.ablated import explained, image, library, live, network

ROWS = "[...document.querySelectorAll('.classes tr[data-logit]')]"


@pytest.fixture(scope="module")
def switched(tmp_path_factory):
    return explained(tmp_path_factory.mktemp("switched"), against=7)


@pytest.fixture(scope="module")
def file(switched, tmp_path_factory):
    return Atlas(switched).save(tmp_path_factory.mktemp("switch") / "atlas.html")


def of_classes(page, what):
    return page.run(f"Object.fromEntries({ROWS}.map(e => [e.dataset.class, Number(e.dataset.{what})]))")


def cards(page):
    shown = f"[...document.querySelectorAll('{VIEW} .panel:not([hidden]) .card')]"
    return page.run(f"{shown}.map(e => Number(e.dataset.concept))")


@pytest.fixture
def page(page):
    """The page with all cards open, so that each can be clicked."""
    page.run("document.querySelectorAll('.fold details').forEach(fold => { fold.open = true; })")
    return page


def off(page):
    pressed = f"[...document.querySelectorAll('{VIEW} .without[aria-pressed=true]')]"
    return page.run(f"{pressed}.map(e => Number(e.closest('.card').dataset.concept))")


def effect(page, card):
    return page.run(f"document.querySelector('#{card} .effect').textContent").replace("\N{NO-BREAK SPACE}", " ")


def answer(page):
    return page.run("document.querySelector('.switched .answer').textContent").replace("\N{NO-BREAK SPACE}", " ")


def hidden(page):
    return page.run("document.querySelector('.switched').hidden")


# The tables of both layers and both ways are compared with live runs in tests/crp/explanations/test_ablations.py.
@pytest.mark.parametrize(
    "place, how",
    [
        (0, "without"),
        (1, "mean"),
        pytest.param(0, "mean", marks=pytest.mark.slow),
        pytest.param(1, "without", marks=pytest.mark.slow),
    ],
)
def test_eight_concepts_and_their_28_pairs_are_live_runs(page, switched, place, how):
    model, layer = network(), switched.layers[place]
    strongest = [part.concept for part in layer.ranked[:8]]
    wanted = [(one,) for one in strongest] + [*combinations(strongest, 2)]
    assert len(wanted) == 36
    for row in wanted:
        output, ids = live(model, layer.layer, row, how == "mean"), ",".join(map(str, row))
        page.run(f"location.hash = '&{how}={layer.layer}/{ids}'; new Promise(done => setTimeout(done))")
        assert sorted(off(page)) == sorted(row)
        logits, probabilities = of_classes(page, "logit"), of_classes(page, "probability")
        assert {score.index for score in switched.classes} <= {int(index) for index in logits}
        for index, logit in logits.items():
            assert logit == pytest.approx(float(output[int(index)]), abs=1e-5)
            assert probabilities[index] == pytest.approx(float(output.softmax(0)[int(index)]), abs=1e-5)
        shown = float(page.run("document.querySelector('.switched').dataset.value"))
        assert shown == pytest.approx(float(output[switched.target.index]), abs=1e-5)
        # the predicted class is the first one of the table, listed before or not
        first = page.run("document.querySelector('.classes tbody tr').dataset.class")
        assert int(first) == int(output.argmax())


def test_a_card_is_switched_off_by_click_and_all_of_it_comes_back(page, switched):
    layer = switched.layers[0]
    part = layer.ranked[2]
    card = f"layer-0-concept-{part.concept}"
    before = page.run("document.querySelector('.top').innerHTML + document.querySelector('.layers').innerText")
    order = cards(page)
    page.click(f"#{card} .without")
    assert off(page) == [part.concept]
    assert focused(page, "className") == "without"
    output = live(network(), layer.layer, [part.concept])
    best = output.softmax(0).argmax()
    assert answer(page).startswith(f"Without concept {part.concept} of {layer.layer}: the model ")
    assert f"sees class-{'abcdefghij'[best]} (" in answer(page)
    logits = f"logit {wording.number(switched.target.logit)} → {wording.number(float(output[switched.target.index]))}"
    assert answer(page).endswith(f"{logits}.")
    assert effect(page, card).endswith(logits)
    assert page.run("location.hash") == f"#&without={layer.layer}/{part.concept}"
    page.click(".reset")
    assert (off(page), hidden(page), cards(page), page.run("location.hash")) == ([], True, order, "")
    after = page.run("document.querySelector('.top').innerHTML + document.querySelector('.layers').innerText")
    assert after == before
    assert focused(page, "className") == "without"


def test_effects_and_order_of_the_other_cards_are_those_without_it(page, switched):
    layer, model, target = switched.layers[0], network(), switched.target.index
    strongest = [part.concept for part in layer.ranked]
    first = strongest[0]
    page.click(f"#layer-0-concept-{first} .without")
    now, falls = float(live(model, layer.layer, [first])[target]), {}
    for other in strongest[1:8]:
        then = float(live(model, layer.layer, [first, other])[target])
        falls[other] = abs(now - then)
        shown = effect(page, f"layer-0-concept-{other}")
        assert shown.startswith("without it, too: ")
        assert shown.endswith(f"logit {wording.number(now)} → {wording.number(then)}")
    assert cards(page)[:8] == [first, *sorted(falls, key=lambda one: -falls[one])]
    # pairs are stored of eight concepts; the others keep their order at the end, and say so
    assert cards(page)[8:] == strongest[8:] != []
    # as many stay folded as before
    folded = page.run(f"document.querySelectorAll('{VIEW} .panel:not([hidden]) .fold .card').length")
    said = page.run(f"document.querySelector('{VIEW} .panel:not([hidden]) .fold summary').textContent")
    assert said == f"{folded} more concepts"
    assert folded == len(strongest) - concentration_wording.open_cards(layer) > 0
    for other in strongest[8:]:
        assert effect(page, f"layer-0-concept-{other}") == "without it, too: not stored"
    page.click(f"#layer-0-concept-{strongest[9]} .without")
    assert "pairs are stored of the 8 concepts of high with the largest shares" in answer(page)
    assert off(page) == [first]
    page.click(f"#layer-0-concept-{first} .without")
    page.click(f"#layer-0-concept-{strongest[9]} .without")  # alone it is stored
    assert off(page) == [strongest[9]]


def test_by_keyboard_two_go_and_a_third_is_refused(page, switched):
    layer = switched.layers[0]
    first, second, third = (part.concept for part in layer.ranked[:3])
    for concept, key in ((first, "Enter"), (second, " ")):
        page.run(f"document.querySelector('#layer-0-concept-{concept} .without').focus()")
        page.press(key)
        assert focused(page, "closest('.card').id") == f"layer-0-concept-{concept}"
    assert sorted(off(page)) == sorted([first, second])
    assert sorted(cards(page)[:2]) == sorted([first, second])
    disabled = f"document.querySelector('#layer-0-concept-{third} .without').getAttribute('aria-disabled')"
    assert page.run(disabled) == "true"
    page.run(f"document.querySelector('#layer-0-concept-{third} .without').focus()")
    page.press("Enter")
    assert answer(page) == "The page holds outputs without one or two concepts, not without three: switch one on first."
    assert page.run("document.querySelector('.switched .answer').getAttribute('role')") == "status"
    assert len(off(page)) == 2
    page.press("Escape")
    assert (off(page), hidden(page)) == ([], True)
    assert page.run(disabled) == "false"


def instead(page):
    return page.run("document.querySelector('.instead :checked').value")


def test_what_is_off_becomes_zero_or_its_mean_by_mouse_and_keyboard(page, switched):
    layer, model, target = switched.layers[0], network(), switched.target
    first, other = (part.concept for part in layer.ranked[:2])
    card = f"layer-0-concept-{first}"
    page.click(f"#{card} .without")
    at_zero = answer(page)
    assert instead(page) == "zero"
    note = "document.querySelector('.switched .note').textContent"
    assert page.run(note).startswith("Concepts that are off are set to zero")
    page.click(".instead label:nth-of-type(2)")
    assert (instead(page), off(page), hidden(page)) == ("their mean", [first], False)
    assert page.run("location.hash") == f"#&mean={layer.layer}/{first}"
    now = float(live(model, layer.layer, [first], at_mean=True)[target.index])
    logits = f"logit {wording.number(target.logit)} → {wording.number(now)}"
    assert answer(page).startswith(f"With concept {first} of {layer.layer} at its mean: the model ")
    assert answer(page).endswith(f"{logits}.")
    assert effect(page, card).endswith(logits)
    then = float(live(model, layer.layer, [first, other], at_mean=True)[target.index])
    shown = effect(page, f"layer-0-concept-{other}")
    assert shown.startswith("at its mean, too: ")
    assert shown.endswith(f"logit {wording.number(now)} → {wording.number(then)}")
    assert page.run("document.querySelector('.classes caption').textContent").endswith(
        f"with concept {first} of {layer.layer} at its mean"
    )
    assert "set to their mean over the mined data" in page.run(note)
    page.run("document.querySelector('.instead :checked').focus()")
    page.press("ArrowUp")
    assert (instead(page), answer(page), focused(page, "value")) == ("zero", at_zero, "zero")
    page.press("ArrowDown")
    assert (instead(page), focused(page, "value")) == ("their mean", "their mean")
    # the choice stays for the next concept
    page.click(".reset")
    page.click(f"#layer-0-concept-{other} .without")
    assert answer(page).startswith(f"With concept {other} of {layer.layer} at its mean")
    page.click(f"#{card} .without")
    assert " at their means: " in answer(page)
    page.press("Escape")
    assert (off(page), hidden(page), page.run("location.hash")) == ([], True, "")


def test_of_a_library_without_means_zero_alone_is_offered(browser, switched, tmp_path):
    """The switch says why; an address that asks for means is refused."""
    layers = [replace(layer, mean_ablations=None) for layer in switched.layers]
    value = replace(switched, layers=layers, beside=())
    path, concept = Atlas(value).save(tmp_path / "zero.html"), layers[0].ranked[0].concept
    browser.open(path, f"&without=high/{concept}")
    assert browser.run("[...document.querySelectorAll('.instead input')].map(one => one.disabled)") == [False, True]
    assert "The library holds no means of this layer." in browser.run("document.querySelector('.note').textContent")
    browser.open(path, f"&mean=high/{concept}")
    assert off(browser) == []
    assert answer(browser) == "The page holds no outputs with concepts of high at their means: the library has none."
    browser.click(f"#layer-0-concept-{concept} .without")
    assert off(browser) == []
    browser.click(".instead label:nth-of-type(1)")
    browser.click(f"#layer-0-concept-{concept} .without")
    assert off(browser) == [concept]
    assert browser.complaints == []


def test_concepts_of_two_layers_are_refused(page, switched):
    page.click(f"#layer-0-concept-{switched.layers[0].ranked[0].concept} .without")
    page.click("#tab-1")
    page.click(f"#layer-1-concept-{switched.layers[1].ranked[0].concept} .without")
    assert answer(page) == (
        "The page holds no outputs without concepts of two layers at once: switch those of high on first."
    )
    assert off(page) == [switched.layers[0].ranked[0].concept]


def test_an_address_opens_the_page_with_concepts_off(browser, file, switched, few):
    low = switched.layers[1]
    one, two, kept = (part.concept for part in low.ranked[:3])
    browser.open(file, f"mixed/{kept}&without=mixed/{one},{two}")
    assert (open_panels(browser), pinned(browser), sorted(off(browser))) == ([1], [kept], sorted([one, two]))
    browser.open(file, f"&without=mixed/{one}")
    assert (open_panels(browser), pinned(browser), off(browser)) == ([1], [], [one])
    browser.click(f"#layer-1-concept-{kept} .pick")
    assert browser.run("location.hash") == f"#mixed/{kept}&without=mixed/{one}"
    browser.run("navigator.clipboard.writeText = async text => { window.copied = text; }; 1")
    browser.run(f"document.querySelector('#layer-1-concept-{two} .takes button').click()")  # a link to that card
    assert browser.run("copied.split('#')[1]") == f"mixed/{two}&without=mixed/{one}"
    nobody = next(index for index in range(16) if index not in {part.concept for part in low.ranked})
    browser.open(file, f"&without=mixed/{nobody}")
    assert answer(browser) == f"The page holds no output without concept {nobody} of mixed: it has no card."
    unclear = ("&without=", "&without=%", "&without=mixed/1,2,3,4", "&mean=", "&mean=mixed/x")
    for fragment in (f"&without=nowhere/{one}", *unclear):
        browser.open(few[1], fragment)
        assert off(browser) == []
        assert browser.complaints == []


def test_another_view_answers_for_its_own_class(page, file, switched):
    """The difference of two classes: what both views show stays off, and the value is that of the difference."""
    other = switched.beside[1]
    shown = {part.concept for part in switched.layers[0].ranked} & {part.concept for part in other.layers[0].ranked}
    concept = sorted(shown)[0]
    page.click(f"#layer-0-concept-{concept} .without")
    page.click('[data-switch="2"]')
    assert off(page) == [concept]
    output = live(network(), "high", [concept])
    value = float(output[switched.target.index] - output[7])
    assert float(page.run("document.querySelector('.switched').dataset.value")) == pytest.approx(value, abs=1e-5)
    before = switched.target.logit - other.against.logit
    assert answer(page).endswith(f": difference {wording.number(before)} → {wording.number(value)}.")
    assert page.run("location.hash") == f"#@2&without=high/{concept}"
    page.open(file, f"@2&without=high/{concept}")
    assert off(page) == [concept]
    assert page.run(f"document.querySelector('{VIEW}').id") == "view-2"


def test_a_model_with_one_output_has_values_and_no_probabilities(browser, tmp_path):
    value = explained(tmp_path, outputs=1)
    path = Atlas(value).save(tmp_path / "one.html")
    concept = value.layers[0].ranked[0].concept
    browser.open(path, f"&without=high/{concept}")
    output = float(live(network(1), "high", [concept])[0])
    change = f"{wording.number(value.target.value)} → {wording.number(output)}"
    assert answer(browser) == f"Without concept {concept} of high: the output: {change}."
    assert browser.run("document.querySelector('.classes .value').textContent") == wording.number(output)
    assert browser.run("document.querySelector('.outcome').children.length") == 0
    text = browser.run("document.querySelector('.switched').innerText + document.querySelector('.classes').innerText")
    assert not re.search("probab|logit|sees|%", text)
    assert browser.complaints == []


def test_a_model_that_ends_with_a_sigmoid_has_a_probability_for_each_class(browser, tmp_path):
    model = network()
    model.add_module("sigmoid", nn.Sigmoid())
    found = crp.explain(model, image(), library(model, tmp_path / "labels.crp"))
    concept = found.layers[0].ranked[0].concept
    browser.open(Atlas(found).save(tmp_path / "labels.html"), f"&without=high/{concept}")
    output = live(network(), "high", [concept])
    for index, probability in of_classes(browser, "probability").items():
        assert probability == pytest.approx(float(output[int(index)].sigmoid()), abs=1e-5)
    # they do not add up to 1, so there are no others that hold the rest
    assert browser.run("document.querySelectorAll('.outcome .rest').length") == 0


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Few cards and no graph, of which axe makes less work."""
    folder = tmp_path_factory.mktemp("few")
    explanation = explained(folder, concepts=2, graph=False)
    return explanation, Atlas(explanation).save(folder / "atlas.html")


# With two off, the page has what it has with one; means have the same words in the same places.
SLOW_STATES = [pytest.param(state, marks=pytest.mark.slow) for state in ("one", "mean")]


@pytest.mark.parametrize("state", ["two", "narrow and dark", "refused", *SLOW_STATES])
def test_axe_finds_no_fault(browser, few, state):
    explanation, file = few
    chosen = [part.concept for part in explanation.layers[0].ranked[: {"two": 2, "refused": 3}.get(state, 1)]]
    browser.open(file)
    browser.run("document.querySelectorAll('.fold details').forEach(fold => { fold.open = true; })")
    if state == "narrow and dark":
        browser.resize(400, 800)
        browser.media(dark=True)
    for concept in chosen:
        browser.click(f"#layer-0-concept-{concept} .without")
    if state == "mean":
        browser.click(".instead label:nth-of-type(2)")
    assert answer(browser).startswith({"refused": "The page holds outputs", "mean": "With "}.get(state, "Without "))
    assert faults(browser) == []
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert browser.complaints == []


def test_without_scripts_and_in_print_there_is_no_switch(browser, file, switched):
    browser.open(file, scripts=False)
    assert browser.run("document.querySelectorAll('.without, .switched').length") == 0
    browser.open(file, f"&without=high/{switched.layers[0].ranked[0].concept}")
    browser.media(kind="print")
    count = "[...document.querySelectorAll('{}')].filter(e => e.getBoundingClientRect().height > 0).length"
    assert browser.run(count.format(".without, .reset, .instead")) == 0
    assert browser.run(count.format(".switched .answer")) == 1


def test_the_page_grows_by_little(switched, tmp_path):
    """What is stored for the switch, with all of its script, is less than a tenth of the page."""
    content = Atlas(switched).html()
    stored = re.findall(r'"ablations":\{.*?"spread"', content)
    assert len(stored) == 2 * 3  # for the script; the numbers are packed
    script = sum(
        len(resources.files("crp.visualization").joinpath("page", "templates", name).read_bytes())
        for name in ("ablations.js", "switch.js")
    )
    assert json.loads(re.search(r'id="atlas-cells">(.*?)</script>', content)[1])[0][0]["ablations"]["removed"][0] == []
    assert sum(map(len, stored)) + script < 0.1 * len(content)
