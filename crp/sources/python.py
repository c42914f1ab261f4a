"""Imports the object that "package.module:name" or "file.py:name" stands for."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from crp.errors import InputError, nearest


def named_object(spec: str) -> Any:
    """Import the module or file before the last colon, and return the object named after it.

    While a file runs, its folder is importable, as for a script. The code is executed: use this only for names that the
    user gave.

    Raises
    ------
    InputError
        If the file, the module or the name does not exist, or running the code fails.
    """
    place, _, name = spec.rpartition(":")
    with _explained(spec):
        module = _file_as_module(Path(place)) if place.endswith(".py") else _module(place)
    if not hasattr(module, name):
        public = [other for other in vars(module) if not other.startswith("_")]
        raise InputError(f"'{place}' has no '{name}'; {nearest(name, public)}")
    return getattr(module, name)


def called(spec: str, function: Any) -> Any:
    """Call the function named by `spec`; errors become one sentence with the line that raised them."""
    with _explained(spec):
        return function()


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise InputError(
                f"There is no module '{name}' to import; name a Python file as 'file.py:function', or install the "
                "package."
            ) from None
        raise


def _file_as_module(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"There is no Python file '{path}'.")
    # Not its stem alone: a file `resnet.py` must not replace an installed module `resnet`.
    name = f"crp_user_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


@contextmanager
def _explained(spec: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # the user's own code may raise anything
        last = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(str(error).split())
        raise InputError(
            f"'{spec}' raised {type(error).__name__}: {text} ({Path(last.filename).name}, line {last.lineno})."
        ) from error
