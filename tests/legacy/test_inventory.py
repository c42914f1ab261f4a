"""Every public name of zennit-crp 0.6.0 is there, and takes what it took (inventory.json, by make_inventory.py)."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from crp.compat import OLD_NAMES
from tests import processes

INVENTORY = json.loads(Path(__file__).with_name("inventory.json").read_text())
MODULES, STAR = INVENTORY["modules"], INVENTORY["star"]
NAMES = [(module, name) for module, names in MODULES.items() for name in names]


def plain(default: object) -> object:
    """A default in a form that can be compared: a function by its name, a tuple as a list."""
    if isinstance(default, list | tuple):
        return [plain(item) for item in default]
    return getattr(default, "__name__", default)


def stated(source: str) -> object:
    """The same of a default in source text."""
    node = ast.parse(source, mode="eval").body
    if isinstance(node, ast.List | ast.Tuple):
        return [stated(ast.unparse(item)) for item in node.elts]
    if isinstance(node, ast.Name | ast.Attribute):
        return source.rpartition(".")[2]
    return ast.literal_eval(node)


def differences(function: object, theirs: list[list[str | None]]) -> list[str]:
    """What keeps a call written for zennit-crp from meaning the same, in words."""
    ours = [each for each in inspect.signature(function).parameters.values() if each.name != "self"]
    found = []
    for place, (name, default) in enumerate(theirs):
        if place >= len(ours) or ours[place].name != name:
            found.append(f"'{name}' is not argument {place}")
        elif default is not None and plain(ours[place].default) != stated(default):
            found.append(f"'{name}' is {ours[place].default!r} by default, was {default}")
    needed = [each.name for each in ours[len(theirs) :] if each.default is inspect.Parameter.empty]
    return found + [f"'{name}' is asked for" for name in needed]


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[f"{module}.{name}" for module, name in NAMES])
def test_a_name_is_there_and_takes_what_it_took(module, name):
    entry, ours = MODULES[module][name], getattr(importlib.import_module(module), name)
    if entry["kind"] == "function":
        assert differences(ours, entry["parameters"]) == []
    for method, theirs in entry.get("methods", {}).items():
        assert differences(getattr(ours, method), theirs) == [], method


# names that are modules
MEANS = {
    "np": "numpy", "torch": "torch", "plt": "matplotlib.pyplot", "gridspec": "matplotlib.gridspec",
    "zimage": "zennit.image", "Image": "PIL.Image", "os": "os", "re": "re", "gc": "gc", "math": "math",
    "warnings": "warnings", "functools": "functools", "inspect": "inspect", "weakref": "weakref",
    "concurrent": "concurrent",
}  # fmt: skip


@pytest.mark.parametrize("module", STAR)
def test_a_star_import_gives_what_it_gave(module):
    names: dict[str, object] = {}
    exec(f"from {module} import *", names)
    assert [name for name in STAR[module] if name not in names] == []
    assert sorted(OLD_NAMES[module]) == STAR[module]
    for name in STAR[module]:
        value = names[name]
        if inspect.ismodule(value):
            assert value.__name__ == MEANS[name], name
        else:
            assert name not in MEANS, name
        # and so does an import by name
        assert getattr(importlib.import_module(module), name) is value


def test_what_a_star_import_brings_is_of_use():
    """As the scripts of PURE and Reveal2Revise begin."""
    names: dict[str, object] = {}
    exec("from crp.image import *\nfrom crp.visualization import *", names)
    exec("kept: Dict[str, List[int]] = {}\nmade = np.asarray(torch.ones(2)).sum()", names)
    assert names["made"] == 2
    assert list(names["tqdm"]([1], disable=True)) == [1]


def test_a_star_import_of_the_attribution_side_draws_nothing():
    star = "from crp.attribution import *\nfrom crp.concepts import *\n"
    program = f"{star}import sys; print('matplotlib' in sys.modules)"
    done = processes.run(["-c", program], cwd=processes.ROOT, imported=("crp.attribution",))
    assert done.stdout == "False\n", done.stderr


def examples() -> dict[str, object]:
    """One object of each class of the attribution side."""
    from crp.attribution import AttributionGraph, CondAttribution
    from crp.graph import trace_model_graph
    from crp.hooks import FeatVisHook, MaskHook

    model = nn.Sequential(nn.Linear(2, 2))
    graph, attribution = trace_model_graph(model, torch.ones(1, 2), ["0"]), CondAttribution(model)
    return {
        "CondAttribution": attribution,
        "AttributionGraph": AttributionGraph(attribution, graph, {}),
        "ModelGraph": graph,
        "GraphNode": graph.layer_node_map["0"],
        "MaskHook": MaskHook([]),
        "FeatVisHook": FeatVisHook(None, None, "0", {}, None),
    }


def test_objects_have_the_attributes_they_had():
    known = {name: entry for names in MODULES.values() for name, entry in names.items()}
    for name, each in examples().items():
        assert [attribute for attribute in known[name]["attributes"] if not hasattr(each, attribute)] == [], name


@pytest.mark.parametrize("module", MODULES)
def test_a_name_that_never_was_is_an_attribute_error(module):
    with pytest.raises(AttributeError, match=f"^module '{module}' has no attribute 'nothing'$"):
        importlib.import_module(module).nothing  # noqa: B018  (looking it up is the test)


def test_the_look_at_signatures_can_fail():
    def ours(data, size=3, *, more):
        """As a face that has drifted."""

    assert differences(ours, [["data", None], ["size", "4"], ["kept", None]]) == [
        "'size' is 3 by default, was 4",
        "'kept' is not argument 2",
    ]
    assert differences(ours, [["data", None], ["size", "3"]]) == ["'more' is asked for"]
