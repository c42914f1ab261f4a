"""Wrong input to `mine` ends in one sentence and leaves no files."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import crp
from crp.concepts import ChannelConcept
from crp.errors import InputError, ModelError, SampleError
from crp.mining.input_boxes import positions_of
from crp.preprocessing import Preprocessing

from .conftest import mined

torch.manual_seed(0)
NET = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)).eval()
DATA = TensorDataset(torch.ones(5, 1, 6, 6), torch.zeros(5, dtype=torch.int64))
BROKEN = copy.deepcopy(NET)
BROKEN[3].weight.data[0, 0] = float("nan")


KIND = "A kind of concept is a value such as crp.ChannelConcept(), given "


@pytest.mark.parametrize(
    ("model", "dataset", "options", "error", "message"),
    [
        (NET, DATA, {"layers": ["1.conv"]}, InputError, "The model has no layer '1.conv': "),
        (NET, DATA, {"layers": []}, InputError, "No layers are given; at least one is needed."),
        (NET, DATA, {"concept": {"9": ChannelConcept()}}, InputError, "No kind of concept is given for layer "),
        (NET, DATA, {"concept": ChannelConcept}, InputError, f"{KIND}<class "),
        (NET, DATA, {"concept": "channels"}, InputError, f"{KIND}'channels'."),
        (NET, DATA, {"k": 0}, InputError, "k is 0; it must be a whole number of at least 1."),
        (NET, DATA, {"workers": -1}, InputError, "workers is -1; it must be a whole number of at least 0."),
        (NET, DATA, {"targets": "labels"}, InputError, "There is no target rule 'labels': did you mean 'label'?"),
        (NET, DATA, {"precision": "float16"}, InputError, "There is no precision 'float16': it is 'bfloat16', "),
        (NET, DATA, {"precision": "tf32"}, InputError, "The precision 'tf32' needs an NVIDIA GPU, "),
        (NET, DATA, {"relevance_score": "mean"}, InputError, "There is no score 'mean': "),
        (NET, DATA, {"class_names": ["a"]}, InputError, "There are 1 class names, and the model has 3 classes."),
        (
            NET,
            DATA,
            {"patch_concepts": {"0": [2]}},
            InputError,
            "There is no concept 2: layer '0' has the concepts 0 to 1.",
        ),
        (NET, DATA, {"patch_concepts": {"3": [0]}}, InputError, "patch_concepts names layer '3', which is not among"),
        (NET, DATA, {"preprocessing": Preprocessing()}, InputError, "An input of mode 'RGB' has shape [3, H, W]"),
        (
            NET,
            TensorDataset(torch.ones(5, 1, 2, 2)),
            {"targets": "prediction"},
            ModelError,
            "The model cannot run on input of shape [1, 1, 2, 2]: ",
        ),
        (
            NET,
            TensorDataset(torch.ones(5, 36)),
            {"targets": "prediction"},
            InputError,
            "Samples of shape [36] cannot be shown as pictures",
        ),
        (
            NET,
            TensorDataset(torch.ones(5, 1, 6, 6)),
            {},
            SampleError,
            "Sample 0 has no label; pass targets='prediction'",
        ),
        (
            NET,
            TensorDataset(DATA.tensors[0], torch.full((5,), 3)),
            {},
            SampleError,
            "Sample 0 has label 3, but the model has the classes 0 to 2.",
        ),
        (
            nn.Sequential(*NET[:-1], nn.Linear(32, 1)),
            TensorDataset(DATA.tensors[0], torch.ones(5, dtype=torch.long)),
            {},
            SampleError,
            "Sample 0 has label 1, but the model has one output: pass targets='prediction' to explain it.",
        ),
        (
            NET,
            TensorDataset(torch.ones(5, 1, 6, 6) * torch.nan),
            {},
            SampleError,
            "Sample 0 holds NaN or infinite values.",
        ),
        (
            BROKEN,
            DATA,
            {},
            ModelError,
            "The model's '3.weight' holds 1 NaN or infinite values of 96; it cannot be explained.",
        ),
    ],
)
def test_wrong_input_is_refused_in_one_sentence_and_leaves_no_files(tmp_path, model, dataset, options, error, message):
    with pytest.raises(error) as caught:
        mined(model, dataset, tmp_path / "a.crp", **{"layers": ["0"], **options})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


class SideTrack(nn.Module):
    """Has a layer that is called but whose output is not used."""

    def __init__(self):
        super().__init__()
        self.conv, self.unused, self.linear = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 1), nn.Linear(32, 2)

    def forward(self, data):
        hidden = self.conv(data)
        self.unused(hidden)
        return self.linear(hidden.flatten(1))


def test_a_layer_that_no_relevance_reaches_is_refused(tmp_path):
    with pytest.raises(ModelError) as caught:
        mined(SideTrack(), DATA, tmp_path / "a.crp", layers=["conv", "unused"])
    assert str(caught.value) == "No relevance can reach layer 'unused': the output does not depend on it."


class AlwaysDropping(nn.Module):
    """Forgets to tell dropout that it is being evaluated."""

    def __init__(self, part):
        super().__init__()
        self.conv, self.linear, self.part = nn.Conv2d(1, 2, 3), nn.Linear(32, 3), part

    def forward(self, data):
        return self.linear(nn.functional.dropout(self.conv(data).abs(), self.part).flatten(1))


def test_a_model_that_answers_differently_when_run_twice_is_refused(tmp_path):
    sentence = (
        r"^The model gives different outputs for the same sample \(they differ by [\d.]+\), although it is in "
        r"evaluation mode: is a dropout written as F\.dropout\(x\) instead of "
        r"F\.dropout\(x, training=self\.training\), or does the model keep a state between calls\?$"
    )
    with pytest.raises(ModelError, match=sentence):
        mined(AlwaysDropping(0.5), DATA, tmp_path / "a.crp", layers=["conv"])
    assert list(tmp_path.iterdir()) == []
    assert mined(AlwaysDropping(0.0), DATA, tmp_path / "a.crp", layers=["conv"]).layers == ("conv",)


class Counting(nn.Module):
    """Adds the number of its calls."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear, self.calls = nn.Conv2d(1, 2, 3), nn.Linear(32, 3), [0]

    def forward(self, data):
        self.calls[0] += 1
        return self.linear(self.conv(data).flatten(1)) + self.calls[0]


def test_a_model_that_counts_its_calls_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"^The model gives different outputs for the same sample"):
        mined(Counting(), DATA, tmp_path / "a.crp", layers=["conv"])


class OverBatches(nn.Module):
    """Subtracts the mean of the batch."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(1, 2, 3), nn.Linear(32, 3)

    def forward(self, data):
        found = self.conv(data)
        return self.linear((found - found.mean(0)).flatten(1))


def test_a_model_whose_samples_depend_on_their_batch_is_refused(tmp_path):
    without_statistics = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)
    )
    named = (
        r"^The model's output for a sample depends on the other samples of its batch, because of batch norms without "
        r"running statistics \('1'\): it changes by [\d.e-]+ of [\d.]+\. Mine with block_size=1 "
    )
    data = TensorDataset(torch.randn(5, 1, 6, 6), torch.zeros(5, dtype=torch.int64))
    with pytest.raises(ModelError, match=named):
        mined(without_statistics, data, tmp_path / "a.crp", layers=["0"])
    with pytest.raises(ModelError, match=r"depends on the other samples of its batch: it changes by"):
        mined(OverBatches(), DATA, tmp_path / "a.crp", layers=["conv"])
    # of a normal batch norm, and of one over the space of each sample, nothing depends on the batch
    for norm in (nn.BatchNorm2d(2), nn.InstanceNorm2d(2)):
        model = nn.Sequential(nn.Conv2d(1, 2, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
        mined(model, data, tmp_path / f"{type(norm).__name__}.crp", layers=["0"])


class AnyBright(nn.Module):
    """Changes a batch if one of its samples is bright: all of them, or what is bright."""

    def __init__(self, change):
        super().__init__()
        self.conv, self.linear, self.change = nn.Conv2d(1, 2, 3), nn.Linear(32, 3), change

    def forward(self, data):
        found = self.conv(data)
        return self.linear((self.change(found) if (data > 5).any() else found).flatten(1))


@pytest.mark.parametrize("bright", [0, 1, 4, 11])
def test_a_way_that_one_sample_makes_all_of_its_block_go_is_refused(bright, tmp_path):
    torch.manual_seed(3)
    data = torch.randn(12, 1, 6, 6).clamp(max=4)
    data[bright, 0, 0, 0] = 6
    dataset = TensorDataset(data, torch.zeros(12, dtype=torch.int64))
    options = {"layers": ["conv"], "vectors": True}
    of_all, of_bright = AnyBright(torch.square), AnyBright(lambda found: found.clamp(max=9))
    with pytest.raises(ModelError, match=r"depends on the other samples of its batch: it changes by"):
        mined(of_all, dataset, tmp_path / "a.crp", block_size=4, **options)
    mined(of_all, dataset, tmp_path / "b.crp", block_size=1, **options)
    mined(of_bright, dataset, tmp_path / "c.crp", block_size=4, **options)


def test_in_blocks_of_one_such_a_model_is_mined_as_it_is_explained(tmp_path):
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)
    )
    data = TensorDataset(torch.randn(5, 1, 6, 6))
    library = mined(model, data, tmp_path / "a.crp", layers=["0"], targets="prediction", block_size=1, vectors=True)
    for index in range(5):
        (layer,) = crp.explain(model, data[index][0], library, graph=False, effects=False).layers
        expected = layer.relevance / abs(layer.relevance).sum()
        np.testing.assert_allclose(library.vectors("0").relevance[index], expected, atol=1e-3)


class Tokens(nn.Module):
    """Cuts pictures into tokens, `[N, T, D]`."""

    def __init__(self):
        super().__init__()
        self.embed, self.block, self.head = nn.Conv2d(1, 4, 3, 3), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, data):
        return self.head(self.block(self.embed(data).flatten(2).transpose(1, 2)).mean(1))


class Spectrum(nn.Module):
    """Makes a picture of a signal."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 2, 3), nn.Linear(2, 3)

    def forward(self, data):
        return self.head(self.conv(data.unflatten(2, (6, 6))).abs().mean((2, 3)))


@pytest.mark.parametrize(
    ("model", "layer", "data", "boxes"),
    [
        # the surroundings of the cell of a token: at most two of a grid of 2 x 2 on each side
        (Tokens(), "block", DATA, {(0, 0, 6, 6)}),
        (Spectrum(), "conv", TensorDataset(torch.rand(5, 1, 36), torch.zeros(5, dtype=torch.int64)), {(0, 36)}),
    ],
)
def test_patches_of_a_layer_of_another_space_lie_in_the_whole_input(tmp_path, model, layer, data, boxes):
    library = mined(model, data, tmp_path / "a.crp", layers=["head", layer], patches=2)
    for window in positions_of(model, data[0][0], {layer: library.layout(layer)})[layer].windows:
        assert tuple(window.tolist()) in boxes
    assert len(library.patches(layer, 0, "activation")) == 2


def test_class_names_are_read_before_the_first_sample(tmp_path):
    class Never:
        def __len__(self):
            return 5

        def __getitem__(self, index):
            raise AssertionError("a sample was read")

    with pytest.raises(InputError, match=r"^class_names must hold strings, given 0 for class 0\.$"):
        mined(NET, Never(), tmp_path / "a.crp", class_names=range(3))
    library = mined(NET, DATA, tmp_path / "a.crp", class_names={"0": "ant", "1": "bee", "2": "cat"}, layers=["0"])
    assert library.class_names == ("ant", "bee", "cat")
