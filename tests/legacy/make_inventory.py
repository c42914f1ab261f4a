"""Writes inventory.json beside this file: every public name of zennit-crp, its kind, its arguments, and star-imports.

    python -m pip download --no-deps zennit-crp==0.6.0
    python tests/legacy/make_inventory.py zennit_crp-0.6.0-py3-none-any.whl

The wheel is read, not imported; nothing of it is copied but names, parameters and defaults (as source text).
"""

from __future__ import annotations

import ast
import json
import sys
import zipfile
from pathlib import Path


def parameters(function: ast.FunctionDef) -> list[list[str | None]]:
    """Pairs of name and default, without `self`."""
    given = function.args
    defaults = [None] * (len(given.args) - len(given.defaults)) + [ast.unparse(value) for value in given.defaults]
    pairs = [[each.arg, default] for each, default in zip(given.args, defaults, strict=True)]
    return [pair for pair in pairs if pair[0] != "self"]


def public(name: str) -> bool:
    return not name.startswith("_")


def assigned(definition: ast.ClassDef) -> set[str]:
    """Names of the attributes that methods of a class set on `self`."""
    targets = [target for node in ast.walk(definition) if isinstance(node, ast.Assign) for target in node.targets]
    single = [each for target in targets for each in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return {
        each.attr
        for each in single
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == "self"
    }


def of_class(definition: ast.ClassDef) -> dict:
    methods = {}
    for node in definition.body:
        # what has neither `self` nor a decorator serves the class itself
        is_method = isinstance(node, ast.FunctionDef) and (node.decorator_list or node.args.args[0].arg == "self")
        if is_method and (public(node.name) or node.name in ("__init__", "__call__")):
            methods[node.name] = parameters(node)
    return {"kind": "class", "methods": methods, "attributes": sorted(filter(public, assigned(definition)))}


def of_module(source: str) -> dict:
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and public(node.name):
            found[node.name] = {"kind": "function", "parameters": parameters(node)}
        elif isinstance(node, ast.ClassDef) and public(node.name):
            found[node.name] = of_class(node)
        elif isinstance(node, ast.Assign):
            found |= {target.id: {"kind": "value"} for target in node.targets if isinstance(target, ast.Name)}
    return found


def star(source: str) -> list[str]:
    """Names that `from module import *` gives: all public ones, since zennit-crp has no `__all__`."""
    names = set(of_module(source))
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    return sorted(filter(public, names))


def main(wheel: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        sources = {
            name.removesuffix(".py").replace("/", "."): archive.read(name).decode()
            for name in sorted(archive.namelist())
            if name.startswith("crp/") and name.endswith(".py") and not Path(name).stem.startswith("__")
        }
    modules = {module: of_module(source) for module, source in sources.items()}
    stars = [f'"{module}": {json.dumps(star(source))}' for module, source in sources.items()]
    # one line a name
    tables = [
        f'"{module}": {{\n' + ",\n".join(f'  "{name}": {json.dumps(entry)}' for name, entry in names.items()) + "\n}"
        for module, names in modules.items()
        if names
    ]
    text = f'{{"made from": "{Path(wheel).name}", "modules": {{\n' + ",\n".join(tables)
    text += '\n}, "star": {\n' + ",\n".join(stars) + "\n}}\n"
    Path(__file__).with_name("inventory.json").write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
