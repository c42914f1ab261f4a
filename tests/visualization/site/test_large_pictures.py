"""Pictures that pages show reduced: on a site they lie in full beside the pages, on a page alone inside it."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import crp
from crp.visualization import wording
from crp.visualization.atlases import Atlas
from crp.visualization.picture_formats import PATCHES_SUFFIX
from crp.visualization.site.site_maker import make_site
from tests.visualization.site import small_site as small

SHAPE = 480, 640
OPTIONS = small.OPTIONS | {"graph": False}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = nn.Sequential()
    for name, module in {
        small.LAYERS[0]: nn.Conv2d(3, 4, 4, stride=4), "a": nn.ReLU(),
        small.LAYERS[1]: nn.Conv2d(4, 4, 2), "b": nn.ReLU(),
        "c": nn.AdaptiveAvgPool2d(1), "d": nn.Flatten(), "e": nn.Linear(4, 3),
    }.items():  # fmt: skip
        model.add_module(name, module)
    return model.eval()


@pytest.fixture(scope="module")
def library(model, tmp_path_factory):
    return small.mined(tmp_path_factory.mktemp("mined"), model)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    light = np.random.default_rng(0).integers(0, 256, (SHAPE[0] // 4, SHAPE[1] // 4, 3), dtype=np.uint8)
    Image.fromarray(light.repeat(4, 0).repeat(4, 1)).save(folder / "large.png")
    small.noise(1, 300).save(folder / "small.png")
    return [folder / "large.png", folder / "small.png"]


@pytest.fixture(scope="module")
def folder(model, library, files, tmp_path_factory):
    place = tmp_path_factory.mktemp("made") / "site"
    make_site(model, files, library, place, **OPTIONS)
    return place


def test_the_picture_in_full_is_a_file_beside_the_page(folder, files, browser):
    whole = folder / "predictions" / "whole"
    assert [path.name for path in whole.iterdir()] == [f"large{PATCHES_SUFFIX}"]
    with Image.open(whole / f"large{PATCHES_SUFFIX}") as stored, Image.open(files[0]) as given:
        assert stored.size == given.size == SHAPE[::-1]
        error = np.abs(np.asarray(stored.convert("RGB"), float).mean(-1) - np.asarray(given, float).mean(-1)).mean()
    assert error < 8
    page = folder / "predictions" / "large.html"
    browser.open(page)
    # read when a reader first zooms in, and not before
    assert not [address for address in browser.requests if "/whole/" in address]
    browser.click(".view:not([hidden]) .zoom [aria-label='Zoom in']")
    browser.run("new Promise(done => setTimeout(done, 300))")
    assert [address for address in browser.requests if "/whole/" in address] == [
        (whole / f"large{PATCHES_SUFFIX}").resolve().as_uri()
    ]
    size = "(e => [e.naturalWidth, e.naturalHeight])(document.querySelector('.view:not([hidden]) .full-picture'))"
    assert browser.run(size) == [*SHAPE[::-1]]
    assert browser.run("document.querySelector('.view:not([hidden]) .frames').classList.contains('sharp')")
    assert browser.complaints == []
    browser.open(folder / "predictions" / "small.html")
    assert browser.run("document.querySelectorAll('.zoom').length") == 0


def test_a_page_says_that_its_picture_in_full_is_missing(folder, browser, tmp_path):
    place = shutil.copytree(folder, tmp_path / "site")
    (place / "predictions" / "whole" / f"large{PATCHES_SUFFIX}").unlink()
    browser.open(place / "predictions" / "large.html")
    browser.click(".view:not([hidden]) .zoom [aria-label='Zoom in']")
    browser.run("new Promise(done => setTimeout(done, 300))")
    bar = browser.run("document.querySelector('.view:not([hidden]) .zoom').innerText")
    assert "The picture in full is missing." in bar
    assert not browser.run("document.querySelector('.view:not([hidden]) .frames').classList.contains('sharp')")
    assert all("ERR_FILE_NOT_FOUND" in complaint for complaint in browser.complaints)


def test_a_site_keeps_its_pictures_in_full_up_to_date(model, library, files, folder, tmp_path):
    place = shutil.copytree(folder, tmp_path / "site")
    whole = place / "predictions" / "whole" / f"large{PATCHES_SUFFIX}"
    content, made = whole.read_bytes(), whole.stat().st_mtime_ns
    make_site(model, files, library, place, **OPTIONS)
    assert whole.stat().st_mtime_ns == made
    whole.unlink()
    make_site(model, files, library, place, **OPTIONS)
    assert whole.read_bytes() == content
    make_site(model, files[1:], library, place, **OPTIONS)
    assert list(whole.parent.iterdir()) == []


def test_a_page_alone_holds_as_much_of_the_picture_as_it_has_room_for(model, library, files, tmp_path, monkeypatch):
    explanation = crp.explain(model, files[0], library, concepts=2, cells=3, graph=False)
    full = Atlas(explanation).html()
    assert "Zoomed in, it is shown at full size;" in full
    monkeypatch.setattr("crp.visualization.page.whole_picture.MOST_INSIDE", 20_000)
    page = Atlas(explanation).html()
    assert len(full) - len(page) > 30_000
    assert "the largest that the page has room for" in page
    assert f"Zoomed in, it is shown at {wording.size(SHAPE)}" not in page
