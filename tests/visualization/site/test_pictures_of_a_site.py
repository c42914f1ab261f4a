"""What a site draws, pixel by pixel: every small patch is the library's, and every heatmap lies on its picture."""

import json
from collections import OrderedDict

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import crp
from crp.library.patches import MODES
from crp.preprocessing import Preprocessing
from crp.visualization import encoding
from crp.visualization.page.explanation_page import render
from crp.visualization.site.site_maker import make_site

# More concepts than fit in one row or two of any sheet.
SIZES = {"low": 20, "upper": 40}
# (height, width): below `encoding.SMALL_SIDE` a heatmap is a PNG over the picture, above it both are one JPEG.
INPUTS = {"portrait": (48, 32), "landscape": (96, 160), "square": (32, 32)}
WINDOWS = {
    "screen": dict(width=1300, density=1),
    "zoomed": dict(width=1040, density=1.25),
    "phone": dict(width=390, density=2),
    "print": dict(width=790, density=1),
}

# The browser makes its window larger for a picture of all of a page, and then some of it moves.
TALL = 5000


class Blocks(torch.utils.data.Dataset):
    """Pictures of 48 by 48 pixels, in blocks of bright colours: no part of one is like a part of another."""

    preprocessing = Preprocessing(mean=0.5, std=0.25)

    def __len__(self):
        return 30

    def __getitem__(self, index):
        return self.preprocessing.to_input(blocks(index, 48, 48)), index % 3


def blocks(seed, height, width):
    """A picture in 6 by 6 blocks."""
    colours = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((width, height), Image.Resampling.NEAREST)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        OrderedDict(
            low=nn.Conv2d(3, SIZES["low"], 5, padding=2), a=nn.ReLU(), b=nn.MaxPool2d(4),
            upper=nn.Conv2d(SIZES["low"], SIZES["upper"], 3, padding=1), c=nn.ReLU(),
            d=nn.AdaptiveAvgPool2d(1), e=nn.Flatten(), f=nn.Linear(SIZES["upper"], 3),
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    data = Blocks()
    return crp.mine(
        network(), data, layers=["low", "upper"], path=tmp_path_factory.mktemp("mined") / "blocks.crp",
        k=3, patches=2, class_names=("ant", "bee", "cat"), preprocessing=data.preprocessing, progress=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(library, tmp_path_factory):
    place = tmp_path_factory.mktemp("made")
    files = [place / f"{name}.png" for name in INPUTS]
    for seed, (file, (height, width)) in enumerate(zip(files, INPUTS.values(), strict=True)):
        blocks(100 + seed, height, width).save(file)
    make_site(network(), files, library, place / "site", concepts=3, cells=4, progress=False)
    return place / "site"


# -- small patches


def drawn(page, container, selector):
    """The pixels of all elements in a container, cut from one picture of it."""
    boxes = page.run(
        f"(({{left, top}}, root) => [...root.querySelectorAll({json.dumps(selector)})].map(e => {{"
        " const box = e.getBoundingClientRect();"
        " return [box.left - left, box.top - top, box.width, box.height]; }))"
        "(...(root => [root.getBoundingClientRect(), root])"
        f"(document.querySelector({json.dumps(container)})))"
    )
    sharpness = 2
    picture = page.pixels(container, sharpness=sharpness)
    assert boxes
    cut = [[round(sharpness * value) for value in box] for box in boxes]
    return [picture[top : top + height, left : left + width] for left, top, width, height in cut]


@pytest.fixture(scope="module")
def first_patches(library):
    """By layer the middle square of each concept's first RelMax patch, float `[concepts, 32, 32, 3]`."""
    return {
        layer: np.stack([middle(library.patches(layer, concept, "relevance")[0].picture) for concept in range(size)])
        for layer, size in SIZES.items()
    }


def middle(picture):
    return encoding.squared(picture, 32).astype(float)


def assert_shown(pictures, keys, first_patches):
    """Each picture is the first patch of its concept, and of no other concept of the layer."""
    assert len(pictures) == len(keys)
    inner = np.s_[4:-4, 4:-4]  # corners are round
    for picture, (layer, concept) in zip(pictures, keys, strict=True):
        patches = first_patches[layer]
        distances = np.abs(middle(picture) - patches)[:, *inner].mean((1, 2, 3))
        same = (patches == patches[concept]).all((1, 2, 3))
        assert distances[concept] < 12, (layer, concept)
        assert distances[~same].min() > 2 * distances[concept], (layer, concept)


@pytest.fixture(scope="module")
def alone(library, folder):
    """A page on its own: its sheets have another number of columns, and only some of the concepts."""
    explanation = crp.explain(network(), folder.parent / "landscape.png", library, concepts=3, cells=4)
    path = folder.parent / "alone.html"
    path.write_text(render(explanation), "utf-8")
    return path


@pytest.mark.parametrize("name", [*INPUTS, "alone"])
def test_each_node_of_the_graph_shows_its_concept(browser, folder, alone, first_patches, name):
    browser.open(alone if name == "alone" else folder / "predictions" / f"{name}.html", height=TALL)
    nodes = browser.run(
        "[...document.querySelectorAll('.node:has(.glimpse)')].map(e => [e.dataset.layerName, +e.dataset.concept])"
    )
    assert {layer for layer, _ in nodes} == {"low", "upper"}
    assert_shown(drawn(browser, ".net", ".glimpse"), nodes, first_patches)


def test_each_result_of_a_search_shows_its_concept(browser, folder, first_patches):
    browser.open(folder / "predictions" / "landscape.html", height=TALL)
    for wanted in ("3", "19", "upper/1"):
        browser.run("document.querySelector('#search').value = ''")
        browser.click("#search")
        browser.type(wanted)
        found = browser.run("[...document.querySelectorAll('#found button')].map(e => e.children[1].textContent)")
        keys = [(layer, int(concept)) for layer, concept in (text.split(" · ") for text in found)]
        assert_shown(drawn(browser, "#found", ".glimpse"), keys, first_patches)


def test_each_concept_of_a_region_shows_its_patch(browser, folder, first_patches):
    browser.open(folder / "predictions" / "landscape.html", height=TALL)
    for layer, tab in (("upper", 0), ("low", 1)):
        browser.click(f"#tab-{tab}")
        grid = [browser.place(".grid", *at) for at in ((0.1, 0.1), (0.9, 0.9))]
        browser.drag(*grid)
        ranked = browser.run("[...document.querySelectorAll('.ranking li')].map(e => +e.dataset.concept)")
        assert len(ranked) == 8
        assert_shown(drawn(browser, ".ranking", ".glimpse"), [(layer, concept) for concept in ranked], first_patches)


@pytest.mark.parametrize("concept", [0, 11, 12, 17, 39])
def test_the_caption_of_a_concept_without_a_card_shows_its_patch(browser, folder, first_patches, concept):
    browser.open(folder / "predictions" / "landscape.html", f"upper/{concept}", height=TALL)
    shown = browser.run("document.querySelectorAll('.now .glimpse').length")
    carded = browser.run(f"Boolean(document.querySelector('#layer-0-concept-{concept}'))")
    assert shown == (not carded)
    if shown:
        assert_shown(drawn(browser, ".stage > figcaption", ".glimpse"), [("upper", concept)], first_patches)


def test_the_first_page_and_the_pages_of_concepts_show_the_right_patches(browser, folder, first_patches):
    browser.open(folder / "concepts" / "upper" / "index.html", height=TALL)
    every = [("upper", concept) for concept in range(SIZES["upper"])]
    assert_shown(drawn(browser, ".concepts-of", ".glimpse"), every, first_patches)
    linked = (
        "[...document.querySelectorAll('a:has(> .glimpse)')].map(e => ({of: e.closest('.common li')?.dataset, e})).map("
        "({of, e}) => of ? ['', of.layerName, of.concept] : e.href.match(/([^/]+)\\/(\\d+)\\.html/))"
    )
    for name in ("index.html", "concepts/upper/17.html", "concepts/low/3.html"):
        browser.open(folder / name, height=TALL)
        keys = [(layer, int(concept)) for _, layer, concept in browser.run(linked)]
        assert_shown(drawn(browser, "main", ".glimpse"), keys, first_patches)


@pytest.mark.parametrize("name", INPUTS)
def test_the_first_page_shows_each_picture_whole(browser, folder, name):
    height, width = INPUTS[name]
    browser.open(folder / "index.html", height=TALL)
    shown = browser.pixels(f".face[href*={name}] img").astype(float)
    side = shown.shape[0]
    across, down = round(side * width / max(height, width)), round(side * height / max(height, width))
    left, top = (side - across) // 2, (side - down) // 2
    with Image.open(folder.parent / f"{name}.png") as picture:
        expected = np.asarray(picture.convert("RGB").resize((across, down), Image.Resampling.NEAREST), dtype=float)
    assert np.abs(shown[top : top + down, left : left + across] - expected).mean() < 20


UNVEILED = """document.head.append(Object.assign(document.createElement("style"),
  { textContent: ".patches b::after { display: none }" }))"""


@pytest.mark.parametrize(
    ("page", "strip"), [("predictions/landscape.html", ".card"), ("concepts/upper/3.html", ".big-strips")]
)
def test_each_tile_shows_its_patch(browser, folder, library, page, strip):
    browser.open(folder / page, height=TALL)
    browser.run(UNVEILED)
    concept, modes = 3, MODES
    if strip == ".card":
        concept, modes = browser.run("+document.querySelector('.card').dataset.concept"), MODES[:2]
    for mode in modes:
        stored = library.patches("upper", concept, mode)
        pictures = drawn(browser, strip, f"[data-kind={mode}] b")
        for picture, patch in zip(pictures, stored, strict=True):
            expected = np.asarray(Image.fromarray(patch.picture).resize(picture.shape[1::-1]), dtype=float)
            inner = slice(20, -20)
            assert np.abs(picture - expected)[inner, inner].mean() < 14


# -- heatmaps on their pictures

# In the page: gives the ground and every heatmap over it the same picture, a cross of four colours, and shows one of
# the two alone, so that what is drawn of both can be compared.
CROSS = """
(() => {
  const cross = (width, height) => {
    const canvas = Object.assign(document.createElement("canvas"), {width, height}), pen = canvas.getContext("2d");
    ["#f00", "#0a0", "#00f", "#000"].forEach((colour, at) => {
      pen.fillStyle = colour;
      pen.fillRect(at % 2 * width / 2, (at >> 1) * height / 2, width / 2, height / 2);
    });
    return canvas.toDataURL();
  };
  const images = [...document.querySelectorAll(".where, .node .heat i, [data-frame=relevance]")];
  document.querySelectorAll("*").forEach(e => { e.style.borderRadius = "0"; e.style.transition = "none"; });
  images.forEach(e => { e.style.opacity = 1; });
  document.querySelectorAll("svg, .grid").forEach(e => { e.style.visibility = "hidden"; });
  document.querySelectorAll(".map svg").forEach(e => { e.style.visibility = "visible"; e.replaceChildren(); });
  window.only = (which, width, height) => {
    document.documentElement.style.setProperty("--faded", which === "ground" ? `url(${cross(width, height)})` : "none");
    const nothing = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7";
    const address = which === "ground" ? nothing : cross(width, height);
    images.forEach(image => {
      if (image.src) image.src = address;
      // the cross is a sheet of one cell
      else image.style.cssText += `;background-image:url(${address});--r:1;--k:1;--x:0;--y:0`;
    });
    const loaded = Object.assign(new Image(), {src: address});
    return Promise.all([loaded, ...images].map(image => image.decode?.()));
  };
})()
"""


def quadrants(picture):
    """Where the cross is drawn: left, middle and right, top, middle and bottom, in pixels."""
    # Nearest colours, because what is enlarged is blurred. Black counts as green: only the right end of both is used.
    colours = np.array([(255, 0, 0), (0, 170, 0), (0, 0, 255), (255, 255, 255)])
    nearest = np.abs(picture[:, :, None].astype(int) - colours).sum(3).argmin(2)
    red, green, blue = (np.argwhere(nearest == colour) for colour in range(3))
    (top, left), (middle, centre) = red.min(0), red.max(0) + 1
    return [left, centre, green.max(0)[1] + 1, top, middle, blue.max(0)[0] + 1]


def in_sight(page, place):
    """The pixels of an element that may lie outside the part of the graph that is seen."""
    page.run(f"document.querySelector('{place}').scrollIntoView({{inline: 'center', block: 'nearest'}})")
    return page.pixels(place)


# Each form of picture on a screen, and one that is not square in each other window.
FIRST = {("landscape", "zoomed"), ("landscape", "phone"), ("portrait", "print")}
SHOWN = [
    pytest.param(name, window, marks=[] if window == "screen" or (name, window) in FIRST else pytest.mark.slow)
    for name in INPUTS
    for window in WINDOWS
]


@pytest.mark.parametrize(("name", "window"), SHOWN)
def test_a_heatmap_lies_on_its_picture(browser, folder, name, window):
    """The whole picture, in its own proportions, is under the whole heatmap: on cards, in nodes, on the stage."""
    height, width = INPUTS[name]
    size = WINDOWS[window]
    browser.open(folder / "predictions" / f"{name}.html", height=TALL)
    browser.resize(size["width"], TALL, density=size["density"])
    browser.media(kind="print" if window == "print" else "")
    browser.run("document.querySelector('[data-show=relevance]').click()")
    browser.run(CROSS)
    places = (".where", ".node.root .heat i", ".node:not(.root) .heat i", "[data-frame=relevance]")
    drawn_alone = {}
    for which in ("ground", "heatmap"):
        browser.run(f"only('{which}', {width}, {height})")
        drawn_alone[which] = [quadrants(in_sight(browser, place)) for place in places]
    for place, ground, heatmap in zip(places, *drawn_alone.values(), strict=True):
        assert ground == pytest.approx(heatmap, abs=1), (place, ground, heatmap)
        left, centre, right, top, middle, bottom = ground
        # small pictures are drawn in blocks of two or three pixels of the screen: an edge between them may lie 1.5 off
        assert centre == pytest.approx((left + right) / 2, abs=1.5)
        assert middle == pytest.approx((top + bottom) / 2, abs=1.5)
        # of a pixel more or less in height, and one in width
        assert abs((right - left) * height - (bottom - top) * width) <= 1.75 * (height + width), place


def test_edges_meet_the_class_whatever_the_form_of_the_picture(browser, folder):
    for name in INPUTS:
        browser.open(folder / "predictions" / f"{name}.html", height=TALL)
        bottom, starts = browser.run(
            "[document.querySelector('.node.root').getBoundingClientRect().bottom,"
            " [...document.querySelectorAll('.edge')].map(e => e.getBoundingClientRect().top)]"
        )
        assert bottom - 6 <= min(starts) <= bottom + 1, name


@pytest.mark.parametrize("name", INPUTS)
def test_what_the_stage_shows_in_turn_lies_in_one_place(browser, folder, name):
    """Input, heatmap, concept map, concept and the cells to select have the same box, in the input's proportions."""
    height, width = INPUTS[name]
    frames = {"input": "[data-frame=input]", "relevance": "[data-frame=relevance]", "map": ".map svg"}
    for window in (1300, 390):
        browser.open(folder / "predictions" / f"{name}.html", width=window, height=TALL)
        browser.click(".pick")
        boxes = []
        for frame, place in {**frames, "concept": ".frame.concept svg"}.items():
            browser.run(f"document.querySelector('[data-show={frame}]').click()")
            for each in (place, ".grid"):
                boxes.append(
                    browser.run(
                        f"(({{left, top, width, height}}) => [left, top + scrollY, width, height])"
                        f"(document.querySelector('{each}').getBoundingClientRect())"
                    )
                )
        for box in boxes:
            assert box == pytest.approx(boxes[0], abs=0.1)
        assert boxes[0][2] / boxes[0][3] == pytest.approx(width / height, rel=2e-3)
