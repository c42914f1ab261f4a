"""`crp fix`, and what its files are worth: the same outputs in a process without this package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

import crp
from crp import LibraryError
from crp.cli import main
from crp.correction import Correction, refit, upper_fit
from crp.correction.figures_of_a_fix import Dependence, FixFigures
from tests import processes
from tests.crp.correction.planted import planted_data, planted_model

CODE = """
from torch.utils.data import TensorDataset
from tests.crp.correction.planted import planted_data, planted_model as model

def data():
    return TensorDataset(*planted_data(160))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fixed")
    (folder / "planted_subject.py").write_text(CODE, encoding="utf-8")
    data = torch.utils.data.TensorDataset(*planted_data(40))
    crp.mine(
        planted_model(), data, layers=["conv"], path=folder / "a.crp", class_names=["first", "second"], patches=0,
        progress=False,
    )  # fmt: skip
    return folder


def run(folder: Path, *options: str) -> Result:
    code = f"{folder}/planted_subject.py"
    command = ["fix", str(folder / "a.crp"), "--model", f"{code}:model", "--data", f"{code}:data", *options]
    return CliRunner().invoke(main, command, catch_exceptions=False)


def test_the_command_says_the_figures_and_writes_weights(folder: Path) -> None:
    out = folder / "fixed.safetensors"
    page = folder / "fixed.html"
    done = run(folder, "--concept", "conv/0", "--by", "refit", "--out", str(out), "--json", "--page", str(page),
               "--device", "cpu")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "conv/0" in page.read_text(encoding="utf-8")
    for doing in ("reading samples", "finding the concept", "concept put in", "fitting the last layer"):
        assert f"{doing}: 100%" in done.stderr
    found = json.loads(done.stdout)
    assert (found["before"]["right_taken_out"], found["before"]["pulled"]) == (0.0, 1.0)
    assert found["after"]["right_taken_out"] > 0.9
    assert found["after"]["pulled"] < 0.1
    model = planted_model()
    model.load_state_dict(load_file(out))
    cleaned = planted_data()[0][1::2].clone()
    cleaned[:, 0] = 0
    with torch.no_grad():
        assert float((model(cleaned).argmax(1) == 1).double().mean()) > 0.95
    with pytest.raises(LibraryError, match="was mined with other weights"):
        crp.explain(model, cleaned[0], crp.open_library(folder / "a.crp"))


def test_the_command_trains_from_a_layer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upper_fit, "_STEPS", 150)
    monkeypatch.setattr(upper_fit, "_RATE", 0.1)
    out = folder / "from.safetensors"
    done = run(folder, "--concept", "conv/0", "--by", "refit", "--from", "conv", "--out", str(out), "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["method"].startswith("trained from conv on the model's own predictions")
    assert found["after"]["right_taken_out"] > 0.9
    before = planted_model().state_dict()
    changed = {name for name, value in load_file(out).items() if not torch.equal(value, before[name])}
    assert changed == {"conv.weight", "conv.bias", "logits.weight", "logits.bias"}


def test_the_command_says_how_its_file_is_loaded_and_what_the_figures_mean(folder: Path) -> None:
    out = folder / "loaded.safetensors"
    done = run(folder, "--concept", "conv/0", "--by", "refit", "--out", str(out))
    *_, reading, saved, load = done.stdout.splitlines()
    assert reading.startswith("A model that does not use the concept gets these samples right just as often")
    assert saved == f"Saved: {out}"
    model = planted_model()
    exec(load.removeprefix("Load:").strip(), {"model": model, "safetensors": safetensors})
    assert torch.equal(model.logits.weight, load_file(out)["logits.weight"])
    assert not torch.equal(model.logits.weight, planted_model().logits.weight)


@pytest.mark.parametrize(
    ("kept", "removed", "says"),
    [
        # 24 samples: 5 of them against 55 of 72
        (5 / 24, 55 / 72, "20.8 % right as they are and 76.4 % with the concept removed: the concept now speaks"),
        (1.0, 5 / 24, "the model still relies on the concept for 'octagon'"),
        (0.5, 0.55, "points), as intended, and accuracy falls only by what the model knew from the concept."),
        # Wilson's lower end of 24 of 24 is 24 / (24 + 3.8415) = 0.862
        (1.0, 1.0, "no clear difference (95 % interval: −14 to +14 points), as intended."),
    ],
)
def test_a_fall_is_said_to_be_intended_or_not(kept: float, removed: float, says: str) -> None:
    before = Dependence(1.0, 1.0, 1.0, 0.0, 0.9)
    after = Dependence(0.9, kept, 1.0, removed, 0.1)
    figures = FixFigures(False, (), (), target=9, having=24, lacking=76, before=before, after=after)
    assert says in figures.lines([str(index) for index in range(9)] + ["octagon"])[-1]


def test_a_file_that_cannot_hold_the_model_is_refused_before_measuring(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crp.correction.measure_fix", None)
    added = Correction(planted_model(), "put after", False, "conv")
    monkeypatch.setattr("crp.correction.suppress", lambda *_, **__: added)
    done = run(folder, "--concept", "conv/0", "--by", "suppress", "--out", str(folder / "late.safetensors"))
    assert (done.exit_code, "(put after) adds a module to the model" in done.output) == (2, True)
    assert not (folder / "late.safetensors").exists()


@pytest.mark.parametrize(
    ("without", "says"),
    [
        (0.87, "without the concept, so not all of the fall is what the model knew from the concept."),
        (0.99, "accuracy falls only by what the model knew from the concept."),
    ],
)
def test_a_fall_that_other_samples_share_is_not_of_the_concept_alone(without: float, says: str) -> None:
    before, after = Dependence(1.0, 1.0, 1.0, 0.6, 0.1), Dependence(0.86, 0.77, without, 0.75, 0.01)
    figures = FixFigures(False, (), (), target=3, having=35, lacking=215, before=before, after=after)
    assert figures.reading("cat").endswith(says)


@pytest.mark.slow  # torch.export takes some seconds
def test_a_program_gives_the_same_outputs_without_this_package(folder: Path) -> None:
    out, data = folder / "fixed.pt2", planted_data(9, seed=7)[0]
    done = run(folder, "--concept", "conv/0", "--by", "reactive", "--refit", "--out", str(out))
    assert done.exit_code == 0, done.output
    assert "erased where it is active, within 2 positions; last layer fitted to the model's own" in done.output
    (row,) = [line for line in done.output.splitlines() if line.startswith("other classes taken for 'second'")]
    before, after = (float(word.rstrip("%")) for word in row.split()[-2:])
    assert before == 100
    assert after < 10
    torch.save(data, folder / "data.pt")
    program = f"""
import sys
assert not any(name == "crp" or name.startswith("crp.") for name in sys.modules)
sys.modules["crp"] = None
import torch
fixed = torch.export.load("{out}").module()
torch.save(fixed(torch.load("{folder}/data.pt")), "{folder}/outputs.pt")
"""
    run_alone = processes.run(["-c", program], cwd=folder, imported=("torch",))
    assert run_alone.returncode == 0, run_alone.stderr
    from crp.correction import reactive
    from crp.correction.reading import read_samples

    samples, _ = read_samples(torch.utils.data.TensorDataset(*planted_data(160)), 1000, labelled=False)
    model = planted_model()
    expected = refit(model, samples.data, "conv", 0, after=reactive(model, samples.data, "conv", 0)).model
    with torch.no_grad():
        torch.testing.assert_close(torch.load(folder / "outputs.pt"), expected(data), rtol=1e-5, atol=1e-5)


def test_every_class_is_read_to_correct_and_to_measure() -> None:
    from crp.correction.reading import read_samples

    labels = torch.arange(1000) % 10
    with pytest.raises(crp.SampleError, match=r"^Sample 0 has no label; leave the labels out\.$"):
        read_samples(torch.utils.data.TensorDataset(labels[:, None].float()), 60, labelled=True, progress=False)
    data = torch.utils.data.TensorDataset(labels[:, None].float(), labels)
    fitting, held_out = read_samples(data, 400, labelled=True)
    assert [len(one.data) for one in (fitting, held_out)] == [300, 100]
    for one, least in ((fitting, 27), (held_out, 8)):
        assert torch.equal(one.data[:, 0].long(), one.labels)
        assert int(one.labels.bincount(minlength=10).min()) >= least


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--concept", "conv", "--by", "refit", "--out", "x.pt2"), "A concept is named LAYER/ID, such as 'conv/0'"),
        (("--concept", "conw/0", "--by", "refit", "--out", "x.pt2"), "did you mean 'conv'?"),
        (("--concept", "conv/7", "--by", "refit", "--out", "x.pt2"), "7"),
        (("--concept", "conv/0", "--by", "reactive", "--out", "x.safetensors"), "give --out a .pt2 or .onnx file"),
        (("--concept", "conv/0", "--by", "refit", "--out", "no/x.pt2"), "folder 'no' for the corrected model does"),
        (("--concept", "conv/0", "--by", "suppress", "--out", "x.bin"), "A model is written to a file '.safetensors'"),
        (("--concept", "conv/0", "--by", "suppress", "--from", "conv", "--out", "x.pt2"), "--from is for --by refit"),
        (("--concept", "conv/0", "--by", "refit", "--refit", "--out", "x.pt2"), "--by refit does the same alone"),
    ],
)
def test_mistakes_are_sentences(folder: Path, options: tuple[str, ...], sentence: str) -> None:
    done = run(folder, *options)
    assert done.exit_code == 2
    assert sentence in done.output
