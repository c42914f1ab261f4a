"""From the shell: several labels in an .npz, the best classes, a part of the output, a regression."""

import json

import numpy as np
import pytest

import crp
from crp.attribution.starts import Difference, Logit
from crp.sources.data import load_data
from crp.sources.named_models import load_model

NETS = """
import torch
from torch import nn


class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.relu, self.pool = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(4, 3)

    def forward(self, data):
        features = self.relu(self.conv(data))
        return {"features": features, "out": self.head(self.pool(features).flatten(1))}


class Value(Whole):
    def forward(self, data):
        return super().forward(data)["out"][:, 0]
"""


@pytest.fixture
def tasks(shop):
    (shop.folder / "nets.py").write_text(NETS)
    images = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3), dtype=np.uint8)
    labels = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 1], [1, 0, 0], [0, 1, 1]])
    np.savez(shop.folder / "many.npz", images=images, labels=labels)
    return shop


def mined(shop, *words):
    result = shop.run("mine", *words, "--out", "x.crp", "--patches", 1, "--overwrite")
    assert result.exit_code == 0, result.output
    return json.loads((shop.folder / "x.crp" / "manifest.json").read_text())


def test_a_part_of_the_output_and_several_labels(tasks):
    refused = tasks.run("mine", "nets.py:Whole", "many.npz", "--out", "y.crp")
    assert refused.exit_code == 2
    assert "The model returns a dict with 'features', 'out' for one sample" in refused.stderr
    assert "name the part to explain with --output." in refused.stderr
    manifest = mined(tasks, "nets.py:Whole", "many.npz", "--layers", "conv", "--output", "out")
    assert (manifest["model"]["output"], manifest["settings"]["targets"]) == ("out", "label")
    verified = tasks.run("verify", "x.crp", "--trust", "--data", "many.npz")
    assert verified.exit_code == 0, verified.output
    assert "were computed again" in verified.stdout
    drawn = tasks.run("atlas", "x.crp", "new.png", "--trust", "--out", "a.json")
    assert drawn.exit_code == 0, drawn.output
    told = tasks.run("info", "x.crp").stdout
    assert "the labels of each sample, of the model's output 'out'; relevance starts as" in told


EXPRESSIONS = {
    "1 - 0": "class 1 − class 0",
    "2 + 0": "class 2 + class 0",
    "1 - others": "class 1 against all others",
}


def test_an_expression_of_classes(tasks):
    mined(tasks, "nets.py:Whole", "many.npz", "--layers", "conv", "--output", "out")
    for words, name in EXPRESSIONS.items():
        drawn = tasks.run("atlas", "x.crp", "new.png", "--trust", "--target", words, "--out", "a.json")
        assert drawn.exit_code == 0, drawn.output
        told = json.loads((tasks.folder / "a.json").read_text())
        assert told["target"]["name"] == name
        assert f"--target '{words}'" in told["provenance"]["command"]
    refused = tasks.run("atlas", "x.crp", "new.png", "--trust", "--target", "1 - 7", "--out", "a.json")
    assert refused.exit_code == 2
    assert "There is no class 7: the model's output has the classes 0 to 2." in refused.stderr


def test_the_best_classes(tasks):
    assert mined(tasks, "net.py:make", "photos", "--layers", "0", "--targets", "top2")["settings"]["targets"] == "top2"
    assert "the 2 largest outputs for each sample" in tasks.run("info", "x.crp").stdout
    assert tasks.run("mine", "net.py:make", "photos", "--out", "y.crp", "--targets", "top0").exit_code == 2


def test_a_regression(tasks):
    manifest = mined(tasks, "nets.py:Value", "many.npz", "--layers", "conv", "--targets", "prediction")
    assert manifest["classes"] == 1
    drawn = tasks.run("atlas", "x.crp", "new.png", "--trust", "--target", "output - 3.5", "--out", "a.json")
    assert drawn.exit_code == 0, drawn.output
    assert json.loads((tasks.folder / "a.json").read_text())["target"]["name"] == "output − 3.5"


def test_an_expression_of_classes_is_mined(tasks):
    words = ("mine", "nets.py:Whole", "many.npz", "--layers", "conv", "--output", "out", "--patches", 2)
    started = (*words, "--targets", "2 - 0", "--out")
    assert tasks.run(*started, "a.crp", "--patches-now", "all").exit_code == 0
    assert tasks.run(*started, "b.crp").exit_code == 0
    library = crp.open_library(tasks.folder / "a.crp")
    assert library.class_names == ("class 2 − class 0",)
    assert library.manifest["source"]["start"] == {"words": "2 - 0", "outputs": 3}

    # the same as with a start from Python
    model = load_model(f"{tasks.folder}/nets.py:Whole", output="out")
    start = Difference(Logit(2), Logit(0))
    data, path = load_data(f"{tasks.folder}/many.npz"), tasks.folder / "own.crp"
    crp.mine(model, data, layers=["conv"], path=path, targets=start)
    for file in ("references", "statistics"):
        own, shell = (tasks.folder / name / f"layers/conv/{file}.safetensors" for name in ("own.crp", "a.crp"))
        assert own.read_bytes() == shell.read_bytes()

    # patches made later, merging, verifying and pages find the start again
    assert tasks.run("patches", "b.crp", "--trust").exit_code == 0
    files = {path.name: path.read_bytes() for path in (tasks.folder / "a.crp/layers/conv").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tasks.folder / "b.crp/layers/conv").iterdir()}
    for part in ("1/2", "2/2"):
        assert tasks.run(*started, "c.crp", "--shard", part).exit_code == 0
    assert tasks.run("merge", "c.crp", "--trust").exit_code == 0
    verified = tasks.run("verify", "c.crp", "--trust", "--data", "many.npz")
    assert verified.exit_code == 0, verified.output
    assert "were computed again" in verified.stdout
    drawing = ("atlas", "c.crp", "new.png", "--trust", "--data", "many.npz", "--out", "a.json")
    drawn = tasks.run(*drawing, "--target", "2 - 0")
    assert drawn.exit_code == 0, drawn.output
    assert "cannot be made" not in drawn.stderr
    mined = tasks.run("mine", "nets.py:Whole", "photos", *words[3:], "--targets", "2 - others", "--out", "d.crp")
    assert mined.stdout.splitlines()[-1].endswith("--model nets.py:Whole --target '2 - others'")

    refused = tasks.run(*words, "--targets", "2 - 7", "--out", "e.crp")
    assert refused.exit_code == 2
    assert refused.stderr.endswith("Error: There is no class 7: the model's output has the classes 0 to 2.\n")
