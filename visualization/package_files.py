"""The templates, scripts and styles of pages and sites, as installed with the package."""

from __future__ import annotations

from functools import cache
from importlib import resources

_FOLDERS = ("page", "site", "report")
# The script of an explanation's page: these files in this order, as one function.
_PAGE_SCRIPT = (
    "elements", "cells", "stage", "graph", "region", "folds", "view", "search", "ablations", "switch", "start",
)  # fmt: skip
# The script of the names that readers give: on pages, before their own script, and on all pages of a site.
_NAMING_SCRIPT = ("elements", "given", "renaming", "editor")


@cache
def template_files() -> dict[str, bytes]:
    """Read every template, script and style, by file name; `script.js` and `naming.js` are whole scripts."""
    files = {
        entry.name: entry.read_bytes()
        for folder in _FOLDERS
        for entry in resources.files("crp.visualization").joinpath(folder, "templates").iterdir()
    }
    scripts = {"script.js": _PAGE_SCRIPT, "naming.js": _NAMING_SCRIPT}
    joined = {name: b"\n".join(files[f"{part}.js"] for part in parts) for name, parts in scripts.items()}
    parts = {f"{part}.js" for parts in scripts.values() for part in parts}
    kept = {name: content for name, content in files.items() if name not in parts}
    return kept | {name: b'"use strict";\n(() => {\n' + body + b"})();\n" for name, body in joined.items()}
