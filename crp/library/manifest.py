"""manifest.json: what a library holds, what made it, and what it belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from crp.errors import LibraryError

from .tables import damaged, write_file

FILE = "manifest.json"
FORMAT = "crp-atlas library"
SCHEMA = 2

# What is read when a library is used; everything else in the manifest is for people.
_REQUIRED = {
    "versions": dict,
    "model": dict,
    "data": dict,
    "classes": int,
    "layers": list,
    "composite": dict,
    "settings": dict,
}


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the manifest into a library's folder: sorted keys, no time stamps."""
    whole = {"format": FORMAT, "schema": SCHEMA, **content}
    text = json.dumps(whole, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_file(folder / FILE, f"{text}\n".encode())


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and check the manifest of a library.

    Raises
    ------
    LibraryError
        If the folder is no library, one of a newer format, or its manifest is damaged.
    """
    path = folder / FILE
    if not folder.exists():
        raise LibraryError(f"There is no library '{folder}': the folder does not exist.")
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise LibraryError(f"'{folder}' is not a library: it holds no {FILE}.") from error
    except OSError as error:
        raise LibraryError(f"'{path}' cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"no JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise LibraryError(f"'{path}' does not describe a library: its \"format\" is not '{FORMAT}'.")
    if content.get("schema") != SCHEMA:
        raise LibraryError(
            f"'{path}' is of schema {content.get('schema')!r}, and this version of crp-atlas reads schema {SCHEMA}."
        )
    for name, kind in _REQUIRED.items():
        if not isinstance(content.get(name), kind):
            raise damaged(path, f"'{name}' is missing or no {kind.__name__}")
    names = content.get("class_names")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise damaged(path, "'class_names' is no list of names")
    for layer in content["layers"]:
        if not _is_layer(layer):
            raise damaged(path, f"{layer!r} does not describe a layer")
    for name, kind in (("k", int), ("top", int), ("class_references", int), ("vectors", bool), ("patches", int),
                       ("block_size", int), ("threads", int)):  # fmt: skip
        if type(content["settings"].get(name)) is not kind:
            raise damaged(path, f"the setting '{name}' is missing or no {kind.__name__}")
    for owner, name in (
        ("model", "weights"),
        ("data", "fingerprint"),
        ("composite", "name"),
        ("settings", "concept"),
    ):
        if not isinstance(content[owner].get(name), str):
            raise damaged(path, f"'{owner}' has no '{name}'")
    return content


def layer_folder(layer: str) -> str:
    """Folder of a layer: its name, with everything but letters, digits and `_ . - ~` written as %XX.

    >>> layer_folder("features.3.squeeze"), layer_folder("block/one")
    ('features.3.squeeze', 'block%2Fone')
    """
    return quote(layer, safe="")


def _is_layer(layer: object) -> bool:
    if not isinstance(layer, dict) or not isinstance(layer.get("name"), str) or not layer["name"].strip("."):
        return False
    shape = layer.get("shape")
    if not isinstance(shape, list) or not shape:
        return False
    return all(type(size) is int and size > 0 for size in [*shape, layer.get("concepts")])
