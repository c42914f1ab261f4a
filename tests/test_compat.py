"""The torchvision workaround and the check for zennit-crp, in fresh interpreters: both depend on import order."""

import subprocess
import sys
from pathlib import Path

import pytest

from crp import compat
from tests import processes

ROOT = Path(__file__).resolve().parent.parent


def run(program: str, folder: Path = ROOT, imported: tuple[str, ...] = ("torch",)) -> subprocess.CompletedProcess:
    """Run a program that begins where torch is imported, and torchvision is not."""
    return processes.run(["-c", program], cwd=folder, imported=imported)


def test_zennit_and_torchvision_models_import_after_the_cure() -> None:
    done = run(
        "from crp.compat import import_zennit_safely\n"
        "import_zennit_safely(); import_zennit_safely()\n"
        "import gc; gc.collect()\n"
        "import zennit.composites, torchvision\n"
        "print(torchvision.models.squeezenet1_1().classifier[1].out_channels)"
    )
    assert (done.stdout, done.stderr) == ("1000\n", "")


def declared(folder: Path, extension: str) -> subprocess.CompletedProcess:
    """What is declared beside a torchvision with this `extension.py`, and whether that torchvision imports then."""
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("from . import extension\n")
    (package / "extension.py").write_text(f"import torch\n{extension}\n")
    program = (
        "from crp import compat\n"
        "compat.import_zennit_safely()\n"
        "import torch, sys\n"
        "names = [name for name in compat.TORCHVISION_OPERATORS if hasattr(torch.ops.torchvision, name)]\n"
        "print(names, len(compat._kept_alive), 'torchvision' in sys.modules)\n"
        "import torchvision"
    )
    return run(program, folder)


DEFINING = """
if not hasattr(torch.ops.torchvision, "nms"):  # a compiled file defines once, however often it is loaded
    torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


@pytest.mark.parametrize(
    ("extension", "expected"),
    [
        ("_has_ops = lambda: False", "['nms', 'qnms'] 1 False\n"),
        (f"{DEFINING}_has_ops = lambda: False", "['nms', 'qnms'] 1 False\n"),
        (f"{DEFINING}_has_ops = lambda: True", "['nms'] 0 False\n"),
    ],
)
def test_only_what_is_missing_is_declared(tmp_path: Path, extension: str, expected: str) -> None:
    done = declared(tmp_path, extension)
    assert (done.stdout, done.stderr) == (expected, "")


def test_a_torchvision_for_another_cuda_speaks_for_itself(tmp_path: Path) -> None:
    done = declared(tmp_path, f"{DEFINING}raise RuntimeError('compiled with different CUDA major versions')")
    assert done.stdout == "['nms'] 0 False\n"
    assert done.stderr.endswith("RuntimeError: compiled with different CUDA major versions\n")


def test_declared_operators_do_not_pretend_to_work() -> None:
    done = run(
        "from crp.compat import import_zennit_safely\n"
        "import_zennit_safely()\n"
        "import torch, torchvision\n"
        "print(torchvision.extension._has_ops())\n"
        "torchvision.ops.nms(torch.rand(1, 4), torch.rand(1), 0.5)"
    )
    if done.stdout == "True\n":
        pytest.skip("torchvision finds its compiled operators here, so none is declared")
    assert "RuntimeError: Couldn't load custom C++ ops." in done.stderr


def test_who_imports_torchvision_first_gets_no_cure() -> None:
    """The limit that docs/install.md states: a torchvision that was imported before is left alone."""
    done = run(
        "import sys, types\n"
        "sys.modules['torchvision'] = types.ModuleType('torchvision')\n"
        "from crp.compat import import_zennit_safely\n"
        "import_zennit_safely()\n"
        "print('torch' in sys.modules)",
        imported=(),
    )
    assert done.stdout == "False\n"


def test_without_torchvision_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(compat.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(compat, "_kept_alive", [])
    compat.import_zennit_safely()
    assert compat._kept_alive == []


def pooling(folder: Path, source: str, program: str) -> subprocess.CompletedProcess:
    """Import a torchvision whose `ops/roi_align.py` is `source`, and run a program after it."""
    for package in ("torchvision", "torchvision/ops"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
    (folder / "torchvision" / "extension.py").write_text("_has_ops = lambda: True\n")
    (folder / "torchvision" / "ops" / "roi_align.py").write_text(source)
    before = "from crp import compat\ncompat.import_zennit_safely()\ncompat.import_zennit_safely()\nimport sys\n"
    return run(f"{before}from torchvision.ops import roi_align\n{program}", folder)


def compilers() -> str:
    """What a program holds of torch's compiler."""
    return "print([name for name in sys.modules if name.startswith('torch._dynamo')])\n"


def test_torchvision_gets_the_compiler_when_it_asks_it(tmp_path: Path) -> None:
    done = pooling(
        tmp_path,
        "from torch._dynamo.utils import is_compile_supported\n",
        compilers() + "import types\n"
        "own = sys.modules['torch._dynamo.utils'] = types.ModuleType('torch._dynamo.utils')\n"
        "own.is_compile_supported = lambda device: f'{device} can'\n"
        "print(roi_align.is_compile_supported('cpu'))",
    )
    assert (done.stdout, done.stderr) == ("[]\ncpu can\n", "")


def test_a_torchvision_that_takes_more_of_the_compiler_has_it_at_once(tmp_path: Path) -> None:
    done = pooling(
        tmp_path,
        "from torch._dynamo.utils import counters, is_compile_supported\n",
        "import torch._dynamo.utils\n"
        "print(roi_align.counters is torch._dynamo.utils.counters, torch._dynamo.utils.__file__ is not None)\n"
        "print(roi_align.is_compile_supported('cpu') == torch._dynamo.utils.is_compile_supported('cpu'))",
    )
    assert (done.stdout, done.stderr) == ("True True\nTrue\n", "")


def installed(folder: Path, name: str, version: str) -> None:
    """What `pip install` of a distribution leaves for importlib.metadata to find."""
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_zennit_crp_in_the_same_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path, "zennit-crp", "0.6.0")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(compat, "__file__", str(tmp_path / "crp" / "compat.py"))
    with pytest.raises(ImportError) as error:
        compat.refuse_zennit_crp()
    assert str(error.value) == (
        "zennit-crp 0.6.0 is installed in the same folder 'crp' as crp-atlas, and each overwrites files of the other: "
        "run 'pip uninstall zennit-crp' first, then 'pip install --force-reinstall --no-deps crp-atlas'; "
        "code written for zennit-crp runs on crp-atlas."
    )


def test_the_first_use_of_a_name_asks(tmp_path: Path) -> None:
    """In a site-packages of its own, as a wheel would lie there."""
    installed(tmp_path, "zennit-crp", "0.6.0")
    package = tmp_path / "crp"
    package.mkdir()
    for name in ("__init__.py", "compat.py", "errors.py"):
        (package / name).write_bytes((ROOT / "crp" / name).read_bytes())
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport crp\nprint('imported')\ncrp.InputError"
    done = run(program, tmp_path, imported=())
    assert done.stdout == "imported\n"
    assert "ImportError: zennit-crp 0.6.0 is installed in the same folder 'crp'" in done.stderr


def test_zennit_crp_elsewhere_and_no_zennit_crp_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    compat.refuse_zennit_crp()
    installed(tmp_path, "zennit-crp", "0.6.0")
    compat.refuse_zennit_crp()
