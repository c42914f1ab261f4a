"""Class names from a file."""

from __future__ import annotations

import json
from pathlib import Path

from crp.class_names import as_class_names
from crp.errors import InputError
from crp.files import user_path


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """Read class names in class order: a text file with one name per line, or JSON.

    JSON is a list of names, or an object from class index to name. If an entry is itself a list (ImageNet's
    `"0": ["n01440764", "tench"]`), its last item is the name.

    Raises
    ------
    InputError
        If the file is missing, not text, or not of this form; names the file.
    """
    path = user_path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"The class names '{path}' cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InputError(
            f"The class names '{path}' are not UTF-8 text; give one name per line (.txt) or a list (.json)."
        ) from None
    names = (
        _from_json(path, text) if path.suffix == ".json" else tuple(line.strip() for line in text.rstrip().splitlines())
    )
    if not names or not all(names):
        raise InputError(
            f"The class names '{path}' have {'an empty line' if names else 'no entry'}; give one name per line."
        )
    return names


def _from_json(path: Path, text: str) -> tuple[str, ...]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InputError(f"The class names '{path}' are not JSON ({error}).") from None
    if isinstance(content, list):
        content = [_name(entry) for entry in content]
    elif isinstance(content, dict):
        content = {key: _name(entry) for key, entry in content.items()}
    return as_class_names(content, f"The class names '{path}'")


def _name(entry: object) -> object:
    """Take the last item of a list, as in ImageNet's `["n01440764", "tench"]`."""
    return entry[-1] if isinstance(entry, list) and entry else entry
