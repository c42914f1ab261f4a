"""The templates, scripts and styles of pages and sites, as installed with the package."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_FOLDERS = ("page", "site", "report")
# Scripts of pages, each a function made of these files in this order.
_SCRIPTS = {
    "script.js": (
        *("elements", "taking", "unpacking", "packed", "cells", "stage", "zoom", "graph", "graph_keys", "region"),
        *("enlarged", "planes", "folds", "view", "search", "ablations", "switch", "parts", "start", "sound", "framed"),
    ),
    # the names that readers give: on pages, before their own script, and on all pages of a site
    "naming.js": ("elements", "given", "renaming", "editor"),
    "index.js": ("elements", "taking", "site_index", "gallery", "common", "triage"),
    "compare.js": ("elements", "taking", "site_index", "comparison"),
    "concept.js": ("elements", "taking", "samples", "sound"),
}


# Comments on lines of their own, blank lines and indentation are for those who edit these files.
_BARE = {".js": rb"^[ \t]*//.*\n|^[ \t]+|^\n", ".css": rb"^[ \t]*/\*[^*]*\*/\n|^[ \t]+|^\n", ".html": rb"^[ \t]+"}


@cache
def template_files() -> dict[str, bytes]:
    """Read every template and style, and the scripts of pages, by file name."""
    files = {
        entry.name: _bare(entry.name, entry.read_bytes())
        for folder in _FOLDERS
        for entry in resources.files("crp.visualization").joinpath(folder, "templates").iterdir()
    }
    scripts = {name: b"\n".join(files[f"{part}.js"] for part in parts) for name, parts in _SCRIPTS.items()}
    for part in {part for parts in _SCRIPTS.values() for part in parts}:
        del files[f"{part}.js"]
    return files | {name: b'"use strict";\n(() => {\n' + body + b"})();\n" for name, body in scripts.items()}


def _bare(name: str, content: bytes) -> bytes:
    pattern = _BARE.get(f".{name.rpartition('.')[2]}")
    return content if pattern is None else re.sub(pattern, b"", content, flags=re.MULTILINE)
