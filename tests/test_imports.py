"""The arrows attribution <- crp <- visualization, checked twice: in what is loaded, and in what is written.

The first check sees what an import really loads, through any number of steps. The second sees imports inside functions
that have not run yet, and module names in strings, which `import_module` may be given. Each check has a meta-test that
shows it can fail.
"""

import ast
import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import crp
from tests import processes

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ("crp", "attribution", "visualization")


NOTHING: tuple[str, ...] = ()
TORCH = ("torch",)
ATTRIBUTION = ("crp.attribution",)


def loaded_by(statement: str, before: tuple[str, ...] = NOTHING) -> set[str]:
    """Names of the modules that an interpreter holds after one statement.

    It is a fresh one, but for what was imported `before`: that the statement needs it anyway is known, and importing it
    once is enough.
    """
    program = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = processes.run(["-c", program], cwd=ROOT, imported=before)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def within(modules: set[str], packages: tuple[str, ...]) -> set[str]:
    """Those of the modules that are one of the packages or lie in one."""
    return {name for name in modules if any(name == package or name.startswith(package + ".") for package in packages)}


@pytest.mark.parametrize(
    ("statement", "kept_out", "before"),
    [
        (
            "import crp",
            ("torch", "numpy", "zennit", "matplotlib", "PIL", "click", "crp.compat", "crp.attribution"),
            NOTHING,
        ),
        ("import crp; crp.InputError", ("torch", "numpy", "crp.attribution"), NOTHING),
        (
            "import crp.attribution",
            ("matplotlib", "click", "crp.library", "crp.mining", "crp.explanations", "crp.visualization", "crp.legacy"),
            ATTRIBUTION,
        ),
        ("import crp.attribution, torchvision", ("torch._dynamo", "sympy"), ATTRIBUTION),
        ("import crp.errors, crp.compat", ("torch", "zennit", "crp.attribution"), NOTHING),
        ("import crp.concepts", ("zennit", "crp.attribution", "crp.mining", "crp.library", "crp.legacy"), TORCH),
        (
            "import crp.helper, crp.hooks, crp.graph",
            ("matplotlib", "click", "crp.mining", "crp.visualization"),
            ATTRIBUTION,
        ),
        (
            "from crp.analysis import search, strategies",
            ("torch", "sklearn", "matplotlib", "click", "crp.attribution"),
            NOTHING,
        ),
        (
            "import crp; crp.mine, crp.explain, crp.open_library",
            ("matplotlib", "click", "crp.visualization"),
            ATTRIBUTION,
        ),
        ("import crp; crp.atlas, crp.make_site", ("matplotlib", "click", "crp.mining", "torch._dynamo"), ATTRIBUTION),
        ("import crp; crp.explain, crp.compose", ("crp.mining", "crp.analysis", "crp.legacy"), ATTRIBUTION),
    ],
)
def test_an_import_loads_no_more_than_it_needs(
    statement: str, kept_out: tuple[str, ...], before: tuple[str, ...]
) -> None:
    assert within(loaded_by(statement, before), kept_out) == set()


def test_every_package_is_in_the_wheel() -> None:
    # The list in pyproject.toml is written by hand, and an editable installation works with a package missing from it.
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    names = {".".join(file.parent.relative_to(ROOT).parts) for top in PRODUCT for file in (ROOT / top).rglob("*.py")}
    assert listed == {name if name.split(".")[0] == "crp" else f"crp.{name}" for name in names}


def test_the_check_of_loaded_modules_can_fail() -> None:
    loaded = loaded_by("import click, crp.errors", ATTRIBUTION)
    assert within(loaded, ("click", "crp.errors", "crp.library")) >= {"click", "crp.errors"}
    assert {"crp.attribution", "torch", "zennit"} <= loaded


# What each folder or module directly below `crp` may import, in addition to itself. A new one fails until it has a row.
CORE = ("errors", "lazy_names", "files", "indices", "arguments", "class_names", "relevance_shares", "values", "places",
        "layout",
        "concepts", "attribution")  # fmt: skip
MAY_NAME = {
    "errors": (),
    "lazy_names": (),
    "files": ("errors",),
    "compat": (),
    "indices": ("errors",),
    "layout": ("errors",),
    "class_names": ("errors", "indices"),
    "arguments": ("errors", "indices"),
    "relevance_shares": (),
    "values": ("errors",),
    "places": ("errors", "values"),
    "extras": ("errors",),
    "progress": (),
    "sample_names": (),
    "failed_pictures": ("errors",),
    "preprocessing": ("errors", "files"),
    "media": ("errors", "lazy_names", "files", "extras", "preprocessing"),
    "dataset_items": ("errors", "preprocessing"),
    "concepts": ("errors", "files", "compat", "indices", "layout", "relevance_shares", "values"),
    "attribution": ("errors", "compat", "indices", "arguments", "class_names", "values", "places", "concepts"),
    "library": ("errors", "files", "indices", "arguments", "class_names", "layout", "relevance_shares", "sample_names",
                "values", "preprocessing", "media"),
    "same_model": (*CORE, "library"),
    "models": (*CORE, "library", "same_model"),
    "graphs": (*CORE, "library", "models"),
    "explanations": (*CORE, "library", "models", "graphs", "preprocessing", "media"),
    "mining": (*CORE, "progress", "dataset_items", "library", "same_model", "models", "preprocessing",
               "media"),
    "verification": (*CORE, "library", "same_model", "models", "preprocessing", "mining"),
    "evaluation": (*CORE, "progress", "library", "models", "mining"),
    "analysis": (*CORE, "extras", "library", "models", "mining"),
    "correction": (*CORE, "progress", "extras", "library", "models", "mining", "analysis"),
    "demo": ("errors", "lazy_names", "preprocessing", "attribution", "mining", "places", "media"),
    "sources": (*CORE, "dataset_items", "compat", "extras", "library", "same_model", "models", "mining",
                "preprocessing", "media", "demo"),
    "legacy": (*CORE, "compat", "library", "mining"),
    "interchange": (*CORE, "extras", "library", "models", "preprocessing", "mining", "analysis", "legacy"),
    "visualization": ("errors", "failed_pictures", "files", "compat", "extras", "indices", "arguments", "class_names",
                      "relevance_shares", "sample_names", "values", "places", "library", "explanations", "graphs",
                      "evaluation", "correction", "preprocessing", "analysis", "media"),
    "cli": (*CORE, "failed_pictures", "compat", "library", "models", "graphs", "explanations", "mining", "verification",
            "analysis", "evaluation", "correction", "demo", "sources", "interchange", "preprocessing", "media",
            "visualization"),
    "__main__": ("cli",),
}  # fmt: skip
FOREIGN = {
    "attribution": ("matplotlib", "PIL", "click", "safetensors"),
    "library": ("matplotlib", "click", "zennit"),
    "mining": ("matplotlib", "click"),
    "analysis": ("matplotlib", "click"),
    "explanations": ("matplotlib", "click"),
    "graphs": ("matplotlib", "click"),
    "visualization": ("zennit", "click"),
}
# Modules that may name more, and why.
EXCEPTIONS = {
    "crp": "its names are loaded on first use",
    "crp.compat": "the table of zennit-crp's names, loaded on first use",
    "crp.graphs.concept_graph": "a graph shows itself in a notebook",
    "crp.visualization.site.site_maker": "crp.make_site prepares the model and explains before it draws",
}


def place_of(module: str) -> str:
    """Second part of a module's name: the folder or module directly below `crp`."""
    return "legacy" if f"{module.split('.')[1]}.py" in OLD_PATHS else module.split(".")[1]


OLD_PATHS = {path.name for path in (ROOT / "crp" / "legacy" / "old_paths").glob("*.py")}


def modules() -> Iterator[tuple[str, Path]]:
    """Name and file of every module of the product."""
    for folder in PRODUCT:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = list(path.relative_to(ROOT).with_suffix("").parts)
            if path.parent.name == "old_paths":
                parts = ["crp", path.stem]
            elif folder != "crp":
                parts.insert(0, "crp")
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


@cache
def tree(source: str) -> ast.Module:
    return ast.parse(source)


def named_in(source: str, module: str, is_package: bool = False) -> set[str]:
    """Absolute names of everything that a source text imports, anywhere, or names in a string as a module of ours.

    `from a import b` counts as `a.b`: `b` may be a module, and a name of `a` does no harm.
    """
    package = module if is_package else module.rpartition(".")[0]
    names = set()
    for node in ast.walk(tree(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            home = ".".join([*parents, *([node.module] if node.module else [])])
            names |= {f"{home}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names |= {node.value} if re.fullmatch(r"crp(\.\w+)+", node.value) else set()
        elif isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
            # f"crp.analysis.{name}" names something of that folder
            names |= {match[1] for match in [re.match(r"(crp(\.\w+)+)\.$", str(node.values[0].value))] if match}
    return names


def against(names: set[str], place: str) -> set[str]:
    """Those of the names that a place may not name."""
    ours = {name for name in names if name.startswith("crp.") and place_of(name) in MAY_NAME}
    allowed = {place, *MAY_NAME[place]}
    return {name for name in ours if place_of(name) not in allowed} | within(names, FOREIGN.get(place, ()))


@pytest.mark.parametrize("module", [name for name in MODULES if name not in EXCEPTIONS])
def test_no_module_names_what_lies_against_the_arrows(module: str) -> None:
    path = MODULES[module]
    names = named_in(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")
    assert against(names, place_of(module)) == set()


def test_the_check_of_written_imports_can_fail() -> None:
    source = """
def draw():
    from ..visualization import page
    import matplotlib.pyplot
    from crp import atlas, InputError
    import_module("crp.legacy.stored")
    import_module(f"crp.cli.{name}")
"""
    names = named_in(source, "crp.mining.pipeline")
    assert names == {
        "crp.visualization.page", "matplotlib.pyplot", "crp.atlas", "crp.InputError", "crp.legacy.stored", "crp.cli",
    }  # fmt: skip
    assert against(names, "mining") == {
        "crp.visualization.page",
        "matplotlib.pyplot",
        "crp.legacy.stored",
        "crp.cli",
    }
    assert against({"crp.image.imgify"}, "attribution") == {"crp.image.imgify"}


@pytest.mark.parametrize("module", EXCEPTIONS)
def test_an_exception_is_needed(module: str) -> None:
    names = named_in(MODULES[module].read_text(encoding="utf-8"), module, MODULES[module].name == "__init__.py")
    assert module == "crp" or against(names, place_of(module))


def test_every_place_has_its_row() -> None:
    assert {place_of(module) for module in MODULES if module != "crp"} == set(MAY_NAME)
    assert {name for row in MAY_NAME.values() for name in row} <= set(MAY_NAME)


def circles(rows: dict[str, tuple[str, ...]]) -> set[str]:
    """Places that can be reached from themselves along a table of arrows."""
    reach, before = {place: set(row) for place, row in rows.items()}, None
    while reach != before:
        before, reach = reach, {place: found.union(*(reach[o] for o in found)) for place, found in reach.items()}
    return {place for place, found in reach.items() if place in found}


def test_the_table_of_arrows_has_no_circle_and_the_check_of_it_can_fail() -> None:
    assert circles(MAY_NAME) == set()
    assert circles({**MAY_NAME, "errors": ("mining",)}) >= {"errors", "mining"}


def imports_at_load(module: str) -> set[str]:
    """Modules of the product that a module's imports name, those for type checkers among them."""
    path = MODULES[module]
    found = set()
    for name in named_in(path.read_text(encoding="utf-8"), module, path.name == "__init__.py"):
        while name and name not in MODULES:
            name = name.rpartition(".")[0]
        found |= {name} - {"crp", module}
    return found


def test_no_module_takes_part_in_a_circle() -> None:
    rows = {module: tuple(imports_at_load(module)) for module in MODULES if module not in EXCEPTIONS}
    rows = {module: tuple(name for name in row if name in rows) for module, row in rows.items()}
    # a folder's __init__ names its modules, which may name one another
    files = {module: tuple(n for n in row if MODULES[n].name != "__init__.py") for module, row in rows.items()}
    assert circles({module: row for module, row in files.items() if MODULES[module].name != "__init__.py"}) == set()


def test_no_two_modules_have_one_name() -> None:
    names = Counter(path.stem for path in MODULES.values() if path.stem not in ("__init__", "__main__"))
    assert [name for name, count in names.items() if count > 1] == []


def test_no_module_has_the_name_of_what_it_defines() -> None:
    """So that `crp.explain` is the function, whatever was imported before."""
    shadowing = {
        module
        for module, path in MODULES.items()
        for node in tree(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == path.stem
    }
    assert shadowing == set()


@pytest.mark.parametrize("name", crp.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(crp, name) is not None
    assert name in dir(crp)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'crp' has no attribute 'attlas'$"):
        crp.attlas  # noqa: B018  (looking it up is the test)
