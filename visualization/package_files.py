"""The templates, scripts and styles of pages and sites, as installed with the package."""

from __future__ import annotations

from functools import cache
from importlib import resources

_FOLDERS = ("page", "site", "report")
# The script of an explanation's page: these files in this order, as one function.
_PAGE_SCRIPT = ("elements", "cells", "stage", "graph", "region", "folds", "view", "search", "start")


@cache
def template_files() -> dict[str, bytes]:
    """Read every template, script and style, by file name; `script.js` is the whole script of a page."""
    files = {
        entry.name: entry.read_bytes()
        for folder in _FOLDERS
        for entry in resources.files("crp.visualization").joinpath(folder, "templates").iterdir()
    }
    body = b"\n".join(files.pop(f"{name}.js") for name in _PAGE_SCRIPT)
    return files | {"script.js": b'"use strict";\n(() => {\n' + body + b"})();\n"}
