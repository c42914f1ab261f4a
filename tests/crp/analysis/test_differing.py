"""Two libraries compared: a permuted copy is the same, a concept that is gone is listed, rules hold or do not."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.utils.data import TensorDataset

import crp
from crp import InputError, LibraryError
from crp.analysis import difference
from crp.cli import main
from crp.library import Library
from tests.crp.correction.planted import planted_data, planted_model

ORDER = [2, 0, 1]


def permuted(model: nn.Sequential) -> nn.Sequential:
    """The same function, with the channels of "conv" in another order: new channel i was channel ORDER[i]."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.conv.weight.copy_(model.conv.weight[ORDER])
        other.conv.bias.copy_(model.conv.bias[ORDER])
        other.logits.weight.copy_(model.logits.weight[:, ORDER])
    return other


def without_tag(model: nn.Sequential) -> nn.Sequential:
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.conv.weight[0] = 0
        other.logits.weight[1] = torch.tensor([0.0, 0.0, 4.0])
    return other


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    model, data = planted_model(), TensorDataset(*planted_data(60))
    models = {"a": model, "permuted": permuted(model), "clean": without_tag(model)}
    for name, one in models.items():
        crp.mine(
            one, data, layers=["conv"], path=folder / f"{name}.crp", vectors=True, patches=0, progress=False,
            class_names=["first", "second"], targets="label",
        )  # fmt: skip
    return folder


def opened(folder: Path, name: str) -> Library:
    return crp.open_library(folder / f"{name}.crp")


def test_permuted_channels_are_all_matched_and_nothing_differs(folder: Path) -> None:
    found = difference(opened(folder, "a"), opened(folder, "permuted"))
    (layer,) = found.layers
    assert {pair.first: pair.second for pair in layer.pairs} == {old: new for new, old in enumerate(ORDER)}
    assert all(pair.correlation > 0.999 for pair in layer.pairs)
    assert found.empty
    assert len(layer.moved) == 3
    assert difference(opened(folder, "a"), opened(folder, "a")).layers[0].moved == ()


def test_a_concept_that_is_gone_is_lost(folder: Path) -> None:
    found = difference(opened(folder, "a"), opened(folder, "clean"))
    (layer,) = found.layers
    assert (layer.lost, layer.new) == ((0,), ())
    assert [(pair.first, pair.second) for pair in layer.pairs] == [(1, 1), (2, 2)]
    most = layer.changes[0]
    assert (most.target_name, most.pair.first) == ("second", 2)
    assert most.after > 0.9 > 0.2 > most.before
    backwards = difference(opened(folder, "clean"), opened(folder, "a"))
    assert (backwards.layers[0].lost, backwards.layers[0].new) == ((), (0,))


def test_a_rule_names_a_concept_of_the_first_library(folder: Path) -> None:
    rule = "second uses conv/0 > 5%"
    moved = difference(opened(folder, "a"), opened(folder, "permuted"))
    assert moved.holds(rule).startswith("The class 'second' uses conv/0 with a mean share of 8")
    assert moved.holds("second uses conv/1 > 5%") is None
    clean = difference(opened(folder, "a"), opened(folder, "clean"))
    assert clean.holds(rule) is None
    assert clean.holds("second uses conv/0 < 5%") is not None
    with pytest.raises(InputError, match="A rule has the form"):
        clean.holds("second uses conv > 5%")
    with pytest.raises(InputError, match="Layer 'cnv' is not among the layers"):
        clean.holds("second uses cnv/0 > 5%")


def test_the_command_exits_with_one_if_a_rule_holds(folder: Path) -> None:
    def run(name: str, *options: str) -> tuple[int, str]:
        command = ["diff", f"{folder}/a.crp", f"{folder}/{name}.crp", *options]
        done = CliRunner().invoke(main, command, catch_exceptions=False)
        return done.exit_code, done.output

    rule = ("--fail-if", "second uses conv/0 > 5%")
    code, text = run("permuted", *rule)
    assert code == 1
    assert "conv: 3 concepts in both, 3 of them at another number; lost: none; new: none" in text
    assert "Nothing differs." in text
    assert "second uses conv/0 > 5%." in text
    code, text = run("clean", *rule)
    assert code == 0
    assert "lost: 0; new: none" in text
    assert text.endswith(
        "No concept of 'clean.crp' matches conv/0, so its share counts as 0. "
        "The rule does not hold for B: second uses conv/0 > 5%.\n"
    )
    lines = text.splitlines()
    heading = "  mean share of a class's relevance in the layer, A -> B, if it changed by five points:"
    assert "(in B " in lines[lines.index(heading) + 1]
    code, text = run("permuted", "--fail-if", "second uses conv/0 < 5%")
    assert code == 0
    assert re.search(r"The class 'second' uses conv/0 with a mean share of 8\d\.\d%\. The rule does not hold", text)
    assert "mean share of a class's relevance" not in text
    assert json.loads(run("clean", "--json")[1])["layers"][0]["lost"] == [0]


def test_other_samples_are_refused(folder: Path, tmp_path: Path) -> None:
    other = crp.mine(
        planted_model(), TensorDataset(*planted_data(60, seed=9)), layers=["conv"], path=tmp_path / "o.crp",
        vectors=True, patches=0, progress=False,
    )  # fmt: skip
    with pytest.raises(LibraryError, match="were mined on other samples"):
        difference(opened(folder, "a"), other)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"class_names": ["second", "first"]}, "Class 0 is 'first' in '.*a[.]crp' and 'second' in '.*o[.]crp'"),
        ({"targets": "prediction"}, "The targets of '.*a[.]crp' are 'label', and those of '.*o[.]crp' 'prediction'"),
        ({"composite": "epsilon-plus-flat"}, "The rules of .* are '.*', and those of .* 'epsilon-plus-flat'"),
    ],
)
def test_shares_that_cannot_be_compared_are_refused(
    folder: Path, tmp_path: Path, given: dict, sentence: str
) -> None:
    settings = {"class_names": ["first", "second"], "targets": "label", **given}
    other = crp.mine(
        planted_model(), TensorDataset(*planted_data(60)), layers=["conv"], path=tmp_path / "o.crp",
        vectors=True, patches=0, progress=False, **settings,
    )  # fmt: skip
    with pytest.raises(LibraryError, match=sentence):
        difference(opened(folder, "a"), other)


def test_another_number_of_classes_is_refused(folder: Path, tmp_path: Path) -> None:
    model = planted_model()
    model.logits = nn.Linear(model.logits.in_features, 3)
    other = crp.mine(
        model, TensorDataset(*planted_data(60)), layers=["conv"], path=tmp_path / "o.crp", vectors=True, patches=0,
        progress=False, targets="label",
    )  # fmt: skip
    with pytest.raises(LibraryError, match=r"has 2 classes and '.*o[.]crp' has 3"):
        difference(opened(folder, "a"), other)


def test_a_rule_about_a_class_without_samples_is_refused(tmp_path: Path) -> None:
    pictures, labels = planted_data(60)
    first = pictures[labels == 0]
    only = crp.mine(
        planted_model(), TensorDataset(first, torch.zeros(len(first), dtype=torch.long)), layers=["conv"],
        path=tmp_path / "o.crp", vectors=True, patches=0, progress=False, class_names=["first", "second"],
    )  # fmt: skip
    with pytest.raises(InputError, match="No sample was explained for the class 'second' in either library"):
        difference(only, only).holds("second uses conv/0 > 5%")
