"""What the files of corrected models are worth: the same outputs in processes without this package, and in ONNX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import crp
from crp.cli import main
from crp.concepts import Directions, SparseAutoencoder
from crp.correction import Correction, project, reactive, refit, suppress, write_fixed
from crp.correction.writing import checked_file
from crp.errors import InputError
from crp.verification import verify
from tests import processes
from tests.crp.correction.planted import planted_data, planted_model

Make = Callable[[nn.Module, Tensor], Correction]


def _refit_after(make: Make) -> Make:
    return lambda model, data: refit(model, data, "conv", 0, after=make(model, data), progress=False)


def _suppress(model: nn.Module, data: Tensor) -> Correction:
    return suppress(model, data, "conv", 0, fill="mean", progress=False)


def _reactive(model: nn.Module, data: Tensor) -> Correction:
    return reactive(model, data, "conv", 0, progress=False)


def _project(model: nn.Module, data: Tensor) -> Correction:
    return project(model, data, "conv", 0, progress=False)




LATENTS = Directions(torch.eye(3), SparseAutoencoder(torch.eye(3), torch.zeros(3), torch.zeros(3), 2))
MAKES: dict[str, Make] = {
    "suppress": _suppress,
    "suppress, refit": _refit_after(_suppress),
    "project": _project,
    "project, refit": _refit_after(_project),
    "reactive": _reactive,
    "reactive, refit": _refit_after(_reactive),
    "reactive, latent": lambda model, data: reactive(model, data, "conv", 0, kind=LATENTS, progress=False),
    "refit": lambda model, data: refit(model, data, "conv", 0, progress=False),
}
IN_WEIGHTS = ("suppress", "suppress, refit", "refit")

# What a user without this package has: the architecture.
ARCHITECTURE = """
import sys
assert not any(name == "crp" or name.startswith("crp.") for name in sys.modules)
sys.modules["crp"] = None
import torch
from safetensors.torch import load_file
from torch import nn

def architecture():
    names = ("conv", "relu", "mean", "flatten", "logits")
    modules = (nn.Conv2d(3, 3, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    model = nn.Sequential()
    for name, module in zip(names, modules):
        model.add_module(name, module)
    return model.eval()
"""


@pytest.fixture(scope="module")
def fixed() -> dict[str, Correction]:
    data = planted_data()[0]
    return {name: make(planted_model(), data) for name, make in MAKES.items()}


@pytest.fixture(scope="module")
def given() -> Tensor:
    """Samples of another draw: 5, which no file was made with."""
    return planted_data(5, seed=7)[0]


def outputs(correction: Correction, given: Tensor) -> Tensor:
    with torch.no_grad():
        found = correction.model(given)
        assert float((found - planted_model()(given)).abs().max()) > 0.1
    return found


def test_weights_give_the_same_outputs_without_this_package(
    fixed: dict[str, Correction], given: Tensor, tmp_path: Path
) -> None:
    assert [name for name, one in fixed.items() if one.in_weights] == [*IN_WEIGHTS]
    for number, name in enumerate(IN_WEIGHTS):
        write_fixed(fixed[name], tmp_path / f"{number}.safetensors", given)
    torch.save(given, tmp_path / "given.pt")
    program = f"""{ARCHITECTURE}
for number in range({len(IN_WEIGHTS)}):
    model = architecture()
    model.load_state_dict(load_file(f"{tmp_path}/{{number}}.safetensors"))
    torch.save(model(torch.load("{tmp_path}/given.pt")).detach(), f"{tmp_path}/{{number}}.pt")
"""
    done = processes.run(["-c", program], cwd=tmp_path, imported=("torch",))
    assert done.returncode == 0, done.stderr
    for number, name in enumerate(IN_WEIGHTS):
        assert torch.equal(torch.load(tmp_path / f"{number}.pt"), outputs(fixed[name], given)), name


@pytest.mark.parametrize("suffix", [".safetensors", ".pt2"])
def test_files_may_be_read_by_whom_other_new_files_may(
    fixed: dict[str, Correction], tmp_path: Path, suffix: str
) -> None:
    (tmp_path / "ordinary").touch()
    path = write_fixed(fixed["suppress"], tmp_path / f"fixed{suffix}", planted_data(4)[0])
    assert path.stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_programs_hold_no_samples(fixed: dict[str, Correction], tmp_path: Path) -> None:
    path = write_fixed(fixed["reactive"], tmp_path / "fixed.pt2", planted_data(400)[0])
    ((example,), _) = torch.export.load(path).example_inputs
    assert example.untyped_storage().nbytes() == example.nbytes  # a view of the data would bring all of them along
    assert not example.any()


def test_a_module_more_is_no_file_of_weights_and_the_original_is_not_replaced(
    fixed: dict[str, Correction], given: Tensor, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"adds a module to the model, .* write a \.pt2 or \.onnx file"):
        write_fixed(fixed["reactive"], tmp_path / "fixed.safetensors", given)
    original = tmp_path / "weights.safetensors"
    original.write_bytes(b"")
    (tmp_path / "link.safetensors").symlink_to(original)
    for name in ("weights.safetensors", "link.safetensors"):
        with pytest.raises(InputError, match="holds the weights of the original model"):
            checked_file(tmp_path / name, original)
    assert checked_file(tmp_path / "other.safetensors", original) == tmp_path / "other.safetensors"


@pytest.mark.slow  # torch.export takes some seconds for each
def test_programs_give_the_same_outputs_without_this_package(
    fixed: dict[str, Correction], given: Tensor, tmp_path: Path
) -> None:
    for number, correction in enumerate(fixed.values()):
        write_fixed(correction, tmp_path / f"{number}.pt2", planted_data(4)[0])
    torch.save(given, tmp_path / "given.pt")
    program = f"""{ARCHITECTURE}
for number in range({len(fixed)}):
    model = torch.export.load(f"{tmp_path}/{{number}}.pt2").module()
    torch.save(model(torch.load("{tmp_path}/given.pt")).detach(), f"{tmp_path}/{{number}}.pt")
"""
    done = processes.run(["-c", program], cwd=tmp_path, imported=("torch",))
    assert done.returncode == 0, done.stderr
    for number, (name, correction) in enumerate(fixed.items()):
        found = torch.load(tmp_path / f"{number}.pt")
        torch.testing.assert_close(found, outputs(correction, given), rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # torch's exporter, of its own code
@pytest.mark.parametrize("name", MAKES)
def test_onnx_gives_the_same_outputs(
    fixed: dict[str, Correction], given: Tensor, tmp_path: Path, name: str
) -> None:
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason=f"writing ONNX needs {package}")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime runs what was written")
    path = write_fixed(fixed[name], tmp_path / "fixed.onnx", planted_data(4)[0])
    assert [file.name for file in tmp_path.iterdir()] == ["fixed.onnx"]
    session = runtime.InferenceSession(path)
    (found,) = session.run(None, {session.get_inputs()[0].name: given.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), outputs(fixed[name], given), rtol=1e-4, atol=1e-4)


def test_the_library_of_the_original_refuses_every_corrected_model(
    fixed: dict[str, Correction], given: Tensor, tmp_path: Path
) -> None:
    data = TensorDataset(*planted_data(40))
    library = crp.mine(planted_model(), data, layers=["conv"], path=tmp_path / "a.crp", patches=0, progress=False)
    assert verify(library, planted_model(), data).sound
    for name, correction in fixed.items():
        found = verify(library, correction.model)
        assert not found.sound, name
        assert any("was mined with other weights" in sentence for sentence in found.wrong), found.wrong
    write_fixed(fixed["refit"], tmp_path / "fixed.safetensors", given)
    assert load_file(tmp_path / "fixed.safetensors").keys() == planted_model().state_dict().keys()
    code = tmp_path / "verified_subject.py"
    code.write_text("from tests.crp.correction.planted import planted_model as model\n", encoding="utf-8")
    command = ["verify", str(library.path), "--model", f"{code}:model"]
    done = CliRunner().invoke(main, [*command, "--weights", str(tmp_path / "fixed.safetensors")])
    assert done.exit_code != 0
    assert "was mined with other weights" in done.output
    assert CliRunner().invoke(main, command).exit_code == 0
