"""Sounds of patches on the pages of a site: each button plays its own patch, as far as sounds fit."""

import io
import wave

import pytest

import crp
from crp.demo import Calls, demo_model
from crp.library.patches import MODES
from crp.media.sound import wav_bytes
from crp.visualization.inputs.choosing import page_renderer_of
from crp.visualization.site import sound_files
from crp.visualization.site.site_maker import make_site
from page_in_browser import played
from tests.visualization.site.reading import Page, referred

LAYER, CONCEPTS = "conv4", 16


@pytest.fixture(scope="module")
def network():
    return demo_model("spectrogram")


@pytest.fixture(scope="module")
def calls(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calls")
    return crp.mine(
        network, Calls("train", 6), layers=[LAYER], path=folder / "calls.crp", k=2, patches=2,
        class_names=Calls.class_names, preprocessing=Calls.preprocessing, progress=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    file = tmp_path_factory.mktemp("recording") / "call.wav"
    file.write_bytes(wav_bytes(Calls("test", 2).waveform(1), 2000))
    return file


@pytest.fixture(scope="module")
def site(network, calls, call, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds") / "site"
    make_site(network, [call], calls, folder, concepts=3, graph=False, progress=False)
    return folder


def players(page):
    return [given["data-sound"] for given in Page(page).all("button", "play")]


def test_each_button_of_a_concept_plays_its_own_patch(site, calls):
    renderer = page_renderer_of(calls.preprocessing, 2)
    for concept in range(CONCEPTS):
        page = site / "concepts" / LAYER / f"{concept}.html"
        patches = calls.patches_of(LAYER, [(concept, mode) for mode in MODES])
        expected = [renderer.sound(patch.picture, patch.box) for mode in MODES for patch in patches[concept, mode]]
        assert [(page.parent / address).read_bytes() for address in players(page)] == expected
        assert len(expected) >= 2
        assert "left out" not in page.read_text("utf-8")


def test_a_prediction_plays_itself_and_the_files_of_its_concepts(site, network, calls, call):
    page = site / "predictions" / "call.html"
    own, *others = players(page)
    assert own.startswith("data:audio/wav;base64,")
    explanation = crp.explain(network, call, calls, concepts=3, graph=False)
    expected = [
        f"../concepts/{LAYER}/{part.concept}-{mode}-{rank}.wav"
        for part in explanation.layers[0].ranked
        for mode in ("relevance", "activation")
        for rank in range(2)
    ]
    assert sorted(others) == sorted(expected)
    assert set(others) <= referred(page)
    assert "left out" not in page.read_text("utf-8")


def test_what_does_not_fit_is_left_out_and_counted(network, calls, call, tmp_path, monkeypatch):
    sizes = [len(page_renderer_of(calls.preprocessing, 2).sound(one.picture, one.box)) for one in _patches(calls)]
    monkeypatch.setattr(sound_files, "LIMIT", sizes[0])
    make_site(network, [call], calls, tmp_path / "site", concepts=3, graph=False, progress=False)
    folder = tmp_path / "site" / "concepts" / LAYER
    assert [len(file.read_bytes()) for file in folder.glob("0-*.wav")] == sizes[:1]
    told = f"{len(sizes) - 1} sounds are left out, because the sounds of a concept take at most"
    assert told in (folder / "0.html").read_text("utf-8")
    page = (tmp_path / "site" / "predictions" / "call.html").read_text("utf-8")
    assert "sounds are left out, because the sounds of a page or a concept take at most" in page


def _patches(calls):
    found = calls.patches_of(LAYER, [(0, mode) for mode in MODES])
    return [patch for mode in MODES for patch in found[0, mode]]


def test_a_browser_may_load_the_sounds(site, browser):
    page = site / "concepts" / LAYER / "0.html"
    for file in (page, site / "predictions" / "call.html"):
        browser.open(file)
        address = players(file)[-1]
        seconds = played(browser, f'[data-sound="{address}"]')
        with wave.open(io.BytesIO((file.parent / address).read_bytes())) as sound:
            assert seconds == pytest.approx(sound.getnframes() / sound.getframerate(), abs=1e-3)
        assert browser.complaints == []


def test_pages_of_pictures_have_no_sounds(made):
    assert not list(made.rglob("*.wav"))
    assert "data-sound" not in "".join(page.read_text("utf-8") for page in made.rglob("*.html"))
