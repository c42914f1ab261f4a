"""Images of eight channels and 12 bits from the command line: which are drawn, and between which limits."""

import json

import numpy as np
import pytest

import crp
from crp.errors import InputError
from crp.library import open_library
from crp.media.medium import Medium
from crp.preprocessing import Preprocessing
from crp.sources.plan import plan_mining, preprocessing_for

NET = """
import torch
from torch import nn


def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(8, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


class Named:
    preprocessing = None

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return torch.ones(8, 6, 6)
"""


@pytest.fixture
def images(shop):
    (shop.folder / "eight.py").write_text(NET)
    (shop.folder / "images").mkdir()
    values = np.random.default_rng(0).integers(0, 4096, (3, 8, 9, 10)).astype(np.uint16)
    for number, image in enumerate(values):
        np.save(shop.folder / "images" / f"{number}.npy", image)
    return values


def test_a_page_shows_the_channels_that_mining_was_given(shop, images):
    options = ("--show-channels", "7,4,2", "--show-limits", "0,4095", "--layers", "0")
    result = shop.run("mine", "eight.py:make", "images", "--out", "eight.crp", *options)
    assert result.exit_code == 0, result.output
    library = open_library(shop.folder / "eight.crp")
    assert library.preprocessing == Medium.image(shown=(7, 4, 2), limits=(0, 4095))
    words = library.manifest["source"]["command"]
    assert words[words.index("--show-channels") :][:2] == ["--show-channels", "7,4,2"]
    assert words[words.index("--show-limits") :][:2] == ["--show-limits", "0.0,4095.0"]
    result = shop.run("atlas", "eight.crp", "images/1.npy", "--out", "a.html", "--model", "eight.py:make")
    assert result.exit_code == 0, result.output
    sentence = "Channel 7 is drawn as red, channel 4 as green and channel 2 as blue, from 0 (dark) to 4095 (bright)"
    assert sentence in (shop.folder / "a.html").read_text()
    model = crp.sources.load_model(f"{shop.folder}/eight.py:make")
    drawn = crp.explain(model, shop.folder / "images" / "1.npy", library, graph=False).picture
    np.testing.assert_array_equal(drawn, np.rint(255 * (images[1][[7, 4, 2]] / 4095)).transpose(1, 2, 0))


def test_options_take_precedence_over_the_file(tmp_path):
    bands = ("blue", "green", "red", "nir")
    (tmp_path / "m.json").write_text(json.dumps(Medium.image(bands, shown=(2, 1, 0), limits=(0, 9)).to_json()))
    found = preprocessing_for("a.py:b", None, str(tmp_path / "m.json"), shown=("nir", "red", "1"))
    assert found == Medium.image(bands, shown=(3, 2, 1), limits=(0, 9))
    assert preprocessing_for("a.py:b", None, limits=(1, 2)) == Medium.image(limits=(1, 2))


def test_what_does_not_fit_is_refused(shop, images, tmp_path):
    (tmp_path / "eeg.json").write_text(json.dumps(Medium.signal(250).to_json()))
    for model, file, what in (
        ("torchvision:resnet18", None, "'torchvision:resnet18' reads pictures"),
        ("a.py:b", str(tmp_path / "eeg.json"), "reads an input of the kind 'signal'"),
    ):
        with pytest.raises(InputError, match=f"are for images with other channels or values, and .*{what}"):
            preprocessing_for(model, None, file, shown=("1",))
    with pytest.raises(InputError, match=r"^'--mean' is for pictures, and --show-channels and --show-limits are for"):
        preprocessing_for("a.py:b", None, settings={"mean": 0.5}, shown=("1",))
    with pytest.raises(InputError, match=r"^There is no channel 'nir'; "):
        preprocessing_for("a.py:b", None, shown=("nir",))
    for options, message in (
        (("--show-channels", "1,2"), "One channel is drawn as grey, or three in colour, not 2."),
        (("--show-limits", "9,3"), "The limits are 9 and 3; they must be finite, the smaller first."),
        (("--show-channels", "8"), "Channel 8 is to be drawn, and the image has 8 channels."),
    ):
        result = shop.run("mine", "eight.py:make", "images", "--out", "x.crp", *options)
        assert (result.exit_code, message in result.output) == (2, True), result.output
    assert not (shop.folder / "x.crp").exists()


def test_data_that_have_a_preprocessing_of_their_own(shop, images):
    code = "from crp.preprocessing import Preprocessing\n" + NET.replace("= None", "= Preprocessing()")
    (shop.folder / "own.py").write_text(code)
    data = f"{shop.folder}/own.py:Named"
    with pytest.raises(InputError, match=r"say themselves what is drawn of them: omit --show-channels and"):
        plan_mining(f"{shop.folder}/own.py:make", data, shown=("1",))
    assert plan_mining(f"{shop.folder}/own.py:make", data).preprocessing == Preprocessing()
