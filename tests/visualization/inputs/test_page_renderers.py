"""The contract of page renderers: what pages rely on, for every kind of input; and each layout by hand."""

import base64
import dataclasses
import io
import json
import re
import wave
from pathlib import Path

import numpy as np
import pytest

import example_explanations as examples
from crp.explanations import Patch, from_json, to_json
from crp.media.medium import Axis, Medium
from crp.media.stft import Stft
from crp.visualization.atlases import Atlas
from crp.visualization.inputs import page_renderer_for
from crp.visualization.inputs.laid_out import cell_axes, drawn_map, drawn_patch, place_of
from crp.visualization.inputs.page_renderer import around, span, steps
from crp.visualization.inputs.picture_pages import PicturePages
from crp.visualization.inputs.signal_pages import SignalPages, SoundPages
from crp.visualization.inputs.spectrogram_pages import SpectrogramPages
from crp.visualization.inputs.video_pages import VideoPages
from crp.visualization.inputs.volume_pages import VolumePages
from crp.visualization.page import sounds
from example_inputs import MEDIA, explanation_of

EXPLANATIONS = {"picture": examples.explanation(), **{kind: explanation_of(kind) for kind in MEDIA}}


DOCS = Path(__file__).resolve().parents[3] / "docs" / "inputs.md"


def from_the_docs(medium):
    """The renderer that docs/inputs.md writes as an example."""
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.S) if "class Raster" in block]
    names: dict = {}
    exec(code, names)
    return names["RasterPages"](medium)


@pytest.fixture(params=[*EXPLANATIONS, "docs"])
def drawn(request):
    """A renderer, and an explanation that it draws."""
    explanation = EXPLANATIONS["signal" if request.param == "docs" else request.param]
    of_docs = request.param == "docs"
    return from_the_docs(explanation.medium) if of_docs else page_renderer_for(explanation), explanation


@pytest.fixture(scope="module")
def pages():
    """Pages by what is drawn, each made once."""
    return {}


@pytest.fixture
def page(pages, drawn, request):
    kind = request.node.callspec.params["drawn"]
    if kind not in pages:
        renderer, explanation = drawn
        pages[kind] = Atlas(explanation, renderer).html()
    return pages[kind]


class TestContract:
    """Of any renderer: also of one that a reader of docs/inputs.md writes."""

    def test_relevance_is_laid_out_on_the_picture(self, drawn):
        renderer, explanation = drawn
        picture = renderer.picture(explanation.picture)
        assert (picture.dtype, picture.ndim, picture.shape[2]) == (np.uint8, 3, 3)
        laid = renderer.relevance(explanation.heatmap, explanation.picture)
        assert laid.shape == picture.shape[:2]
        # no relevance is invented, none changes its sign, and nothing is shown where there is none
        assert not renderer.relevance(np.zeros_like(explanation.heatmap), explanation.picture).any()
        assert (renderer.relevance(np.abs(explanation.heatmap), explanation.picture) >= 0).all()
        opposite = renderer.relevance(-explanation.heatmap, explanation.picture)
        np.testing.assert_array_equal(np.unique(opposite), np.unique(-laid))

    def test_a_patch_is_a_picture_with_a_heatmap(self, drawn):
        renderer, explanation = drawn
        patch = explanation.layers[0].ranked[0].relevance_patches[0]
        shown = drawn_patch(patch, renderer)
        assert (shown.picture.dtype, shown.picture.shape[:2]) == (np.uint8, shown.heatmap.shape)

    def test_every_cell_is_shown_once(self, drawn):
        renderer, explanation = drawn
        concept_map = explanation.layers[0].concept_map
        grid = concept_map.grid or concept_map.concept.shape[-explanation.heatmap.ndim :]
        numbers = renderer.arranged(np.arange(np.prod(grid)).reshape(grid), -1)
        assert sorted(numbers[numbers >= 0].tolist()) == list(range(int(np.prod(grid))))

    def test_relevance_lies_in_the_cell_that_the_map_shows_it_in(self, drawn):
        """A value of the input is drawn inside the cell that holds it; if not, a region would rank other places."""
        renderer, explanation = drawn
        space = explanation.heatmap.shape
        concept_map = explanation.layers[0].concept_map
        grid = concept_map.grid or concept_map.concept.shape[-len(space) :]
        numbers = renderer.arranged(np.arange(np.prod(grid)).reshape(grid), -1)
        random = np.random.default_rng(0)
        for _ in range(20):
            place = tuple(int(random.integers(length)) for length in space)
            cell = [at * cells // length for at, cells, length in zip(place, grid, space, strict=True)]
            heatmap = np.zeros(space, dtype=np.float32)
            heatmap[place] = 1
            rows, columns = np.nonzero(renderer.relevance(heatmap, explanation.picture))
            height, width = renderer.picture(explanation.picture).shape[:2]
            # the middle of what is drawn; a column of a long signal holds several values
            row, column = int(rows.mean()) * numbers.shape[0] // height, int(columns.mean()) * numbers.shape[1] // width
            shown = np.unravel_index(numbers[row, column], grid)
            assert all(abs(one - other) <= (len(space) == 1) for one, other in zip(shown, cell, strict=True))

    def test_places_are_told_on_the_axes(self, drawn):
        renderer, explanation = drawn
        assert len(renderer.axes()) in (0, explanation.heatmap.ndim)
        concept_map, space = explanation.layers[0].concept_map, explanation.heatmap.shape
        told = cell_axes(concept_map, renderer, space)
        if told:
            grid = concept_map.grid or concept_map.concept.shape[-len(space) :]
            assert tuple(len(axis["edges"]) - 1 for axis in told["axes"]) == grid
        assert renderer.where(np.zeros_like(explanation.heatmap)) == "nowhere"
        for tick in renderer.ticks(explanation.heatmap.shape):
            assert 0 <= tick.x <= 1
            assert 0 <= tick.y <= 1
            assert tick.side in ("bottom", "left", "top")

    def test_the_page_holds_the_table_as_the_picture_shows_it(self, drawn, page):
        renderer, explanation = drawn
        (content,) = re.findall(r'id="atlas-cells">(.*?)</script>', page)
        held = json.loads(content)[0][0]
        size = renderer.picture(explanation.picture).shape[:2]
        shown = drawn_map(explanation.layers[0].concept_map, renderer, size)
        assert shown.concept.shape == (held["rows"], held["columns"])
        assert held["winner"] == shown.concept.ravel().tolist()
        assert len(page) < 5e6

    def test_json_keeps_what_the_input_is(self, drawn, page):
        renderer, explanation = drawn
        again = from_json(to_json(explanation))
        assert again.medium == explanation.medium
        assert again.layers[0].concept_map.grid == explanation.layers[0].concept_map.grid
        assert Atlas(again, renderer).html() == page


def test_what_the_input_is_chooses_the_renderer():
    kinds = {name: type(page_renderer_for(one)) for name, one in EXPLANATIONS.items()}
    assert kinds == {
        "picture": PicturePages,
        "signal": SignalPages,
        "audio": SoundPages,
        "spectrogram": SpectrogramPages,
        "volume": VolumePages,
        "image": PicturePages,
        "video": VideoPages,
    }


def test_a_page_takes_a_renderer_of_the_caller():
    class Upside(PicturePages):
        def picture(self, values):
            return values[::-1]

    value = EXPLANATIONS["picture"]
    assert Atlas(value, Upside()).html() != Atlas(value).html()


def test_a_signal_is_drawn_column_by_column():
    renderer = SignalPages(Medium.signal(100))
    values = np.zeros((1, 448), dtype=np.float32)
    heatmap = np.zeros(448, dtype=np.float32)
    heatmap[[10, 300]] = 4, -2
    laid = renderer.relevance(heatmap, values)
    np.testing.assert_array_equal(laid[0], heatmap)
    # of 200 rows, 44 are bars: the strongest one is 22 high and up, one of half of it 11 high and down
    assert laid.shape == (200, 448)
    assert (np.flatnonzero(laid[-44:, 10]) == np.arange(22)).all()
    assert (np.flatnonzero(laid[-44:, 300]) == np.arange(22, 33)).all()
    # a column of four values shows the one with the largest magnitude
    long = np.zeros(4 * 448, dtype=np.float32)
    long[[40, 42]] = 1, -3
    assert renderer.relevance(long, values)[0, 10] == -3


def test_a_spectrogram_has_low_frequencies_at_the_bottom_and_is_dark_where_loud():
    renderer = SpectrogramPages(Medium.spectrogram(Stft(2000, 64, 32)))
    values = np.zeros((32, 124, 3), dtype=np.uint8)
    values[0] = 255
    assert (renderer.picture(values)[-3:] == 0).all()
    assert (renderer.picture(values)[:-3] == 255).all()
    np.testing.assert_array_equal(renderer.arranged(np.array([[0, 1], [2, 3]]), -1), [[2, 3], [0, 1]])


def test_a_volume_is_slabs_side_by_side():
    heatmap = np.zeros((6, 2, 2), dtype=np.float32)
    heatmap[1, 0, 0], heatmap[2, 1, 1], heatmap[3, 1, 1], heatmap[5, 0, 1] = 1, -2, 5, 7
    renderer = VolumePages(Medium.volume()).showing(heatmap, 3)
    assert renderer.slices == (1, 3, 5)
    laid = renderer.relevance(heatmap, np.zeros((1, 6, 2, 2), dtype=np.float32))
    # slabs 0 and 1 in the first row, slab 2 in the second; relevance of a slab is added up
    assert laid[::84, ::84].tolist() == [[1, 0, 0, 0], [0, 0, 0, 3], [0, 7, 0, 0], [0, 0, 0, 0]]
    cells = np.arange(12).reshape(3, 2, 2)
    assert renderer.arranged(cells, -1).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, -1, -1], [10, 11, -1, -1]]
    assert told(renderer.ticks((6, 2, 2))) == ["slice 1 (0–1)", "slice 3 (2–3)", "slice 5 (4–5)"]
    assert {tick.width for tick in renderer.ticks((6, 2, 2))} == {0.5}


def told(ticks):
    return [f"{tick.text} {tick.more}" for tick in ticks]


def test_a_video_is_frames_in_time_and_so_are_its_patches():
    video = Medium.video(4)
    heatmap = np.zeros((8, 2, 2), dtype=np.float32)
    heatmap[1, 0, 0], heatmap[2, 1, 1], heatmap[3, 1, 1], heatmap[7, 0, 1] = 1, -2, 5, 7
    renderer = VideoPages(video).showing(heatmap, 4)
    assert renderer.slices == (1, 3, 4, 7)
    # red rises from frame to frame, blue falls
    values = np.zeros((3, 8, 2, 2), dtype=np.float32)
    values[0], values[2] = (np.arange(8)[:, None, None] / 7, 1 - np.arange(8)[:, None, None] / 7)
    side = 336 // 4
    assert renderer.picture(values)[::side, ::side].tolist() == [
        [[36, 0, 219]] * 2 + [[109, 0, 146]] * 2,
        [[36, 0, 219]] * 2 + [[109, 0, 146]] * 2,
        [[146, 0, 109]] * 2 + [[255, 0, 0]] * 2,
        [[146, 0, 109]] * 2 + [[255, 0, 0]] * 2,
    ]
    assert renderer.relevance(heatmap, values)[::side, ::side].tolist() == [
        [1, 0, 0, 0], [0, 0, 0, 3], [0, 0, 0, 7], [0, 0, 0, 0]
    ]  # fmt: skip
    assert told(renderer.ticks((8, 2, 2))) == [
        "0.25 s (0–0.5)", "0.75 s (0.5–1)", "1 s (1–1.5)", "1.75 s (1.5–2)"
    ]  # fmt: skip
    patch = Patch(0, 1.0, 0, (0, 0, 0), (0, 0, 0, 8, 2, 2), values, heatmap / 7, "walk")
    picture, laid = VideoPages(video).patch(patch)
    assert picture[:: 36, :: 36].tolist() == renderer.picture(values)[::side, ::side].tolist()
    assert laid[0, 0] == pytest.approx(1 / 7)
    assert laid[-144 + 72, -1] == pytest.approx(1)
    assert "frame with most relevance" in Atlas(EXPLANATIONS["video"]).html()


def test_an_image_says_which_channels_are_drawn():
    text = Atlas(EXPLANATIONS["image"]).html()
    assert (
        "Of 4 channels, nir is drawn as red, red as green and green as blue; in every picture the smallest value of a "
        "channel is dark and the largest bright." in text
    )


def test_places_in_words():
    time = Axis("time", "s", 0.5, 0.01)
    assert span(time, 50, 125) == "1 to 1.75 s"
    assert around(np.array([0, 0, 1.0, -1.0]), [Axis("time", "s", step=2)]) == "around 5 s"
    assert around(np.zeros((2, 2)), [time, time]) == "nowhere"
    assert [text for _, text in steps(Axis("time", "s", step=0.01), 600)] == ["0", "2", "4"]
    assert steps(Axis("time", "s", step=0.01), 600)[1][0] == pytest.approx((2 + 0.005) / 6)
    patch = EXPLANATIONS["signal"].layers[0].ranked[0].relevance_patches[0]
    assert place_of(patch, page_renderer_for(EXPLANATIONS["signal"])) == "0.01 to 3.01 s"
    assert place_of(patch, PicturePages()) == ""


class TestSounds:
    def test_patches_and_input_can_be_played(self):
        value = EXPLANATIONS["audio"]
        text = Atlas(value).html()
        assert "media-src data:" in text
        found = re.findall(r'data-sound="data:audio/wav;base64,([A-Za-z0-9+/=]+)"', text)
        assert len(found) == 1 + 2 * len(value.layers[0].ranked)
        with wave.open(io.BytesIO(base64.b64decode(found[0]))) as sound:
            # twice the rate of the input, which no browser has to play
            assert (sound.getframerate(), sound.getnframes(), sound.getnchannels()) == (4000, 8000, 1)
            samples = np.frombuffer(sound.readframes(8000), dtype="<i2") / 32767
        between = samples[::2] / np.abs(samples[::2]).max()
        np.testing.assert_allclose(between, value.picture[0] / np.abs(value.picture).max(), atol=2e-4)

    def test_what_does_not_fit_is_counted(self, monkeypatch):
        monkeypatch.setattr(sounds, "LIMIT", 40_000)
        text = Atlas(EXPLANATIONS["audio"]).html()
        # 16,044 bytes of input and 8,044 of a patch, a third more as text: the input and one patch fit
        left = 2 * len(EXPLANATIONS["audio"].layers[0].ranked) - 1
        assert text.count("data-sound=") == 2
        assert f" {left} sounds are left out, because the sounds of a page take at most 0.04 MB." in text

    def test_a_spectrogram_sounds_like_its_loud_frequency(self):
        stft = Stft(2000, 64, 32)
        values = np.zeros((32, 40, 3), dtype=np.uint8)
        values[8] = 255
        shown = {"picture": values, "heatmap": np.zeros((32, 40)), "layers": ()}
        value = dataclasses.replace(EXPLANATIONS["spectrogram"], **shown)
        sound = SpectrogramPages(Medium.spectrogram(stft)).sound(value.picture)
        with wave.open(io.BytesIO(sound)) as file:
            samples = np.frombuffer(file.readframes(1 << 20), dtype="<i2")[::2] / 32767
        assert len(samples) == 64 + 39 * 32
        assert stft.frequencies[stft(samples[None])[0].mean(1).argmax()] == 250

    def test_a_large_patch_that_is_stored_smaller_keeps_frequency_and_duration(self):
        stft = Stft(2000, 64, 32)
        stored = np.zeros((8, 60, 3), dtype=np.uint8)
        stored[3] = 255
        sound = SpectrogramPages(Medium.spectrogram(stft)).sound(stored, (4, 10, 20, 130))
        with wave.open(io.BytesIO(sound)) as file:
            samples = np.frombuffer(file.readframes(1 << 20), dtype="<i2")[::2] / 32767
        assert len(samples) == 64 + 119 * 32
        # rows 6 and 7 of the patch, 10 and 11 of the spectrogram
        loudest = stft(samples[None])[0].mean(1).argsort()[-2:]
        assert sorted(stft.frequencies[loudest]) == [312.5, 343.75]

    def test_a_silent_page_may_not_load_sounds(self):
        assert "media-src" not in Atlas(EXPLANATIONS["signal"]).html()
