"""Zoom of a picture that the page shows reduced: pixels, heatmaps and regions are those of the place that is shown."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

import example_explanations as examples
from browsing import CONTROL
from crp.visualization.atlases import Atlas
from page_in_browser import COLOURS, VIEW, assert_ranked, faults, selected

HEIGHT, WIDTH = 900, 1200
FRAMES = f"{VIEW} .frames"
# Rows and columns with relevance for, in the first view.
ROWS, COLUMNS = slice(380, 510), slice(520, 700)


@pytest.fixture(scope="module")
def explanation():
    """A picture of blocks of four pixels, of one hue, and relevance in one rectangle of it."""
    light = np.random.default_rng(0).integers(0, 256, (HEIGHT // 4, WIDTH // 4, 1))
    blocks = (light * [1, 0.7, 0.4]).astype(np.uint8)
    heatmap = np.zeros((HEIGHT, WIDTH), dtype=np.float32)
    heatmap[ROWS, COLUMNS] = 1
    options = {"shape": (HEIGHT, WIDTH), "supporting": 2, "opposing": 1, "patches": 1, "layers": ("layer3",)}
    value = examples.explanation(**options)
    layer = value.layers[0]
    strongest = dataclasses.replace(layer.supporting[0], heatmap=heatmap)
    layer = dataclasses.replace(layer, supporting=(strongest, *layer.supporting[1:]))
    value = dataclasses.replace(
        value, picture=blocks.repeat(4, 0).repeat(4, 1), heatmap=heatmap, layers=(layer,), graph=None
    )
    return examples.beside(value, **options)


@pytest.fixture(scope="module")
def file(explanation, tmp_path_factory):
    return Atlas(explanation).save(tmp_path_factory.mktemp("zoom") / "atlas.html")


def settle(page):
    """Wait until the picture in full has been decoded, and drawn."""
    page.run("new Promise(done => setTimeout(done, 200))")


def focus(page, cell=24):
    page.run(f"document.querySelector('{VIEW} [data-cell=\"{cell}\"]').focus()")


def zoom(page, times=5):
    focus(page)
    for _ in range(times):
        page.press("+")
    settle(page)


def window(page):
    """What the window shows: its size, how far it is scrolled, and the size of the picture in it, in CSS pixels."""
    keys = ("clientWidth", "clientHeight", "scrollLeft", "scrollTop", "scrollWidth", "scrollHeight")
    return [page.run(f"document.querySelector('{FRAMES}').{key}") for key in keys]


def seen(page, left, top):
    """The pixels of the window scrolled so far, how far it is, and CSS pixels per pixel of the picture."""
    page.run(f"document.querySelector('{FRAMES}').scrollTo({left}, {top}); document.activeElement.blur()")
    page.mouse("Moved", (1, 1))
    settle(page)
    width, height, left, top, whole, _ = window(page)
    x, y = map(round, page.place(FRAMES, 0, 0))
    with Image.open(io.BytesIO(page.screenshot(whole=False))) as shown:
        drawn = np.asarray(shown.convert("RGB"), dtype=float)
    return drawn[y : y + height, x : x + width], left, top, whole / WIDTH


def expected(picture, left, top, factor, shape):
    """What a window of `shape` shows of a picture."""
    height, width = shape
    box = (left / factor, top / factor, (left + width) / factor, (top + height) / factor)
    drawn = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.asarray(drawn, dtype=float)


def box(selector):
    return f"document.querySelector('{selector}').getBoundingClientRect()"


def inner(values):
    """Without the border, which is round, and where the outline of cells may lie."""
    return values[12:-12, 12:-12]


def test_the_place_that_is_shown_has_its_own_pixels(page, explanation):
    page.click(f"{VIEW} [data-show=input]")
    zoom(page, 4)
    found, left, top, factor = seen(page, 400, 300)
    assert factor > 1.5
    assert left > 300
    picture = explanation.picture
    small = np.asarray(Image.fromarray(picture).resize((448, 336), Image.Resampling.LANCZOS))
    enlarged = np.asarray(Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))

    def far(of, by=(0, 0)):
        """How far what is shown is from a picture that lies so many of its pixels elsewhere."""
        x, y = (part * factor for part in by)
        return np.abs(inner(found - expected(of, left + x, top + y, factor, found.shape[:2]))).mean()

    right = far(picture)
    assert right < 6
    assert far(enlarged) > 3 * right
    assert all(far(picture, by) > 3 * right for by in ((1, 0), (-1, 0), (0, 1), (0, -1)))


@pytest.mark.parametrize("frame", ["relevance", "concept"])
def test_a_heatmap_lies_on_its_pixels(page, explanation, frame):
    if frame == "concept":
        page.click(f"#layer-0-concept-{explanation.layers[0].supporting[0].concept} .pick")
        assert page.run(f"document.querySelector('{VIEW} .frame.concept').hidden") is False
        page.click('[data-scale="own"]')
        page.run(f"document.querySelector('{VIEW} .frame.concept svg').remove()")
    zoom(page, 4)
    found, left, top, factor = seen(page, 800, 580)
    inked = found[..., 0] - found[..., 2] > 60  # orange on grey
    for axis, (place, start) in enumerate(((ROWS, top), (COLUMNS, left))):
        covered = inked.mean(axis=1 - axis) > 0.25 * inked.mean(axis=1 - axis).max()
        first, end = np.flatnonzero(covered)[[0, -1]]
        # a pixel of the picture
        assert abs(first - (place.start * factor - start)) <= factor
        assert abs(end + 1 - (place.stop * factor - start)) <= factor


def test_below_a_heatmap_lies_the_picture_in_grey(page, explanation):
    zoom(page)
    page.run(f"document.querySelector('{VIEW} .frame[data-frame=relevance]').style.opacity = 0")
    found, left, top, factor = seen(page, 400, 300)
    grey = explanation.picture @ np.array([0.2126, 0.7152, 0.0722]) * 125 / 255 + 130
    ground = expected(grey.round().astype(np.uint8), left, top, factor, found.shape[:2])
    assert np.abs(inner(found.mean(axis=2) - ground)).mean() < 4
    assert np.ptp(inner(found), axis=2).max() <= 2


def test_a_region_ranks_the_same_with_and_without_zoom(page, explanation):
    """Drawn with the mouse over cells that the zoomed window shows, and over the same cells of the whole picture."""
    layer, rankings = explanation.layers[0], []
    cells = [row * 7 + column for row in (2, 3, 4) for column in (3, 4)]
    for times in (0, 2):
        page.press("0")
        zoom(page, times)
        start, end = (page.place(f"{VIEW} .grid", (x + 0.5) / 7, (y + 0.5) / 7) for x, y in ((3, 2), (4, 4)))
        page.drag(start, end)
        assert selected(page) == cells
        assert_ranked(page, layer, cells)
        rankings.append(page.run(f"document.querySelector('{VIEW} .ranking').textContent"))
        page.press("Escape")
    assert rankings[0] == rankings[1]


def test_the_window_follows_the_cell_that_the_arrow_keys_reach(page):
    zoom(page, 3)
    for key in ("End", "ArrowDown", "ArrowDown", "ArrowDown"):
        page.press(key)
    settle(page)
    inside = (
        f"(({{left, top, right, bottom}}, cell) => cell.left >= left - 1 && cell.top >= top - 1"
        f" && cell.right <= right + 1 && cell.bottom <= bottom + 1)"
        f"(document.querySelector('{FRAMES}').getBoundingClientRect(), document.activeElement.getBoundingClientRect())"
    )
    assert page.run("document.activeElement.dataset.cell") == "48"
    assert page.run(inside)
    width, height, left, top, whole, tall = window(page)
    assert (left + width, top + height) == (pytest.approx(whole, abs=1), pytest.approx(tall, abs=1))


def test_the_wheel_zooms_with_ctrl_where_the_pointer_is(page):
    x, y = page.place(FRAMES, 0.25, 0.75)
    wheel = {"type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": -400}
    page.send("Input.dispatchMouseEvent", **wheel, modifiers=CONTROL)
    settle(page)
    width, height, left, top, whole, tall = window(page)
    assert whole == pytest.approx(4 * width, abs=1)
    assert (left + 0.25 * width) / whole == pytest.approx(0.25, abs=0.003)
    assert (top + 0.75 * height) / tall == pytest.approx(0.75, abs=0.003)
    assert page.run(f"document.querySelector('{VIEW} .zoom output').textContent") == f"{100 * whole / WIDTH:.0f}\u00a0%"
    # without Ctrl it moves the picture, and not the page
    page.send("Input.dispatchMouseEvent", **wheel | {"deltaY": -60})
    settle(page)
    assert window(page)[3] == pytest.approx(top - 60, abs=1)
    assert page.run("scrollY") == 0


def test_two_fingers_zoom_and_one_moves_the_picture(page):
    page.send("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
    x, y = page.place(FRAMES)

    def touch(kind, *points):
        fingers = [{"x": left, "y": top, "id": number} for number, (left, top) in enumerate(points)]
        page.send("Input.dispatchTouchEvent", type=kind, touchPoints=fingers)

    touch("touchStart", (x - 20, y))
    touch("touchStart", (x - 20, y), (x + 20, y))
    for apart in (30, 40, 60):
        touch("touchMove", (x - apart, y), (x + apart, y))
    touch("touchEnd")
    settle(page)
    width, _, left, _, whole, _ = window(page)
    assert whole == pytest.approx(3 * width, abs=1)
    assert (left + width / 2) / whole == pytest.approx(0.5, abs=0.01)
    chosen = selected(page)
    assert page.run(f"document.querySelector('{VIEW} .zoom [aria-pressed]').getAttribute('aria-pressed')") == "true"
    touch("touchStart", (x, y))
    for moved in range(10, 100, 10):
        touch("touchMove", (x - moved, y))
        page.run("new Promise(requestAnimationFrame)")
    touch("touchEnd")
    settle(page)
    assert window(page)[2] > left + 40
    assert selected(page) == chosen
    page.send("Emulation.setTouchEmulationEnabled", enabled=False)


def test_dragging_moves_the_picture_where_that_is_chosen(page):
    zoom(page, 3)
    page.click(f"{VIEW} .zoom [aria-pressed]")
    _, _, left, top, _, _ = window(page)
    x, y = page.place(FRAMES)
    page.drag((x, y), (x + 50, y - 30))
    assert window(page)[2:4] == [pytest.approx(left - 50, abs=1), pytest.approx(top + 30, abs=1)]
    assert selected(page) == []
    page.click(f"{VIEW} .zoom [aria-pressed]")
    page.drag((x, y), (x + 50, y - 30))
    assert len(selected(page)) >= 1
    page.press("0")
    assert page.run(f"document.querySelector('{FRAMES}').classList.contains('closer')") is False
    assert window(page)[4] == window(page)[0]


def test_another_view_shows_the_same_place(page):
    zoom(page, 3)
    page.run(f"document.querySelector('{FRAMES}').scrollTo(200, 100)")
    settle(page)
    before = window(page)
    page.click('[data-switch="1"]')
    settle(page)
    assert window(page) == pytest.approx(before, abs=1)


@pytest.mark.parametrize("state", ["light", "dark", "phone"])
def test_axe_finds_no_fault_while_zoomed(page, state):
    page.media(dark=state == "dark")
    if state == "phone":
        page.resize(360, 740)
    zoom(page)
    assert faults(page, COLOURS if state == "dark" else None) == []
    assert page.run("document.documentElement.scrollWidth") <= page.run("innerWidth")


def test_paper_and_pages_without_scripts_show_the_whole_picture(page, file):
    zoom(page)
    page.media(kind="print")
    whole = f"document.querySelector('{VIEW} .frame[data-frame=relevance]')"
    box = page.run(f"(b => [b.width, b.height])({whole}.getBoundingClientRect())")
    assert box[0] / box[1] == pytest.approx(WIDTH / HEIGHT, abs=0.01)
    assert page.run(f"getComputedStyle(document.querySelector('{FRAMES}')).overflow") == "visible"
    assert page.run(f"document.querySelector('{VIEW} .full-picture').checkVisibility()") is False
    page.open(file, scripts=False)
    assert page.run("document.querySelectorAll('.zoom, .full-picture').length") == 0
    assert "Zoomed in" not in page.run("document.querySelector('.view').innerText")


def test_the_page_says_what_it_shows(page):
    told = page.run(f"document.querySelector('{VIEW}').innerText").replace("\u00a0", " ")
    assert "The picture has 1200 × 900 pixels and is shown at 448 × 336. All numbers refer to the full size." in told
    assert "Zoomed in, it is shown at full size; its heatmaps at 896 × 672, those of concepts at 448 × 336." in told


def test_small_pictures_have_no_zoom(browser, tmp_path):
    value = examples.explanation(shape=(320, 448), patches=1)
    browser.open(Atlas(value).save(tmp_path / "small.html"))
    assert browser.run("document.querySelectorAll('.zoom, #atlas-whole').length") == 0
    focus(browser)
    browser.press("+")
    assert window(browser)[4] == window(browser)[0]
    assert browser.complaints == []


ENLARGE = f"{VIEW} .zoom button:last-child"


@pytest.mark.parametrize("width", [1300, 360])
def test_the_picture_can_be_as_large_as_the_window(page, explanation, width):
    page.resize(width, 740)
    zoom(page, 2)
    before = window(page)
    page.click(ENLARGE)
    settle(page)
    enlarged = window(page)
    assert enlarged[0] > 1.5 * before[0]
    assert page.run(f"(b => b.left >= 0 && b.right <= innerWidth && b.bottom <= innerHeight)({box(FRAMES)})")
    # the same place, and the same cells
    for axis in (0, 1):
        middles = [(view[2 + axis] + view[axis] / 2) / view[4 + axis] for view in (before, enlarged)]
        assert middles[0] == pytest.approx(middles[1], abs=0.01)
    cells = [row * 7 + column for row in (3, 4) for column in (3, 4)]
    page.drag(*(page.place(f"{VIEW} .grid", (at + 0.5) / 7, (at + 0.5) / 7) for at in (3, 4)))
    assert selected(page) == cells
    assert_ranked(page, explanation.layers[0], cells)
    assert page.run(f"document.querySelector('{VIEW} .ranking').checkVisibility()")
    assert faults(page) == []
    page.press("Escape")
    settle(page)
    assert window(page) == pytest.approx(before, abs=1)
    # Escape has closed the large picture and nothing else
    assert selected(page) == cells
    assert page.run(f"document.activeElement === document.querySelector('{ENLARGE}')")
    assert page.run(f"document.querySelector('{VIEW} .side').lastElementChild.matches('.region')")
    page.press("Escape")
    assert selected(page) == []


def test_a_short_window_shows_the_whole_picture_and_the_button_that_closes_it(page):
    """As a small screen is, at a zoom of 200 %."""
    page.resize(640, 360)
    page.click(ENLARGE)
    settle(page)
    for shown in (FRAMES, ENLARGE):
        assert page.run(f"(b => b.top >= 0 && b.bottom <= innerHeight)({box(shown)})"), shown
    assert page.run(f"document.activeElement === document.querySelector('{ENLARGE}')")
    assert faults(page) == []


def test_paper_shows_the_page_while_the_picture_is_enlarged(page):
    page.click(ENLARGE)
    page.run("dispatchEvent(new Event('beforeprint'))")
    page.media(kind="print")
    assert page.run("document.querySelector('.enlarged')") is None
    assert page.run(f"document.querySelector('{VIEW} .side > .stage').checkVisibility()")
