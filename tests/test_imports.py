"""The arrows attribution <- crp <- visualization, looked at twice: in what is loaded, and in what is written.

The first sees what an import really pulls in, through any number of steps; the second sees the imports that stand
inside functions and have not run yet. Each is shown to be able to fail.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import crp

ROOT = Path(__file__).resolve().parent.parent


def loaded_by(statement: str) -> set[str]:
    """Names of the modules that a fresh interpreter holds after one statement."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(json.loads(done.stdout))


def within(modules: set[str], packages: tuple[str, ...]) -> set[str]:
    """Those of the modules that are one of the packages or lie in one."""
    return {name for name in modules if any(name == package or name.startswith(package + ".") for package in packages)}


@pytest.mark.parametrize(
    ("statement", "kept_out"),
    [
        ("import crp", ("torch", "numpy", "zennit", "matplotlib", "PIL", "click", "crp.compat", "crp.attribution")),
        ("import crp; crp.InputError", ("torch", "numpy", "crp.attribution")),
        (
            "import crp.attribution",
            ("matplotlib", "click", "crp.library", "crp.mining", "crp.explanation", "crp.visualization", "crp.legacy"),
        ),
        ("import crp.errors, crp.compat", ("torch", "zennit", "crp.attribution")),
        ("import crp.concepts", ("zennit", "crp.attribution", "crp.mining", "crp.library", "crp.legacy")),
        ("import crp.helper, crp.hooks, crp.graph", ("matplotlib", "click", "crp.mining", "crp.visualization")),
        ("from crp.analysis import search, strategies", ("torch", "sklearn", "matplotlib", "click", "crp.attribution")),
        ("import crp; crp.mine, crp.explain, crp.open_library", ("matplotlib", "click", "crp.visualization")),
    ],
)
def test_an_import_loads_no_more_than_it_needs(statement: str, kept_out: tuple[str, ...]) -> None:
    assert within(loaded_by(statement), kept_out) == set()


def test_the_look_at_loaded_modules_can_fail() -> None:
    loaded = loaded_by("import crp.attribution, click, crp.errors")
    assert within(loaded, ("click", "crp.errors", "crp.library")) >= {"click", "crp.errors"}
    assert {"crp.attribution", "torch", "zennit"} <= loaded


# What a folder may not name, in any of its files, not even inside a function.
BANNED = {
    "attribution": ("crp.images", "crp.sources", "crp.explanation", "crp.mining", "crp.library", "crp.demo", "crp.cli",
                    "crp.visualization", "crp.legacy", "matplotlib", "PIL", "click", "safetensors"),
    "crp/mining": ("crp.legacy", "crp.cli", "crp.demo", "crp.visualization", "matplotlib", "click"),
    "crp/analysis": ("crp.legacy", "crp.cli", "crp.demo", "crp.visualization", "matplotlib", "click"),
    "crp/library": ("crp.legacy", "crp.attribution", "crp.mining", "crp.cli", "crp.demo", "crp.visualization",
                    "matplotlib", "click", "zennit"),
    "visualization": ("crp.legacy", "crp.attribution", "crp.mining", "crp.cli", "crp.demo", "zennit", "click"),
}  # fmt: skip
LEAVES = ("errors", "compat", "concepts", "indices")


def imported_in(source: str, package: str) -> set[str]:
    """Absolute names of everything imported anywhere in a source text that stands in `package`.

    `from a import b` counts as `a.b`: `b` may be a module, and a name of `a` does no harm.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            home = ".".join([*parents, *([node.module] if node.module else [])])
            names |= {f"{home}.{alias.name}" for alias in node.names}
    return names


def imported_by_folder(folder: str) -> dict[Path, set[str]]:
    package = folder.replace("/", ".") if folder.startswith("crp") else f"crp.{folder}"
    return {path: imported_in(path.read_text(encoding="utf-8"), package) for path in (ROOT / folder).glob("*.py")}


@pytest.mark.parametrize("folder", BANNED)
def test_no_file_names_what_lies_against_the_arrows(folder: str) -> None:
    imported = imported_by_folder(folder)
    assert imported, f"no Python file in {folder}"
    against = {path.name: within(names, BANNED[folder]) for path, names in imported.items()}
    assert {name: found for name, found in against.items() if found} == {}


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_leaf_knows_nobody_but_the_errors(leaf: str) -> None:
    imported = imported_in((ROOT / "crp" / f"{leaf}.py").read_text(encoding="utf-8"), "crp")
    assert within(imported, ("crp",)) - within(imported, ("crp.errors",)) == set()


def test_the_look_at_written_imports_can_fail() -> None:
    source = "def draw():\n  from ..visualization import page\n  import matplotlib.pyplot\n  from crp import atlas"
    assert imported_in(source, "crp.mining") == {"crp.visualization.page", "matplotlib.pyplot", "crp.atlas"}
    assert within(imported_in(source, "crp.mining"), BANNED["crp/mining"]) == {
        "crp.visualization.page",
        "matplotlib.pyplot",
    }


@pytest.mark.parametrize("name", crp.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(crp, name) is not None
    assert name in dir(crp)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'crp' has no attribute 'attlas'$"):
        crp.attlas  # noqa: B018  (looking it up is the test)
