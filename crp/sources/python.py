"""The object that "package.module:name" or "file.py:name" stands for."""

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
    """Import the module or file in front of the last colon and return the object named behind it.

    The file's folder is importable while it runs, as it is for a script. The code named here is executed: call this
    only for what the user named.

    Raises
    ------
    InputError
        When the file, the module or the name is missing, or running it fails.
    """
    place, _, name = spec.rpartition(":")
    with _explained(spec):
        module = _file_as_module(Path(place)) if place.endswith(".py") else _module(place)
    if not hasattr(module, name):
        public = [other for other in vars(module) if not other.startswith("_")]
        raise InputError(f"'{place}' has no '{name}'; {nearest(name, public)}")
    return getattr(module, name)


def called(spec: str, function: Any) -> Any:
    """Return what the function named by `spec` returns; its errors become one sentence with the line that raised."""
    with _explained(spec):
        return function()


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise InputError(
                f"There is no module '{name}' to import; name a Python file as 'file.py:function', or install the "
                f"package."
            ) from None
        raise


def _file_as_module(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"There is no Python file '{path}'.")
    # Not its bare stem: a file called `resnet.py` must not take the place of an installed `resnet`.
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
