"""Every `>>>` in a docstring is executed, module by module.

The modules are found by listing the folders: `pkgutil` does not see the two that are mapped into the package, and
collecting them by path would load a second copy of every class.
"""

import doctest
import importlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"crp": "crp", "attribution": "crp.attribution", "visualization": "crp.visualization"}


def module_names() -> list[str]:
    names = []
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if path.parent.name == "old_paths":  # imported as crp.NAME only
                parts = parts[-1:]
            if parts[-1] != "__main__":  # importing it runs the command line
                names.append(".".join([package, *(part for part in parts if part != "__init__")]))
    return names


@pytest.mark.parametrize("name", module_names())
def test_examples_in_docstrings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(name)
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(module).failed == 0


def test_every_folder_is_listed() -> None:
    names = module_names()
    assert {"crp", "crp.errors", "crp.attribution", "crp.attribution.flow", "crp.visualization"} <= set(names)
    assert importlib.import_module("crp.attribution.flow").__file__ == str(ROOT / "attribution" / "flow.py")


def test_a_wrong_example_fails(capsys: pytest.CaptureFixture[str]) -> None:
    module = ModuleType("wrong", ">>> 1 + 1\n3\n")
    assert doctest.testmod(module).failed == 1
    assert "Expected:" in capsys.readouterr().out
