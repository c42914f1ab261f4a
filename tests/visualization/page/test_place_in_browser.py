"""The mask or box that is explained: outlined on every picture, and how much of each concept lies outside of it."""

import dataclasses
import re

import numpy as np
import pytest

import example_explanations as examples
from crp.explanations import from_json, to_json
from crp.places import Place, box_place
from crp.visualization import place_wording
from crp.visualization.atlases import Atlas
from crp.visualization.inputs import page_renderer_for
from crp.visualization.inputs.picture_pages import PicturePages
from crp.visualization.page.outline import mask_path, outline_view
from example_inputs import explanation_of
from page_in_browser import COLOURS, VIEW, faults, frame

BOX = (10.5, 8.0, 40.0, 30.0)


@pytest.fixture(scope="module")
def explanation():
    found = examples.explanation(patches=2)
    return dataclasses.replace(found, place=box_place(BOX, found.heatmap.shape))


@pytest.fixture(scope="module")
def file(explanation, tmp_path_factory):
    return Atlas(explanation).save(tmp_path_factory.mktemp("page") / "atlas.html")


def outlines(page):
    """Where the outlines that are seen lie, relative to their pictures: left, top, right, bottom."""
    return page.run(
        "[...document.querySelectorAll('svg.outline')].filter(e => e.checkVisibility()).map(e => {"
        "const line = e.querySelector('use:not(.under)').getBoundingClientRect();"
        "const all = e.parentElement.getBoundingClientRect();"
        "return [e.parentElement.className, (line.left - all.left) / all.width, (line.top - all.top) / all.height,"
        "(line.right - all.left) / all.width, (line.bottom - all.top) / all.height]})"
    )


def test_the_box_is_outlined_where_it_is(page, explanation):
    height, width = explanation.heatmap.shape
    left, top, right, bottom = BOX
    expected = [left / width, top / height, right / width, bottom / height]
    found = outlines(page)
    cards = sum(len(layer.ranked) for layer in explanation.layers[:1])
    assert [name for name, *_ in found].count("given") == 1
    assert [name for name, *_ in found].count("frames") == 1
    assert 0 < [name for name, *_ in found].count("heat") <= cards
    for name, *sides in found:
        assert sides == pytest.approx(expected, abs=0.03), name  # half a line, on the smallest pictures
    for chosen in ("input", "map"):
        page.click(f"{VIEW} [data-show={chosen}]")
        assert frame(page) == chosen
        assert "frames" in [name for name, *_ in outlines(page)]


def test_cards_say_how_much_of_a_concept_is_outside(page, explanation):
    for index, part in enumerate(explanation.layers[0].ranked[:2]):
        values = np.clip(np.sign(part.share) * part.heatmap.astype(float), 0, None)
        outside = 1 - values[8:30, 11:40].sum() / values.sum()
        text = page.run(f"document.querySelector('#layer-0-concept-{part.concept} .facts').textContent")
        assert f"{100 * outside:.1f}\N{NO-BREAK SPACE}% outside the box" in text, index
    said = page.run(f"document.querySelector('{VIEW} .side').textContent")
    assert f"Outlined: the box, which covers {100 * 22 * 29 / explanation.heatmap.size:.1f}" in said


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_no_fault(page, dark):
    page.media(dark=dark)
    assert faults(page, COLOURS if dark else None) == []


def test_in_print_and_without_scripts_the_input_alone_is_outlined_beside_the_cards(browser, file):
    browser.open(file, scripts=False)
    assert "frames" not in [name for name, *_ in outlines(browser)]
    assert "given" in [name for name, *_ in outlines(browser)]
    browser.open(file)
    browser.media(kind="print")
    assert "frames" not in [name for name, *_ in outlines(browser)]


def test_the_place_is_kept_in_json(explanation):
    again = from_json(to_json(explanation))
    np.testing.assert_array_equal(again.place.mask, explanation.place.mask)
    assert again.place.box == BOX
    part = explanation.layers[0].supporting[0]
    assert again.context_of(again.layers[0].supporting[0]) == explanation.context_of(part)
    written = to_json(explanation)["layers"][0]["supporting"][0]["context"]
    assert written["context"] == pytest.approx(explanation.context_of(part).context)
    assert to_json(examples.explanation(patches=0))["place"] is None


def test_a_place_of_another_size_is_refused(explanation):
    with pytest.raises(Exception, match=r"^the place that is explained has the size \[2, 2\], and the picture \["):
        dataclasses.replace(explanation, place=Place(np.ones((2, 2))))


def test_a_mask_is_outlined_by_its_edges():
    mask = np.zeros((3, 4), bool)
    mask[1, 1:3] = True
    assert mask_path(mask) == "M1 1H3V2H1z"
    assert mask_path(np.ones((2, 2), bool)) == "M0 0H2V2H0z"
    large = np.zeros((4000, 2000), bool)
    large[1000:3000, 500:1500] = True
    # of a large picture, to within one pixel of the page
    assert mask_path(large) == "M500 1000H1500V3000H500z"


def upright_edges(path):
    """The vertical edges of a path, one unit each: (row, column)."""
    for loop in re.findall(r"M[^z]+z", path):
        column, row = map(int, re.match(r"M(\d+) (\d+)", loop).groups())
        for kind, to in [*re.findall(r"([HV])(\d+)", loop), ("V", str(row))]:
            if kind == "V":
                yield from ((place, column) for place in range(*sorted((row, int(to)))))
            row, column = (int(to), column) if kind == "V" else (row, int(to))


@pytest.mark.parametrize("seed", range(20))
def test_loops_are_around_what_is_in_a_mask(seed):
    """A cell is in the mask if an odd number of edges lies to its left; no edge is drawn twice."""
    mask = np.random.default_rng(seed).random((9, 7)) < (0.3, 0.5, 0.8)[seed % 3]
    edges = list(upright_edges(mask_path(mask)))
    assert len(set(edges)) == len(edges)
    left = [[sum(row == there and column <= at for there, column in edges) for at in range(7)] for row in range(9)]
    assert (np.array(left) % 2 == mask).all()
    assert outline_view(examples.explanation(), PicturePages()) is None


def test_the_mask_of_a_spectrogram_is_outlined_where_the_spectrogram_is_drawn():
    found = explanation_of("spectrogram")
    mask = np.zeros(found.heatmap.shape, bool)
    mask[:4, 31:62] = True  # the lowest frequencies, from a quarter to half of the time
    renderer = page_renderer_for(found)
    for place in (Place(mask), Place(mask, (31.0, 0.0, 62.0, 4.0))):
        drawn = outline_view(dataclasses.replace(found, place=place), renderer)
        height, width = renderer.picture(found.picture).shape[:2]
        assert (drawn["height"], drawn["width"]) == (height, width)
        left, right = width / 4, width / 2
        top, bottom = height * 28 / 32, height
        assert drawn["path"] == f"M{left:g} {top:g}H{right:g}V{bottom:g}H{left:g}z"


def test_words_of_a_concept_that_is_all_inside(explanation):
    inside = np.zeros(explanation.heatmap.shape, np.float32)
    inside[10, 20] = 1
    part = dataclasses.replace(explanation.layers[0].supporting[0], heatmap=inside)
    assert place_wording.context(explanation, part) == "0.0\N{NO-BREAK SPACE}% outside the box, all inside"
    silent = dataclasses.replace(part, heatmap=np.zeros_like(inside))
    assert place_wording.context(explanation, silent) == ""
    assert place_wording.context(examples.explanation(patches=0), part) == ""
