"""Libraries that `mine` makes, compared with a naive computation; what it logs, stores and leaves unchanged."""

import copy
import importlib.metadata
import json
import logging
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset
from zennit.composites import EpsilonAlpha2Beta1

from crp.errors import InputError, LibraryError, SampleError
from crp.library import open_library
from crp.library.patches import MODES, read_patches
from crp.mining.crops import patch_box
from crp.preprocessing import Preprocessing
from crp.same_model import check_model

from .conftest import LAYERS, digests, mined, naive_heatmap, naive_truth

STABILIZER = 1e-10  # zennit-crp's, in the denominator of divided scores


def flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(*values.shape[:2], -1)


def naive_scores(values: np.ndarray, name: str) -> np.ndarray:
    scores = flat(values).sum(-1) if name.startswith("sum") else flat(values).max(-1)
    return scores / (np.abs(scores).sum(1, keepdims=True) + STABILIZER) if name.endswith("divided") else scores


@pytest.mark.parametrize(
    ("relevance_score", "activation_score"), [("sum/divided", "max"), ("max", "sum"), ("max/divided", "sum/divided")]
)
def test_references_equal_a_full_table_sorted(model, dataset, truth, tmp_path, relevance_score, activation_score):
    library = mined(
        model,
        dataset,
        tmp_path / "a.crp",
        k=6,
        patches=0,
        relevance_score=relevance_score,
        activation_score=activation_score,
    )
    assert library.layers == LAYERS
    for layer in LAYERS:
        assert library.shape(layer) == truth.relevance[layer].shape[1:]
        for mode, values, name in [
            ("relevance", truth.relevance[layer], relevance_score),
            ("activation", truth.activation[layer], activation_score),
        ]:
            found = library.references(layer, mode)
            scores = naive_scores(values, name)
            for concept in range(scores.shape[1]):
                order = sorted(range(len(scores)), key=lambda sample: (-np.float32(scores[sample, concept]), sample))[
                    :6
                ]
                assert found.sample[concept].tolist() == order
                np.testing.assert_allclose(found.score[concept], scores[order, concept], rtol=1e-6, atol=1e-30)
                assert found.target[concept].tolist() == truth.targets[order].tolist()
                assert found.position[concept].tolist() == flat(values)[order, concept].argmax(-1).tolist()


def test_statistics_equal_means_of_the_full_table(library, truth):
    for layer in LAYERS:
        totals = flat(truth.relevance[layer]).sum(-1)
        absolute = np.abs(totals).sum(1, keepdims=True)
        shares = np.where(absolute > 0, totals / np.where(absolute > 0, absolute, 1), 0)
        found = library.statistics(layer)
        assert found.count.tolist() == np.bincount(truth.targets, minlength=4).tolist()
        for target in range(4):
            np.testing.assert_allclose(
                found.share[target], shares[truth.targets == target].mean(0), rtol=1e-9, atol=2.0**-32
            )


def second_best(prediction, labels):
    assert labels.dtype == torch.int64
    return prediction.argsort(1)[:, -2]


@pytest.mark.parametrize("rule", ["prediction", second_best])
def test_other_targets(model, dataset, truth, tmp_path, rule):
    data = dataset.tensors[0][:24]
    classes = truth.prediction[:24].argsort(1)[:, -1 if rule == "prediction" else -2]
    library = mined(model, TensorDataset(data), tmp_path / "a.crp", targets=rule, patches=0)
    relevance = naive_truth(model, data, classes).relevance["conv2"]
    found = library.references("conv2", "relevance")
    scores = naive_scores(relevance, "sum/divided")
    assert (found.sample[:, 0] == scores.argmax(0)).all()
    assert (found.target == classes[found.sample]).all()
    assert library.manifest["settings"]["start"] == "logit"
    assert library.manifest["settings"]["targets"].endswith("second_best" if callable(rule) else "prediction")


@pytest.mark.parametrize("mode", MODES)
def test_patches_show_the_heatmap_of_the_scoring_position(model, dataset, truth, library, mode):
    data = dataset.tensors[0]
    sizes = {"conv1": 3, "conv2": 8}  # side of the receptive field: conv1 3; conv2 (3 - 1) * 2 + 1 + 3
    for layer in LAYERS:
        values = (truth.activation if mode == "activation" else truth.relevance)[layer]
        direction = -1 if mode == "negative" else 1
        references = library.references(layer, mode)
        for concept in range(values.shape[1]):
            patches = library.patches(layer, concept, mode)
            assert [patch.sample for patch in patches] == [one for one in references.sample[concept, :2] if one >= 0]
            for rank, patch in enumerate(patches):
                position = int(references.position[concept, rank])
                start = flat(values)[patch.sample, concept, position]
                heatmap = start * naive_heatmap(model, data[patch.sample], layer, concept, position)
                if layer == "linear1":
                    field, corner = (0, 0, 10, 10), ()
                else:
                    row, column = corner = divmod(position, values.shape[3])
                    stride = 1 if layer == "conv1" else 2
                    top, left = row * stride, column * stride
                    field = (top, left, top + sizes[layer], left + sizes[layer])
                assert patch.position == corner
                top, left, bottom, right = box = patch_box(direction * heatmap, field)
                assert mode != "negative" or start < 0
                assert patch.box == box
                crop = heatmap[top:bottom, left:right]
                largest = np.abs(crop).max()
                np.testing.assert_allclose(patch.heatmap, crop / largest if largest else crop, atol=0.5 / 127 + 1e-6)
                assert patch.picture.shape == (bottom - top, right - left, 3)


def test_pictures_come_from_the_preprocessing(model, tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2)).eval()
    pictures = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    preprocessing = Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    data = torch.stack([preprocessing.to_input(picture) for picture in pictures])
    library = mined(
        net, TensorDataset(data), tmp_path / "a.crp", layers=["0"], targets="prediction", preprocessing=preprocessing
    )
    assert library.preprocessing == preprocessing
    patch = library.patches("0", 1, "activation")[0]
    top, left, bottom, right = patch.box
    # crops of 3 x 3 pixels are stored without loss
    assert (patch.picture == pictures[patch.sample, top:bottom, left:right]).all()


def test_same_bytes_for_any_number_of_workers(model, dataset, library, tmp_path):
    expected = digests(library.path)
    assert len(expected) == 3 + 6 * len(LAYERS)  # checksums in each folder
    options = {"k": 6, "patches": 2, "patches_now": "all"}
    for workers in (0, 1, 2):
        assert digests(mined(model, dataset, tmp_path / f"{workers}.crp", workers=workers, **options).path) == expected


def test_a_pass_in_bfloat16_finds_nearly_the_same(model, dataset, tmp_path):
    whole = {"k": len(dataset), "patches": 1}
    exact, fast = (
        mined(model, dataset, tmp_path / name, precision=precision, **whole)
        for name, precision in (("exact.crp", None), ("fast.crp", "bfloat16"))
    )
    assert (exact.manifest["settings"]["precision"], fast.manifest["settings"]["precision"]) == ("float64", "bfloat16")
    for layer in LAYERS:
        for mode in ("relevance", "activation"):
            scores = []
            for library in (exact, fast):
                found = library.references(layer, mode)
                assert found.score.dtype == np.float32
                scores.append(np.take_along_axis(found.score, found.sample.argsort(1), 1))
            # eight bits of mantissa, through four layers
            np.testing.assert_allclose(scores[1], scores[0], atol=0.05 * np.abs(scores[0]).max())
            assert not np.array_equal(*scores)


def test_a_composite_of_the_caller_is_used_and_described(model, dataset, tmp_path):
    library = mined(model, dataset, tmp_path / "a.crp", composite=EpsilonAlpha2Beta1(), patches=0)
    described = library.manifest["composite"]
    assert (described["name"], described["reason"]) == ("EpsilonAlpha2Beta1", "given by the caller")
    assert described["rules"]["AlphaBeta"] == ["conv1", "conv2"]
    fitting = mined(model, dataset, tmp_path / "b.crp", patches=0)
    assert not np.array_equal(
        library.references("conv1", "relevance").score, fitting.references("conv1", "relevance").score
    )


def test_the_callers_model_and_random_state_are_not_changed(model, dataset, tmp_path):
    model = copy.deepcopy(model).train()
    hook = model.conv1.register_forward_hook(lambda module, args, output: None)
    parameters = dict(model.named_parameters())
    values = {name: value.clone() for name, value in model.state_dict().items()}
    random_state, threads = torch.get_rng_state(), torch.get_num_threads()
    mined(model, dataset, tmp_path / "a.crp", patches=1)
    assert all(parameter is parameters[name] for name, parameter in model.named_parameters())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert list(model.conv1._forward_hooks.values()) == [model.conv1._forward_hooks[hook.id]]
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.get_num_threads() == threads


class Failing(Dataset):
    """A data set whose sample 70 raises on the second read (the first one is for the fingerprint)."""

    def __init__(self, dataset, error):
        self.dataset, self.error, self.reads = dataset, error, 0

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        self.reads += index == 70
        if self.reads > 1:
            raise self.error
        return self.dataset[index]


@pytest.mark.parametrize(
    ("error", "expected"), [(KeyboardInterrupt(), KeyboardInterrupt), (OSError("gone"), SampleError)]
)
def test_nothing_is_left_after_an_error_or_an_interruption(model, dataset, tmp_path, error, expected):
    with pytest.raises(expected):
        mined(model, Failing(dataset, error), tmp_path / "a.crp")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_library_is_kept_unless_overwritten(model, dataset, tmp_path):
    path = tmp_path / "a.crp"
    mined(model, dataset, path, k=2, patches=0)
    before = digests(path)
    with pytest.raises(LibraryError) as caught:
        mined(model, dataset, path)
    assert str(caught.value).startswith(f"The library '{path}' exists: choose another path, or overwrite it")
    with pytest.raises(InputError):
        mined(model, dataset, path, layers=["conv9"], overwrite=True)
    assert digests(path) == before
    assert mined(model, dataset, path, k=3, patches=0, overwrite=True).manifest["settings"]["k"] == 3
    assert [file.name for file in tmp_path.iterdir()] == ["a.crp"]


torch.manual_seed(0)
NET = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)).eval()
DATA = TensorDataset(torch.ones(5, 1, 6, 6), torch.zeros(5, dtype=torch.int64))


def test_fewer_samples_than_k(tmp_path):
    library = mined(NET, DATA, tmp_path / "a.crp", layers=["0"], k=7, patches=7)
    found = library.references("0", "relevance")
    assert [sorted(samples) for samples in found.sample[:, :5].tolist()] == [[0, 1, 2, 3, 4]] * 2
    assert (found.sample[:, 5:] == -1).all()
    assert len(library.patches("0", 0, "relevance")) == 5


def test_the_estimate_is_logged_and_bars_can_be_silenced(tmp_path, caplog, capfd):
    with caplog.at_level(logging.INFO, logger="crp.mining"):
        mined(NET, DATA, tmp_path / "a.crp", layers=["0"], patches_now="all")
    estimated, memory = caplog.messages
    assert estimated.startswith("Mining: 5 samples in about 0 s, then at most 48 patches in about")
    # torch alone takes more than 50 MB
    assert 50 < int(re.fullmatch(r"Peak memory: ([\d,]+) MB\.", memory)[1].replace(",", "")) < 100_000
    assert capfd.readouterr().err == ""
    mined(NET, DATA, tmp_path / "b.crp", layers=["0"], progress=True, patches_now="all")
    bars = capfd.readouterr().err
    assert "samples: 100%" in bars
    assert "patches: 100%" in bars
    mined(NET, DATA, tmp_path / "c.crp", layers=["0"], progress=True)
    assert "patches" not in capfd.readouterr().err


def test_the_manifest_describes_how_the_library_was_made(library, model):
    manifest = json.loads((library.path / "manifest.json").read_bytes())
    assert manifest == library.manifest
    assert manifest["data"]["length"] == 75
    assert manifest["data"]["shape"] == [2, 10, 10]
    assert manifest["model"]["parameters"] == sum(value.numel() for value in model.parameters())
    assert manifest["settings"]["block_size"] == 16
    assert manifest["settings"]["threads"] == 4  # and not torch's default
    assert manifest["versions"]["torch"] == importlib.metadata.version("torch")
    assert manifest["composite"]["name"] == "epsilon; maps: epsilon-gamma-flat"
    check_model(library, model)


def test_every_file_reads_without_torch(library):
    code = (
        "import sys; from crp.library import open_library; library = open_library(sys.argv[1]); "
        "library.references('conv1', 'relevance'); library.statistics('conv1'); "
        "assert library.patches('conv2', 0, 'relevance'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, library.path], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_opened_libraries_return_the_stored_patches(library):
    stored = read_patches(library.file("conv1", "patches"))
    assert sorted(stored) == list(range(4))
    patches = open_library(library.path).patches("conv1", 2, "activation")
    assert [patch.box for patch in patches] == [patch.box for patch in stored[2]["activation"]]
