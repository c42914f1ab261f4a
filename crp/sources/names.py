"""Class names from a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from crp.errors import InputError


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """Read class names in class order: a text file with one name a line, or JSON.

    JSON is a list of names, or an object from class index to name; where an entry is itself a list (ImageNet's
    `"0": ["n01440764", "tench"]`), its last item is the name.

    Raises
    ------
    InputError
        Naming the file, when it is missing, no text, or not of this form.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"The class names '{path}' cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InputError(
            f"The class names '{path}' are no UTF-8 text; give one name a line (.txt), or a list (.json)."
        ) from None
    names = (
        _from_json(path, text) if path.suffix == ".json" else tuple(line.strip() for line in text.rstrip().splitlines())
    )
    if not names or not all(names):
        raise InputError(
            f"The class names '{path}' have {'an empty line' if names else 'no entry'}; give one name a line."
        )
    return names


def _from_json(path: Path, text: str) -> tuple[str, ...]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InputError(f"The class names '{path}' are no JSON ({error}).") from None
    if isinstance(content, Mapping):
        indices = {str(index) for index in range(len(content))}
        if set(content) != indices:
            stray = next(key for key in content if key not in indices)
            raise InputError(
                f"The class names '{path}' have the key '{stray}'; the keys must be '0' to '{len(content) - 1}'."
            )
        content = [content[str(index)] for index in range(len(content))]
    if not isinstance(content, list):
        raise InputError(
            f"The class names '{path}' are of type {type(content).__name__}; give a list of names, or an object from "
            f"index "
            f"to name."
        )
    names = [entry[-1] if isinstance(entry, list) and entry else entry for entry in content]
    for index, name in enumerate(names):
        if not isinstance(name, str):
            raise InputError(f"The class names '{path}' have {name!r} for class {index}; a name is a string.")
    return tuple(names)
