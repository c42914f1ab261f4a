"""Training is repeatable, and its parts are what they say."""

from functools import partial

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

import crp.demo.training as training
from crp.demo.scenes import Scenes


def test_spread_by_hand():
    values = torch.tensor([[3.0, 0.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0], [0.0, 3.0, 4.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert training.spread(values, 1).tolist() == pytest.approx([0.5, 1.0, 0.7, 0.0], abs=1e-4)
    assert training.spread(100 * values.T, 0).tolist() == pytest.approx([0.5, 1.0, 0.7, 0.0], abs=1e-4)


def test_stacked_scenes_are_the_data_set():
    scenes = Scenes("train", 12)
    inputs, labels = training.stacked(scenes)
    assert labels.tolist() == [*range(10), 0, 1]
    assert all(torch.equal(inputs[index], scenes[index][0]) for index in range(12))


def test_training_repeats_to_the_bit_and_leaves_the_random_state():
    inputs, labels = training.stacked(Scenes("train", 60))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, second, other = (training.train(inputs, labels, epochs=2, seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["conv5.weight"], other["conv5.weight"])


def test_command_writes_weights_and_reports(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SCENES", 50)
    monkeypatch.setattr(training, "THREADS", torch.get_num_threads())
    monkeypatch.setattr(training, "train", partial(training.train, epochs=1))
    monkeypatch.setattr(training, "report", partial(training.report, count=50))
    result = CliRunner().invoke(training.main, [str(tmp_path / "weights.safetensors")])
    assert result.exit_code == 0, result.output
    expected = training.train(*training.stacked(Scenes("train", 50)), seed=0)
    for name, weight in load_file(tmp_path / "weights.safetensors").items():
        assert torch.equal(weight, expected.state_dict()[name])
    for words, value in training.report(expected).items():
        assert f"{value:7.1%}  {words}" in result.output
