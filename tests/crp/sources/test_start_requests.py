"""Starts named on the command line: masks, boxes, similarities."""

import csv
import json
import re

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

import crp
from crp.attribution.starts import ClassInMask, Similarity
from crp.cli.group import main
from crp.errors import InputError
from crp.sources.start_requests import StartRequest


class Segmenter(nn.Module):
    """Two classes at half the size of the input: the red and the green of each pixel."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 2, stride=2, bias=False)
        self.conv.weight.data = torch.zeros(2, 3, 2, 2)
        self.conv.weight.data[0, 0], self.conv.weight.data[1, 1] = 0.25, 0.25

    def forward(self, data):
        return self.conv(data)


class Embedder(Segmenter):
    def forward(self, data):
        return self.conv(data).mean((2, 3))


def picture(path, colour, box=(0, 0, 20, 10)):
    image = Image.new("RGB", (20, 10))
    image.paste(colour, box)
    image.save(path)
    return str(path)


def mined(model, path, **options):
    data = [torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    how = {"layers": ["conv"], "k": 2, "patches": 1, "progress": False}
    # the short side becomes 8 pixels, and of 16 x 8 pixels the middle is cut out
    return crp.mine(model, data, path=path, preprocessing=crp.Preprocessing(size=8, crop=8), **how, **options)


def test_a_mask_is_resized_and_cropped_with_its_picture(tmp_path):
    model = Segmenter()
    library = mined(model, tmp_path / "a.crp", targets=ClassInMask(1), class_names=["red", "green"])
    image = picture(tmp_path / "given.png", "lime")
    mask = picture(tmp_path / "left half.png", "white", (0, 0, 10, 10))
    own, start = StartRequest(target="green", mask=mask).of(model, image, library)
    assert own is model
    assert start.name(["red", "green"]) == "green inside left half"
    expected = np.zeros((4, 4), bool)
    expected[:, :2] = True  # the left half of the picture is the left half of its middle
    np.testing.assert_array_equal(start.mask.numpy(), expected)
    found = crp.explain(model, image, library, target=start)
    assert found.target.value == pytest.approx(8.0, rel=1e-5)  # eight positions of value 1
    model_words = ["--model", f"{__file__}:Segmenter", "--out", str(tmp_path / "page.json")]
    words = ["atlas", str(library.path), image, "--target", "green", "--mask", mask, *model_words]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / "page.json").read_text())
    assert written["target"]["name"] == "green inside left half"
    assert f"--mask '{mask}'" in written["provenance"]["command"]
    Image.new("L", (20, 12)).save(tmp_path / "other.png")
    with pytest.raises(InputError, match=r"has 20 x 12 pixels, and the picture 20 x 10: both must be equally large"):
        StartRequest(target="green", mask=str(tmp_path / "other.png")).of(model, image, library)
    with pytest.raises(InputError, match=r"There is no class 'grey'"):
        StartRequest(target="grey", mask=mask).of(model, image, library)


def test_a_similarity_is_to_the_embedding_of_the_other_picture(tmp_path):
    model = Embedder()
    reference = Similarity(torch.tensor([1.0, 0.5]))
    library = mined(model, tmp_path / "b.crp", targets=reference)
    image, other = picture(tmp_path / "given.png", (255, 255, 0)), picture(tmp_path / "other.png", (255, 0, 0))
    _, start = StartRequest(similar_to=other).of(model, image, library)
    found = crp.explain(model, image, library, target=start)
    assert found.target.name == "similarity to other.png"
    assert found.target.value == pytest.approx(0.5**0.5, rel=1e-5)  # (1, 1) and (1, 0)
    assert model.training


def test_of_a_classifier_a_mask_says_where_the_object_is(tmp_path):
    model = Embedder()
    library = mined(model, tmp_path / "b.crp", targets="prediction", class_names=["red", "green"])
    image = picture(tmp_path / "given.png", (255, 128, 0))
    mask = picture(tmp_path / "left.png", "white", (0, 0, 10, 10))
    words = ["atlas", str(library.path), image, "--mask", mask, "--model", f"{__file__}:Embedder", "--out"]
    done = CliRunner().invoke(main, [*words, str(tmp_path / "page.json")])
    assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / "page.json").read_text())
    assert written["target"]["name"] == "red"
    assert written["place"]["part"] == 0.5
    assert written["place"]["context"] == pytest.approx(0.5, abs=1e-6)  # the picture is of one colour
    (part,) = (part for part in written["layers"][0]["supporting"] if part["concept"] == 0)
    assert part["context"]["ratio"] == pytest.approx(1, abs=1e-5)
    done = CliRunner().invoke(main, [*words, str(tmp_path / "page.csv")])
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((tmp_path / "page.csv").read_text().splitlines()))
    assert [(row["explained"], row["concept"]) for row in rows if float(row["share"]) > 0] == [("red", "0")]
    assert float(rows[0]["inside"]) == part["context"]["inside"]
    assert float(rows[0]["context"]) == pytest.approx(0.5, abs=1e-6)


def test_the_class_of_a_mask_is_by_default_the_one_that_most_of_it_is_predicted_as(tmp_path):
    model = Segmenter()
    library = mined(model, tmp_path / "a.crp", targets=ClassInMask(1), class_names=["red", "green"])
    image = picture(tmp_path / "given.png", "lime", (0, 0, 12, 10))
    mask = picture(tmp_path / "left.png", "white", (0, 0, 10, 10))
    _, start = StartRequest(mask=mask).of(model, image, library)
    assert start.name(["red", "green"]) == "green inside left"
    with pytest.raises(InputError, match=r"^The mask '.*dark.png' is empty: no pixel of it is bright\.$"):
        StartRequest(mask=picture(tmp_path / "dark.png", "black")).of(model, image, library)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"mask": "a.png", "box": 3}, "--mask and --box are different questions: give one of them."),
        ({"box": 0, "target": "cat"}, "--box says what is explained: --target cannot be given, too."),
    ],
)
def test_questions_that_exclude_one_another(given, sentence):
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}$"):
        StartRequest(**given)
    assert StartRequest(target="cat").of(None, "a.png", None) == (None, "cat")
