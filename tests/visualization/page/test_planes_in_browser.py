"""The three planes of a volume: what they draw is the volume and its relevance, at the place that is told."""

import dataclasses
import itertools

import numpy as np
import pytest

from crp.media.medium import Medium
from crp.visualization import encoding as images
from crp.visualization.atlases import Atlas
from crp.visualization.page.planes import MOST, mosaic, planes_across, planes_view, reduced
from example_inputs import explanation_of
from page_in_browser import VIEW, faults

# Column goes to the front, slice to the left, row to the top; 3 x 2 x 4 mm.
AFFINE = np.array([[-3.0, 0, 0, 10], [0, 0, 4.0, -20], [0, 2.0, 0, 5], [0, 0, 0, 1]])
PANES = f"{VIEW} .pane"


@pytest.fixture(scope="module")
def explanation():
    value = explanation_of("volume")
    medium = Medium.volume((3, 2, 4), affine=AFFINE)
    slices, rows, columns = np.indices(value.heatmap.shape)
    smooth = (slices / 11 + rows / 9 + columns / 15).astype(np.float32)[None]
    return dataclasses.replace(value, medium=medium, picture=smooth)


@pytest.fixture(scope="module")
def file(explanation, tmp_path_factory):
    return Atlas(explanation).save(tmp_path_factory.mktemp("volume") / "atlas.html")


def settle(page):
    page.run("new Promise(done => setTimeout(done, 100))")


def drawn(page, kind, channel):
    """One channel of the three canvases of a kind, once they have been drawn."""
    settle(page)
    read = (
        f"[...document.querySelectorAll('{PANES} .{kind}')].map(canvas => {{ const {{ width, height }} = canvas;"
        f" const {{ data }} = canvas.getContext('2d').getImageData(0, 0, width, height);"
        f" return [height, width, [...data].filter((_, at) => at % 4 === {channel})]; }})"
    )
    return [np.array(values).reshape(height, width) for height, width, values in page.run(read)]


def place(page):
    """The place that is told: indices, and millimetres."""
    told = page.run(f"document.querySelector('{VIEW} .where-at').textContent").replace("−", "-")
    indices, millimetres = told.split("; ")
    numbers = [float(part.split()[1]) for part in millimetres.removesuffix(" mm").split(", ")]
    return [int(part.split()[1]) for part in indices.split(", ")], numbers


def seen(values, at):
    """Axial, coronal and sagittal plane through a place, as radiologists see them: by the affine above, by hand."""
    slice_, row, column = at
    axial, coronal, sagittal = values[:, row, :].T, values[:, :, column].T, values[slice_]
    # x falls along slices, z rises along rows, y along columns: the right side is at the left, the front at the top
    return [axial[::-1], coronal[::-1], sagittal[::-1, ::-1]]


def opacity(heatmap):
    values = images.scaled(heatmap, images.colour_limit(mosaic(heatmap)), images.ROOT)
    steps = np.rint((values + 1) / 2 * (images.LEVELS - 1))
    return np.rint(np.abs(np.linspace(-1, 1, images.LEVELS)) * 255)[steps.astype(int)]


def test_the_planes_are_those_of_the_volume(page, explanation):
    strongest = list(np.unravel_index(np.abs(explanation.heatmap).argmax(), explanation.heatmap.shape))
    at, millimetres = place(page)
    assert at == strongest
    np.testing.assert_allclose(millimetres, (AFFINE @ [*at, 1])[:3], atol=0.05)
    for found, expected in zip(drawn(page, "inked", 3), seen(opacity(explanation.heatmap), at), strict=True):
        np.testing.assert_array_equal(found, expected)
    grey = images.grey(explanation.picture)[..., 0].astype(int)
    for found, expected in zip(drawn(page, "ground", 0), seen(grey, at), strict=True):
        assert np.abs(found - expected).max() < 40  # of a photo, which is compressed
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.98


def test_the_cross_hair_is_moved_by_mouse_and_keys(page, explanation):
    shape = explanation.heatmap.shape
    # sagittal, in which the slice stays
    point = page.place(f"{VIEW} .panes figure:nth-child(3) .pane", 0.5 / shape[2], 2.5 / shape[1])
    (before, _, _), _ = place(page)
    page.mouse("Moved", point)
    page.mouse("Pressed", point)
    page.mouse("Released", point)
    settle(page)
    at, _ = place(page)
    # the front is at the left and the top is at the top
    assert at == [before, shape[1] - 3, shape[2] - 1]
    for key, moved in (("ArrowRight", (0, 0, -1)), ("ArrowDown", (0, -1, 0)), ("ArrowDown", (0, -1, 0))):
        page.press(key)
        at = [one + step for one, step in zip(at, moved, strict=True)]
    settle(page)
    assert place(page)[0] == at
    slider = f"document.querySelector('{VIEW} .panes input')"
    page.run(f"{slider}.value = 4; {slider}.dispatchEvent(new Event('input'))")
    settle(page)
    assert place(page)[0] == [at[0], 4, at[2]]  # of the axial plane, which is across the rows
    expected = seen(opacity(explanation.heatmap), place(page)[0])
    for found, plane in zip(drawn(page, "inked", 3), expected, strict=True):
        np.testing.assert_array_equal(found, plane)
    page.click(f"{VIEW} .panes .reset")
    settle(page)
    assert np.abs(explanation.heatmap[tuple(place(page)[0])]) == np.abs(explanation.heatmap).max()


def test_they_show_the_concept_that_is_pointed_at_on_the_scale_of_its_layer(page, explanation):
    (layer,) = explanation.layers
    limits = {part.concept: images.colour_limit(mosaic(part.heatmap)) for part in layer.ranked}
    part = min(layer.ranked, key=lambda one: limits[one.concept])
    page.hover(f"#layer-0-concept-{part.concept} .where")
    at, _ = place(page)
    for found, expected in zip(drawn(page, "inked", 3), seen(opacity(part.heatmap), at), strict=True):
        np.testing.assert_array_equal(found, expected)
    fade = float(page.run(f"getComputedStyle(document.querySelector('{PANES} .inked')).opacity"))
    assert fade == pytest.approx(images.fade(limits[part.concept], max(limits.values())), abs=1e-3)
    said = page.run(f"document.querySelector('{VIEW} .what').textContent")
    assert said.startswith(f"Concept {part.concept} of layer; full at ")
    page.click('[data-scale="own"]')
    assert page.run(f"getComputedStyle(document.querySelector('{PANES} .inked')).opacity") == "1"
    page.click(f"{VIEW} [data-show=input]")
    assert page.run(f"getComputedStyle(document.querySelector('{PANES} .inked')).display") == "none"


def test_heatmaps_of_concepts_may_be_coarser_than_the_volume(browser, explanation, monkeypatch, tmp_path):
    monkeypatch.setattr("crp.visualization.page.planes.MOST_OF_CONCEPTS", 8)
    browser.open(Atlas(explanation).save(tmp_path / "coarse.html"))
    part = explanation.layers[0].ranked[0]
    browser.hover(f"#layer-0-concept-{part.concept} .where")
    at, _ = place(browser)
    coarse = opacity(reduced(part.heatmap, 8)).repeat(2, 0).repeat(2, 1).repeat(2, 2)
    for found, expected in zip(drawn(browser, "inked", 3), seen(coarse, at), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert browser.complaints == []


def test_axe_finds_no_fault_in_them(page):
    assert faults(page) == []
    assert page.run(f"document.querySelector('{VIEW} .planes').getBoundingClientRect().height") > 200


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", list(itertools.product((-1, 1), repeat=3)))
def test_planes_lie_as_a_radiologist_expects(order, signs):
    # oblique, as scanners cut; volume axis `order[world]` goes along `world`
    affine = np.full((3, 4), 0.15)
    for world, axis in enumerate(order):
        affine[world, axis] = 2 * signs[world]
    shown = planes_across(affine.tolist())
    assert [plane["name"] for plane in shown] == ["axial", "coronal", "sagittal"]
    for plane, across, down, along in zip(shown, (2, 1, 0), (1, 2, 2), (0, 0, 1), strict=True):
        assert plane["axis"] == order[across]
        assert [plane["down"][0], plane["along"][0]] == [order[down], order[along]]
        for world, (axis, turned) in ((down, plane["down"]), (along, plane["along"])):
            # downwards: away from the front and the top; to the right: away from the body's right and the front
            assert affine[world, axis] * (-1 if turned else 1) < 0


def test_large_volumes_are_reduced_and_that_is_said(monkeypatch):
    values = np.arange(4 * 2 * (2 * MOST + 1), dtype=np.float32).reshape(4, 2, -1)
    small = reduced(values, MOST)
    assert small.shape == (4, 2, -(-(2 * MOST + 1) // 3))
    np.testing.assert_array_equal(small[1, 1, 0], values[1, 1, :3].mean())
    np.testing.assert_array_equal(small[3, 0, -1], values[3, 0, -1])  # the last block is smaller
    value = explanation_of("volume")
    assert planes_view(value)["note"] == "The orientation of the volume is not known: its slices are taken to be axial."
    monkeypatch.setattr("crp.visualization.page.planes.MOST", 6)
    monkeypatch.setattr("crp.visualization.page.planes.MOST_OF_CONCEPTS", 4)
    found = planes_view(value)
    assert found["note"].replace("\N{NO-BREAK SPACE}", " ").endswith(
        "The volume has 12 × 10 × 16 values and is shown at 6 × 5 × 6, as block means. "
        "Relevance of single concepts is shown at 4 × 4 × 4, as block means."
    )
    view = found["data"]["views"][0]
    peak = np.unravel_index(np.abs(value.heatmap).argmax(), value.heatmap.shape)
    assert view["whole"]["peak"] == [peak[0] // 2, peak[1] // 2, peak[2] // 3]
    assert (view["whole"]["shape"], view["whole"]["across"]) == ([6, 5, 6], 3)
    assert {tuple(one["shape"]) for one in view["layers"][0].values()} == {(4, 4, 4)}
    assert planes_view(explanation_of("video")) is None
    assert planes_view(explanation_of("signal")) is None
