"""Defaults of mining: layers, preprocessing, targets and device, from a model and data."""

import pytest
import torch
from torch import nn

from crp.errors import InputError, ModelError
from crp.preprocessing import Preprocessing
from crp.sources import load_model
from crp.sources.fitting import matching_layers, number_of_classes, pick_device
from crp.sources.plan import plan_mining, preprocessing_for

from .conftest import saved_pictures


class TestFitting:
    def test_patterns_match_between_the_dots(self):
        inner = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU())
        model = nn.ModuleDict({"layer1": inner, "layer2": nn.Sequential(nn.Linear(1, 1)), "head": nn.ReLU()})
        assert matching_layers(model, ["layer*"]) == ["layer1", "layer2"]
        assert matching_layers(model, ["layer1.*"]) == ["layer1.0"]
        assert matching_layers(model, ["layer2", "layer1.1", "layer?.0"]) == [
            "layer1.0",
            "layer1.1",
            "layer2",
            "layer2.0",
        ]

    def test_a_picture_too_small_for_the_model(self, net):
        with pytest.raises(
            InputError, match=r"^The model cannot run on 'a\.png' of shape \[3, 1, 1\]: .*Kernel size can't be"
        ):
            number_of_classes(load_model(net), torch.zeros(3, 1, 1), "'a.png'")

    def test_device(self):
        assert pick_device("cpu") == torch.device("cpu")
        assert pick_device() == torch.device("cuda" if torch.cuda.is_available() else "cpu")


class TestPlan:
    def test_unlabelled_pictures_are_explained_for_the_prediction(self, tmp_path, net):
        saved_pictures(tmp_path / "data", ["a.png"])
        plan = plan_mining(net, str(tmp_path / "data"))
        assert (plan.targets, plan.layers, plan.class_names) == ("prediction", ("0", "2"), None)
        assert plan.notes == (
            "The prediction of each sample is explained.",
            "Mined layers: 0, 2; the last of each stage, or evenly spaced blocks if there is only one stage (choose "
            "others with --layers; `crp layers` lists them).",
        )

    def test_labels_are_explained_where_there_are_any(self, tmp_path, net):
        plan = plan_mining(net, net.replace(":make", ":Pairs"), layers=["0"])
        assert (plan.targets, plan.layers, plan.class_names) == ("label", ("0",), ("one", "two", "three"))

    def test_preprocessing(self, tmp_path):
        imagenet = Preprocessing.imagenet()
        assert preprocessing_for("torchvision:resnet18", "w.pt") == imagenet
        assert preprocessing_for("a.py:b", None) is None
        assert preprocessing_for("a.py:b", None, settings={"mean": 0.5, "size": None}) == Preprocessing(mean=0.5)
        assert preprocessing_for("a.py:b", None, settings={"size": 64}) == Preprocessing(size=64, crop=64)
        assert preprocessing_for("a.py:b", None, settings={"size": (64, 32)}) == Preprocessing(size=(64, 32))
        assert preprocessing_for("torchvision:vgg16", "w.pt", settings={"size": (64, 32)}) == Preprocessing(
            size=(64, 32), mean=imagenet.mean, std=imagenet.std
        )
        (tmp_path / "p.json").write_text('{"size": 20, "mode": "L", "mean": 0.5}')
        assert preprocessing_for("a.py:b", None, str(tmp_path / "p.json"), {"mean": 0.1}) == Preprocessing(
            size=20, mode="L", mean=0.1
        )

    def test_default_weights_bring_their_own_preprocessing(self):
        expected = Preprocessing.imagenet(size=232, crop=224)  # what torchvision's documentation says of IMAGENET1K_V2
        assert preprocessing_for("torchvision:resnet50", "DEFAULT") == expected


def test_a_segmentation_is_mined_from_python():
    with pytest.raises(ModelError, match=r"returns a tensor \[1, 3, 4, 4\] for one .* targets=ClassInMask\(1\)"):
        number_of_classes(nn.Conv2d(3, 3, 1), torch.zeros(3, 4, 4), "'a.png'")
