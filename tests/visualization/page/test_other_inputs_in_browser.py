"""Pages of signals, sounds, spectrograms and volumes in a real browser: regions by mouse and keyboard, axe, sounds."""


import numpy as np
import pytest

from browsing import SHIFT
from crp.visualization.atlases import Atlas
from crp.visualization.inputs import page_renderer_for
from crp.visualization.inputs.laid_out import drawn_map
from example_inputs import MEDIA, explanation_of
from page_in_browser import COLOURS, VIEW, faults, played, ranking, selected

EXPLANATIONS = {kind: explanation_of(kind) for kind in MEDIA}


@pytest.fixture(params=MEDIA, scope="module")
def opened(request, browser, tmp_path_factory):
    """A page in the browser, with its explanation."""
    explanation = EXPLANATIONS[request.param]
    browser.open(Atlas(explanation).save(tmp_path_factory.mktemp(request.param) / "page.html"))
    return browser, explanation


def table_of(explanation):
    """Relevance of all concepts in the cells as the page shows them, `[rows * columns, C]`."""
    renderer = page_renderer_for(explanation)
    shown = drawn_map(explanation.layers[0].concept_map, renderer, (1, 1))
    return shown.table.reshape(-1, shown.table.shape[-1]), shown.concept.shape


def ranked(explanation, cells):
    sums = table_of(explanation)[0][cells].sum(0, dtype=np.float64)
    return [int(concept) for concept in np.argsort(-np.abs(sums))]


def status(page):
    return page.run(f"document.querySelector('{VIEW} .answer').textContent")


PLACES = {
    "signal": "4 cells selected, time 0 to 2 s.",
    "audio": "4 cells selected, time 0 to 0.5 s.",
    "spectrogram": "8 cells selected, frequency 500 to 1000 Hz, time 0.016 to 1.008 s.",
    "volume": "8 cells selected, slice 0 to 3, row 0 to 9, column 0 to 15.",
    "image": "8 cells selected",
    "video": "8 cells selected, time 0 to 0.5 s, row 0 to 9, column 0 to 15.",
}


def test_a_region_dragged_with_the_mouse_is_ranked_and_told_on_the_axes(opened):
    page, explanation = opened
    rows, columns = table_of(explanation)[1]
    last = (min(1, rows - 1), 3)
    at = lambda row, column: page.place(f"{VIEW} .grid", (column + 0.5) / columns, (row + 0.5) / rows)  # noqa: E731
    page.drag(at(0, 0), at(*last))
    cells = [row * columns + column for row in range(last[0] + 1) for column in range(4)]
    assert selected(page) == cells
    assert [concept for concept, _, _ in ranking(page)] == ranked(explanation, cells)
    kind = explanation.medium.kind
    assert status(page).startswith(PLACES[kind])
    page.press("Escape")
    assert selected(page) == []


def test_a_region_selected_with_the_keyboard_is_ranked(opened):
    page, explanation = opened
    page.run(f"document.querySelector('{VIEW} [data-cell=\"0\"]').focus()")
    page.press("ArrowRight")
    page.press("ArrowRight", SHIFT)
    assert selected(page) == [1, 2]
    assert [concept for concept, _, _ in ranking(page)] == ranked(explanation, [1, 2])
    page.press("Escape")
    label = page.run(f"document.querySelector('{VIEW} [data-cell=\"1\"]').getAttribute('aria-label')")
    axis = explanation.medium.axes[0].name
    assert label.startswith(f"{axis} ")


# Every element with a class and a role that a page of another kind has stands on one of these, too.
MOST = [pytest.param(kind, marks=[] if kind in ("spectrogram", "volume") else pytest.mark.slow) for kind in MEDIA]


@pytest.mark.parametrize("opened", MOST, indirect=True, scope="module")
def test_axe_finds_no_fault(opened):
    page, _ = opened
    assert faults(page) == []
    assert page.complaints == []


@pytest.mark.parametrize("opened", MOST, indirect=True, scope="module")
def test_axe_finds_no_fault_of_dark_colours(opened):
    page, _ = opened
    page.media(dark=True)
    assert faults(page, COLOURS) == []
    page.media()
    assert page.complaints == []


def test_axes_stand_in_the_picture(opened):
    page, explanation = opened
    texts = page.run(f"[...document.querySelectorAll('{VIEW} .ticks span')].map(span => span.textContent)")
    expected = {"signal": "left", "audio": "1.5 s", "spectrogram": "800 Hz", "volume": "slice", "video": "s (0–0.5)"}
    if explanation.medium.kind == "image":
        assert texts == []
        return
    assert any(expected[explanation.medium.kind] in text for text in texts)
    boxes = "map(element => (b => [b.left, b.top, b.right, b.bottom])(element.getBoundingClientRect()))"
    (frame,) = page.run(f"[...document.querySelectorAll('{VIEW} .frame:not([hidden])')].{boxes}")
    for left, top, right, bottom in page.run(f"[...document.querySelectorAll('{VIEW} .ticks span')].{boxes}"):
        assert frame[0] - 14 <= left < right <= frame[2] + 14
        assert frame[1] - 8 <= top < bottom <= frame[3] + 8


def test_one_sound_plays_at_a_time(opened):
    page, explanation = opened
    buttons = page.run("document.querySelectorAll('[data-sound]').length")
    if explanation.medium.kind not in ("audio", "spectrogram"):
        assert buttons == 0
        return
    # both examples last two seconds, and have 2,000 samples in each
    assert played(page, ".given [data-sound]") == pytest.approx(2, abs=0.01)
    assert page.run("document.querySelector('.given [data-sound]').getAttribute('aria-pressed')") == "true"
    assert page.run("heard.src.startsWith('data:audio/wav;base64,UklGR')")
    page.run("document.querySelectorAll('.heard [data-sound]')[0].click()")
    assert page.run("[...document.querySelectorAll('[aria-pressed=true][data-sound]')].length") == 1
    page.run("document.querySelectorAll('.heard [data-sound]')[0].click()")
    assert page.run("[...document.querySelectorAll('[aria-pressed=true][data-sound]')].length") == 0


@pytest.mark.parametrize(("kind", "grid"), [("volume", (9, 2, 4)), ("video", (8, 2, 4))])
def test_labels_of_slabs_do_not_overlap_on_a_phone(browser, tmp_path, monkeypatch, kind, grid):
    monkeypatch.setitem(MEDIA, kind, (MEDIA[kind][0], (3 if kind == "video" else 1, 120, 10, 16), grid))
    browser.open(Atlas(explanation_of(kind)).save(tmp_path / "page.html"))
    ranges = f"[...document.querySelectorAll('{VIEW} .ticks .more')].filter(e => e.checkVisibility()).length"
    shown = {}
    for width in (1300, 360):
        browser.resize(width, 740)
        shown[width] = browser.run(ranges)
        boxes = browser.run(
            f"[...document.querySelectorAll('{VIEW} .ticks > span')].map(element => (b => [b.left, b.top, b.right,"
            " b.bottom])(element.getBoundingClientRect()))"
        )
        assert len(boxes) == grid[0]
        for number, (left, top, right, bottom) in enumerate(boxes):
            assert right - left > 20
            for other in boxes[:number]:
                assert other[2] <= left or right <= other[0] or other[3] <= top or bottom <= other[1]
    assert shown == {1300: grid[0], 360: 0}
