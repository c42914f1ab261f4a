"""`crp evaluate` says and writes what `crp.evaluate` returns; which samples it takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import crp
from crp.cli import main
from crp.evaluation import NAMES, chosen_samples

CODE = """
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()
data = torch.rand(12, 1, 8, 8)
labels = net(data).argmax(1)
labels[::2] = (labels[::2] + 1) % 3            # every second one is predicted wrongly


def model():
    return net


def labelled():
    return torch.utils.data.TensorDataset(data, labels)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    (folder / "subject.py").write_text(CODE, encoding="utf-8")
    namespace: dict = {}
    exec(CODE, namespace)
    crp.mine(namespace["net"], namespace["labelled"](), layers=["1"], path=folder / "a.crp", progress=False)
    return folder


def run(folder: Path, *options: str) -> object:
    command = ["evaluate", str(folder / "a.crp"), "--model", f"{folder}/subject.py:model", *options]
    return CliRunner().invoke(main, command, catch_exceptions=False)


def test_numbers_and_report(folder: Path) -> None:
    data = f"{folder}/subject.py:labelled"
    result = run(folder, "--data", data, "--samples", "4", "--out", str(folder / "numbers.json"))
    assert result.exit_code == 0, result.output
    numbers = json.loads((folder / "numbers.json").read_text())
    assert numbers["samples"] == 4
    assert numbers["layers"][0]["verdict"] in result.output
    result = run(folder, "--data", data, "--samples", "4", "--out", str(folder / "report.html"))
    assert result.exit_code == 0, result.output
    assert numbers["layers"][0]["verdict"] in (folder / "report.html").read_text()


def test_measures_and_masks_of_the_data_set(folder: Path) -> None:
    """All measures run that the data allow: localisation if the data set says where what it shows is."""
    shown = f"""{CODE}
class Shown(torch.utils.data.TensorDataset):
    def shown(self, index):
        return (data[index, 0] > 0.8).numpy()


def with_masks():
    return Shown(data, labels)
"""
    (folder / "shown.py").write_text(shown, encoding="utf-8")
    found = {}
    for name, measures in (("shown.py:with_masks", "all"), ("shown.py:labelled", "all"), ("shown.py:labelled", None)):
        options = ["--measures", measures] if measures else []
        out = str(folder / "measures.json")
        result = run(folder, "--data", f"{folder}/{name}", "--samples", "5", "--out", out, *options)
        assert result.exit_code == 0, result.output
        numbers = json.loads((folder / "measures.json").read_text())
        found[name, measures] = [one["measure"] for one in numbers["findings"]]
        assert all(one["verdict"] in result.output for one in numbers["findings"])
    whole = [name for name in NAMES if name not in ("rankings", "edges")]  # one layer has no edges
    assert found["shown.py:with_masks", "all"] == whole
    assert found["shown.py:labelled", "all"] == [name for name in whole if name != "localisation"]
    assert found["shown.py:labelled", None] == ["trained", "pairs", "classes"]


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--samples", "1"], "1 is not in the range"), (["--out", "report.pdf"], "--out must be a .html or .json file")],
)
def test_wrong_calls(folder: Path, options: list[str], message: str) -> None:
    result = run(folder, "--data", f"{folder}/subject.py:labelled", *options)
    assert result.exit_code == 2
    assert message in result.output


def test_samples_are_taken_until_enough_are_predicted_correctly() -> None:
    namespace: dict = {}
    exec(CODE, namespace)
    model, data = crp.prepared(namespace["net"]), namespace["data"]
    right = [index for index in range(12) if index % 2]
    found = chosen_samples(model, namespace["labelled"](), 100, labelled=True)
    assert found.indices == list(range(12))
    assert torch.equal(found.data, data)
    assert found.labels == namespace["labels"].tolist()
    some = chosen_samples(model, namespace["labelled"](), 3, labelled=True)
    assert some.indices == sorted(some.indices)
    assert len(set(some.indices) & set(right)) == 3
    assert len(some.indices) <= 6
    assert torch.equal(some.data, data[some.indices])
    plain = chosen_samples(model, data, 100, labelled=False)
    assert torch.equal(plain.data, data)
    assert plain.labels is None


def test_the_caller_sees_which_data_fail() -> None:
    model = crp.prepared(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2)))
    with pytest.raises(crp.SampleError, match=r"[Ss]ample 3"):
        chosen_samples(model, [torch.zeros(1, 8, 8)] * 3 + [torch.zeros(1, 4, 4)], 4, labelled=False)
