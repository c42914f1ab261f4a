"""manifest.json: what a library holds, how it was made, and which model and data set it belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from crp.arguments import PROBABILITIES
from crp.errors import InputError, LibraryError, shortened
from crp.files import write_file
from crp.layout import Layout

from .known_outputs import KEY, are_known_outputs
from .tables import check_file, damaged

FILE = "manifest.json"
FORMAT = "crp-atlas library"
SCHEMA = 2

# More than any valid manifest needs: names of a million classes, rules on a million modules.
_LARGEST_FILE = 64 << 20
_DEEPEST = 32

# Entries that are used when a library is read. The others are for information only.
_REQUIRED = {
    "versions": dict,
    "model": dict,
    "data": dict,
    "classes": int,
    "layers": list,
    "composite": dict,
    "settings": dict,
}
_TEXTS = (
    ("model", "weights"),
    ("data", "fingerprint"),
    ("composite", "name"),
    *(("settings", name) for name in ("concept", "targets", "start", "precision")),
    *(("settings", name) for name in ("relevance_score", "activation_score")),
)
# Numbers that decide how much is read, computed or allocated, with their valid ranges.
_NUMBERS = (
    ("data", "length", 1, 1 << 62),
    ("settings", "k", 1, 1 << 31),
    ("settings", "top", 1, 1 << 31),
    ("settings", "class_references", 0, 1 << 31),
    ("settings", "patches", 0, 1 << 31),
    ("settings", "patch_size", 1, 4096),
    ("settings", "block_size", 0, 1 << 31),
    ("settings", "threads", 1, 4096),
)


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
        If the folder is not a library, has another schema, or its manifest is damaged.
    """
    path = folder / FILE
    if not folder.exists():
        raise LibraryError(f"There is no library '{folder}': the folder does not exist.")
    if path.exists():
        check_file(folder, path)
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise damaged(path, f"it is larger than {_LARGEST_FILE >> 20} MiB")
        content = json.loads(path.read_bytes(), object_pairs_hook=_once)
        _check_plain(content)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise LibraryError(f"'{folder}' is not a library: it holds no {FILE}.") from error
    except OSError as error:
        raise LibraryError(f"'{path}' cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"not JSON: {shortened(error)}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise LibraryError(f"'{path}' does not describe a library: its \"format\" is not '{FORMAT}'.")
    if content.get("schema") != SCHEMA:
        raise LibraryError(
            f"'{path}' is of schema {shortened(content.get('schema'))}, and this version of crp-atlas reads schema "
            f"{SCHEMA}."
        )
    for name, kind in _REQUIRED.items():
        if type(content.get(name)) is not kind:
            raise damaged(path, f"'{name}' is missing or not of type {kind.__name__}")
    for owner, name in _TEXTS:
        if not isinstance(content[owner].get(name), str):
            raise damaged(path, f"'{owner}' has no '{name}'")
    for owner, name, least, most in _NUMBERS:
        number = content[owner].get(name)
        if type(number) is not int:
            raise damaged(path, f"'{name}' of '{owner}' is missing or not an int")
        if not least <= number <= most:
            raise damaged(path, f"'{name}' of '{owner}' is {shortened(number)}")
    if type(content["settings"].get("vectors")) is not bool:
        raise damaged(path, "'vectors' of 'settings' is missing or not a bool")
    if content.get("probabilities") not in (None, *PROBABILITIES):
        raise damaged(path, f"'probabilities' is {shortened(content['probabilities'])}")
    for key in ("output_names", "class_names"):
        names = content.get(key)
        if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise damaged(path, f"'{key}' is not a list of names")
    if names is not None and len(names) != content["classes"]:
        raise damaged(path, f"there are {len(names)} 'class_names' for {shortened(content['classes'])} classes")
    if not are_known_outputs(content["model"].get(KEY)):
        raise damaged(path, f"'{KEY}' of 'model' does not hold outputs for a test pattern")
    if not _is_conservation(content.get("conservation", {})):
        raise damaged(path, "'conservation' does not say where relevance went")
    if not _is_shape(content["data"].get("shape")):
        raise damaged(path, "'shape' of 'data' is missing or not a shape")
    for layer in content["layers"]:
        if not _is_layer(layer):
            raise damaged(path, f"{shortened(layer)} does not describe a layer")
    if len({layer["name"] for layer in content["layers"]}) < len(content["layers"]):
        raise damaged(path, "a layer is listed twice")
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a dict from a JSON object; refuse a repeated name, because readers differ in which value they take."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is repeated in one object")
    return found


def _check_plain(value: Any, depth: int = 0) -> None:
    """Refuse values that JSON allows but that would fail later, when they are shown or written."""
    if depth > _DEEPEST:
        raise ValueError(f"more than {_DEEPEST} nested values")
    if isinstance(value, dict):
        for name, part in value.items():
            name.encode()  # raises an error for lone surrogates
            _check_plain(part, depth + 1)
    elif isinstance(value, list):
        for part in value:
            _check_plain(part, depth + 1)
    elif isinstance(value, str):
        value.encode()
    elif isinstance(value, int | float) and not abs(value) < 1e300:
        raise ValueError("a number is infinite or NaN")


def layer_folder(layer: str) -> str:
    """Return the folder name of a layer: its name, with everything but letters, digits and `_ . - ~` written as %XX.

    >>> layer_folder("features.3.squeeze"), layer_folder("block/one")
    ('features.3.squeeze', 'block%2Fone')
    """
    return quote(layer, safe="")


def _is_conservation(found: object) -> bool:
    if not isinstance(found, dict) or not found:
        return found == {}
    absorbed = found.get("absorbed")
    return (
        type(found.get("samples")) is int
        and all(isinstance(found.get(name), float) for name in ("arrived", "unaccounted"))
        and isinstance(absorbed, list)
        and all(isinstance(each, list) and list(map(type, each)) == [str, float] for each in absorbed)
        and _is_departure(found.get("departure"))
    )


def _is_departure(found: object) -> bool:
    kinds = {"module": str, "operation": str, "left": float}
    return found is None or (isinstance(found, dict) and {name: type(part) for name, part in found.items()} == kinds)


def _is_layer(layer: object) -> bool:
    if not isinstance(layer, dict) or not isinstance(layer.get("name"), str) or not layer["name"].strip("."):
        return False
    fits = len(layer_folder(layer["name"])) <= 255  # the longest possible name of a folder
    means = layer.get("means", 0)
    sizes = _is_shape(layer.get("shape")) and _is_shape([layer.get("concepts")]) and type(means) is int and means >= 0
    return fits and sizes and _has_layout(layer) and _has_kind(layer) and _has_names(layer)


def _has_kind(layer: dict[str, Any]) -> bool:
    kind = layer.get("concept")
    return kind is None or (
        isinstance(kind, dict) and all(isinstance(kind.get(name), str) for name in ("kind", "fingerprint"))
    )


def _has_names(layer: dict[str, Any]) -> bool:
    names = layer.get("names")
    return names is None or (
        isinstance(names, list) and len(names) == layer["concepts"] and all(isinstance(name, str) for name in names)
    )


def _has_layout(layer: dict[str, Any]) -> bool:
    try:
        Layout.from_description(layer)
    except (InputError, KeyError, TypeError):
        return False
    return True


def _is_shape(shape: object) -> bool:
    if not isinstance(shape, list) or not shape:
        return False
    return all(type(size) is int and 0 < size < 1 << 62 for size in shape)
