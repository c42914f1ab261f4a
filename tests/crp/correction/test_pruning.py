"""Pruning: which filters go, that their outputs are zero, and how accuracy falls; against plain hooks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import crp
from crp import InputError
from crp.cli import main
from crp.correction import prune, pruning_curve, relevance_scores
from crp.correction.pruning import filters_removed
from crp.correction.reading import read_samples
from tests.crp.correction.planted import planted_data, planted_model

CODE = """
from torch.utils.data import TensorDataset
from tests.crp.correction.planted import planted_data, planted_model as model

def data():
    return TensorDataset(*planted_data(80))
"""


def normed() -> nn.Sequential:
    """A convolution with a batch norm, a depthwise one, a skip-free head; `[N, 3, 8, 8]` -> `[N, 4]`."""
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4),
    )  # fmt: skip
    with torch.no_grad():
        for values in (model[1].running_mean, model[1].weight, model[1].bias):
            values.normal_()
        model[1].running_var.uniform_(0.5, 2)
    return model.eval()


def cleared(model: nn.Module, removed: dict[str, list[int]], data: Tensor) -> Tensor:
    """The output with channels of modules set to zero by hooks."""

    def hook(filters: list[int]):
        def clear(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
            output = output.clone()
            output[:, filters] = 0
            return output

        return clear

    handles = [model.get_submodule(name).register_forward_hook(hook(filters)) for name, filters in removed.items()]
    with torch.no_grad():
        output = model(data)
    for handle in handles:
        handle.remove()
    return output


@pytest.mark.parametrize("layer", ["0", "1"])
def test_filters_are_zero_after_the_norm_that_is_merged_into_their_layer(layer: str) -> None:
    """Zero before the norm would be a constant after it; explanations say what the normed channel is worth."""
    model, data = normed(), torch.randn(7, 3, 8, 8)
    scores = {layer: np.array([3.0, 0.1, 2.0, 0.2, 5.0, 0.3]), "3": np.array([0.15, 4.0, 4.0, 4.0, 0.25])}
    found = prune(model, data, scores, 5 / 11)
    assert found.in_weights
    assert found.method == "5 of 11 filters taken out"
    with torch.no_grad():
        expected = cleared(model, {"1": [1, 3, 5], "3": [0, 4]}, data)
        torch.testing.assert_close(found.model(data), expected)
        assert float((expected - model(data)).abs().max()) > 0.01
    assert [name for name, _ in found.model.named_parameters()] == [name for name, _ in model.named_parameters()]


def test_a_layer_without_weights_gets_a_module(tmp_path: Path) -> None:
    model, data = normed(), torch.randn(7, 3, 8, 8)
    found = prune(model, data, {"4": np.array([0.0, 1, 2, 3, 4])}, 0.4)
    assert not found.in_weights
    torch.testing.assert_close(found.model(data).detach(), cleared(model, {"4": [0, 1]}, data))


@given(
    st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=6), min_size=1, max_size=3),
    st.sampled_from([0, 0.1, 0.3, 0.5, 0.7, 1]),
)
def test_the_smallest_scores_go_and_one_filter_of_each_layer_stays(rows: list[list[int]], share: float) -> None:
    scores = {f"layer{place}": np.array(values, dtype=float) for place, values in enumerate(rows)}
    removed = filters_removed(scores, share)
    total, gone = sum(map(len, rows)), sum(map(len, removed.values()))
    assert gone == min(int(share * total + 1e-9), total - len(rows))
    kept = {layer: np.setdiff1d(np.arange(len(values)), removed[layer]) for layer, values in scores.items()}
    assert all(len(ids) for ids in kept.values())
    # nothing that stayed, but the best of its layer, has a smaller score than what went
    worst = max((scores[layer][ids].max() for layer, ids in removed.items() if len(ids)), default=-1)
    for layer, ids in kept.items():
        low = [one for one in ids if scores[layer][one] < worst]
        assert low in ([], [int(np.argmax(scores[layer]))])


def test_scores_are_the_root_mean_square_relevance() -> None:
    """Without a rule in between, relevance is the activation times its weight: planted, so by hand."""
    model, (data, labels) = planted_model(), planted_data(70)
    weight = model.logits.weight.detach()
    found = relevance_scores(model, data, ["conv"], labels=labels)["conv"]
    relevance = data.double().mean((2, 3)) * weight[labels]
    assert found == pytest.approx(relevance.square().mean(0).sqrt().numpy(), rel=1e-3)
    with torch.no_grad():
        predicted = model(data).argmax(1)
    relevance = data.double().mean((2, 3)) * weight[predicted]
    found = relevance_scores(model, data, ["conv"])["conv"]
    assert found == pytest.approx(relevance.square().mean(0).sqrt().numpy(), rel=1e-3)


def test_channels_that_speak_against_a_class_are_relied_on_too() -> None:
    model, data = normed(), torch.randn(20, 3, 8, 8)
    scores = relevance_scores(model, data, ["1", "3"])
    assert [(layer, len(values), bool((values >= 0).all())) for layer, values in scores.items()] == [
        ("1", 6, True), ("3", 5, True),
    ]  # fmt: skip
    with torch.no_grad():
        model[7].weight[:, 2] = 0
    assert relevance_scores(model, data, ["3"])["3"][2] == 0


def test_the_curve_starts_at_the_model_and_falls_when_what_counts_goes() -> None:
    model, (data, labels) = planted_model(), planted_data()
    scores = {"conv": np.array([1.0, 3.0, 2.0])}  # the tag goes first
    curve = pruning_curve(model, data, scores, labels=labels, shares=(0, 0.4, 0.7))
    with torch.no_grad():
        whole = float((model(data).argmax(1) == labels).double().mean())
        without_tag = float((cleared(model, {"conv": [0]}, data).argmax(1) == labels).double().mean())
    assert [share for share, _ in curve] == [0, 0.4, 0.7]
    assert [accuracy for _, accuracy in curve][:2] == [pytest.approx(whole), pytest.approx(without_tag)]
    assert whole > without_tag
    assert pruning_curve(model, data, scores, shares=(0,)) == [(0, 1.0)]
    with torch.no_grad():
        assert model.conv.weight[0, 0] == 1  # the caller's model is as it was


@pytest.mark.parametrize(
    ("scores", "share", "sentence"),
    [
        ({}, 0.5, "finite scores"),
        ({"conv": np.array([1.0, np.nan, 1.0])}, 0.5, "finite scores"),
        ({"conv": np.ones(3)}, 1.5, "between 0 and 1, given 1.5"),
        ({"conv": np.ones(2)}, 0.5, "Layer 'conv' has 3 channels and 2 scores"),
    ],
)
def test_what_does_not_fit_is_refused(scores: dict, share: float, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        prune(planted_model(), planted_data(4)[0], scores, share)


def test_a_layer_and_its_norm_are_the_same_filters() -> None:
    with pytest.raises(InputError, match="The layers '0', '1' have the same channels: score one of them"):
        prune(normed(), torch.randn(2, 3, 8, 8), {"0": np.ones(6), "1": np.ones(6)}, 0.5)


def test_the_command_writes_weights_and_says_the_curve(tmp_path: Path) -> None:
    (tmp_path / "pruned_subject.py").write_text(CODE, encoding="utf-8")
    crp.mine(
        planted_model(), TensorDataset(*planted_data(40)), layers=["conv"], path=tmp_path / "a.crp", patches=0,
        progress=False, targets="label",
    )  # fmt: skip
    code, out = f"{tmp_path}/pruned_subject.py", tmp_path / "pruned.safetensors"
    base = ["fix", str(tmp_path / "a.crp"), "--by", "prune", "--data", f"{code}:data", "--out", str(out)]

    def run(*more: str):
        return CliRunner().invoke(main, [*base, "--model", f"{code}:model", *more], catch_exceptions=False)

    page = tmp_path / "pruned.html"
    done = run("--share", "0.4", "--labels", "--json", "--page", str(page))
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["layers"] == [{"layer": "conv", "filters": 3, "taken_out": 1}]
    for doing in ("reading samples", "scoring filters", "taking out filters"):
        assert f"{doing}: 100%" in done.stderr
    assert "1 of 3 filters taken out" in page.read_text(encoding="utf-8")
    assert found["method"] == "1 of 3 filters taken out"
    assert [row["share"] for row in found["curve"]] == [place / 10 for place in range(10)]
    _, held_out = read_samples(TensorDataset(*planted_data(80)), 1000, labelled=True)
    data, labels = held_out.data, held_out.labels
    model = planted_model()
    with torch.no_grad():
        assert found["curve"][0]["accuracy"] == pytest.approx(float((model(data).argmax(1) == labels).double().mean()))
        model.load_state_dict(load_file(out))
        accuracy = float((model(data).argmax(1) == labels).double().mean())
    assert found["curve"][4]["accuracy"] == found["after"] == pytest.approx(accuracy)
    assert found["curve"][0]["accuracy"] == found["before"]
    assert int((model.conv.weight.flatten(1).abs().sum(1) == 0).sum()) == 1
    lines = run("--share", "0.4").stdout.splitlines()
    assert lines[1].startswith("as the whole model: 100.0% before, ")
    assert lines[2:4] == ["filters out  as the whole model", "         0%  100.0%"]
    for options, sentence in (
        ((), "--by prune needs --share"),
        (("--share", "0.4", "--concept", "conv/0"), "--by prune does not take --concept"),
        (("--share", "0.4", "--layers", "conw"), "did you mean 'conv'?"),
        (("--by", "suppress"), "--by suppress needs --concept, such as conv5/37"),
        (("--by", "suppress", "--share", "0.4", "--concept", "conv/0"), "--by suppress does not take --share"),
    ):
        done = run(*options)
        assert (done.exit_code, sentence in done.output) == (2, True), done.output
