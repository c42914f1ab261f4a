"""Suspicious concepts: what only part of a class uses, found in groups of three, with effects and verdicts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

import crp
from crp import InputError
from crp.cli import main
from crp.correction import candidates
from crp.correction.suspicion import Candidate, split
from tests.crp.correction.planted import planted_data, planted_model

CODE = """
from torch.utils.data import TensorDataset
from tests.crp.correction.planted import planted_data, planted_model as model

def data():
    return TensorDataset(*planted_data(160))

def plain():
    data, labels = planted_data(160)
    data[:, 0] = 0
    return TensorDataset(data, labels)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suspected")
    (folder / "suspected_subject.py").write_text(CODE, encoding="utf-8")
    crp.mine(
        planted_model(), TensorDataset(*planted_data(80)), layers=["conv"], path=folder / "a.crp", vectors=True,
        class_names=["first", "second"], patches=0, progress=False, targets="label",
    )  # fmt: skip
    return folder


def run(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["suspects", str(folder / "a.crp"), *options], catch_exceptions=False)


def test_the_tag_is_first_and_likely(folder: Path) -> None:
    found = candidates(crp.open_library(folder / "a.crp"))
    tag = found[0]
    assert (tag.name, tag.target_name, tag.having, tag.lacking) == ("conv/0", "second", 36, 4)
    assert tag.score == pytest.approx(tag.mean - max(tag.elsewhere, 0) + tag.share - tag.share_lacking + 1)
    assert (tag.right, tag.right_lacking) == (1.0, 0.0)
    assert tag.likely
    assert tag.share > 0.9
    assert tag.share_lacking == 0
    assert not any(one.likely for one in found[1:])


def test_nothing_is_likely_where_nothing_was_planted(tmp_path: Path) -> None:
    model = planted_model()
    with torch.no_grad():
        model.logits.weight.copy_(torch.tensor([[0.0, 4.0, 0.0], [0.0, 0.0, 4.0]]))
        model.logits.bias.zero_()
    library = crp.mine(
        model, TensorDataset(*planted_data(80)), layers=["conv"], path=tmp_path / "b.crp", vectors=True, patches=0,
        progress=False, targets="label",
    )  # fmt: skip
    assert not any(one.likely for one in candidates(library))


def test_a_row_is_likely_when_all_its_evidence_reaches_what_is_stated(folder: Path) -> None:
    given = Candidate("conv", 0, 1, "second", 9, 3, 0.5, 0.25, 1.0, 0.75, 0.375, 0.0625)
    assert (given.exclusive, given.gap, given.errors) == (0.3125, 0.25, 0.25)
    assert given.likely
    for weaker in ({"mean": 0.35}, {"share": 0.44}, {"right": 0.99}):
        assert not replace(given, **weaker).likely
    assert not replace(given, right=None, right_lacking=None).likely
    assert given.to_json()["likely_from"] == {"exclusive": 0.3, "gap": 0.2, "errors": 0.25}
    stated = "likely: exclusive at least 30%, gap at least 20%, errors at least 25%."
    assert stated in run(folder).output
    page = Path(__file__).parents[3].joinpath("docs", "fixing.md").read_text(encoding="utf-8")
    assert "exclusive is at least 30, the gap at least 20 and errors at least 25 points" in page


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=6, max_size=14))
def test_the_border_is_where_values_and_errors_differ_most(rows: list[tuple[int, bool]]) -> None:
    values, right = np.array([value for value, _ in rows], dtype=float), np.array([one for _, one in rows])

    def difference(border: float) -> float:
        high = values > border
        errors = right[high].mean() - right[~high].mean()
        return values[high].mean() - values[~high].mean() + max(errors, 0)

    allowed = [border for border in range(6) if 3 <= (values > border).sum() <= len(values) - 3]
    found = split(values, right)
    if not allowed:
        assert found is None
        return
    assert min(found.sum(), (~found).sum()) >= 3
    assert difference(values[~found].max()) == pytest.approx(max(map(difference, allowed)))


def test_the_command_measures_what_the_tag_decides(folder: Path) -> None:
    code = f"{folder}/suspected_subject.py"
    done = run(folder, "--data", f"{code}:data", "--model", f"{code}:model", "--json", "--measured", "1")
    assert done.exit_code == 0, done.output
    first = json.loads(done.stdout)[0]
    assert (first["layer"], first["concept"], first["likely"], first["given"]) == ("conv", 0, True, None)
    assert (first["kept"], first["pulled"]) == (0.0, 1.0)


def test_verdicts_are_kept_in_the_library(folder: Path) -> None:
    assert "likely a Clever Hans" in run(folder).output
    done = run(folder, "--verdict", "conv/0=artefact", "--note", "a stamp")
    assert Path(done.output.strip()) == folder / "a.crp" / "names.json"
    assert "artefact: a stamp" in run(folder).output
    assert "likely a Clever Hans" not in run(folder).output
    found = json.loads(run(folder, "--json").stdout)[0]
    assert (found["concept"], found["given"]["verdict"], found["given"]["note"]) == (0, "artefact", "a stamp")
    done = run(folder, "--verdict", "conv/0=artifact")
    assert (done.exit_code, "There is no verdict 'artifact': did you mean 'artefact'?" in done.output) == (2, True)
    (folder / "a.crp" / "names.json").unlink()


def test_a_verdict_without_a_word_is_refused(folder: Path) -> None:
    done = run(folder, "--verdict", "conv/0")
    assert done.exit_code == 2
    assert "A verdict has the form LAYER/ID=VERDICT, as conv5/37=fine, given 'conv/0'." in done.output


def test_rows_that_could_not_be_measured_are_explained(folder: Path) -> None:
    code = f"{folder}/suspected_subject.py"
    sentence = "Not measured where fewer than 10 samples have the concept or lack it"
    options = ("--model", f"{code}:model", "--measured", "1")
    assert sentence not in run(folder, *options, "--data", f"{code}:data").output
    assert sentence in run(folder, *options, "--data", f"{code}:plain").output


def test_a_library_without_vectors_is_refused(tmp_path: Path) -> None:
    library = crp.mine(planted_model(), planted_data(4)[0], layers=["conv"], path=tmp_path / "c.crp", patches=0,
                       progress=False, targets="prediction")  # fmt: skip
    with pytest.raises(InputError, match="holds no concept vectors"):
        candidates(library)


def test_a_device_that_is_not_there_is_refused_and_bars_say_what_is_done(folder: Path) -> None:
    code = f"{folder}/suspected_subject.py"
    options = ("--model", f"{code}:model", "--data", f"{code}:data", "--measured", "1")
    done = run(folder, *options, "--device", "cpu")
    assert done.exit_code == 0
    for doing in ("reading samples", "finding the concept", "concept taken out", "concept put in"):
        assert f"{doing}: 100%" in done.stderr
    refused = run(folder, *options, "--device", "tpu")
    assert refused.exit_code == 2
    assert "There is no device 'tpu' on this machine" in refused.output
