"""The templates, scripts and styles of pages and sites, as installed with the package."""

from __future__ import annotations

from functools import cache
from importlib import resources

_FOLDERS = ("page", "site")


@cache
def template_files() -> dict[str, bytes]:
    """Read every template, script and style, by file name."""
    return {
        entry.name: entry.read_bytes()
        for folder in _FOLDERS
        for entry in resources.files("crp.visualization").joinpath(folder, "templates").iterdir()
    }
