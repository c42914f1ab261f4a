"""Import of optional packages that some analyses need."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from crp.errors import InputError


def optional(module: str, package: str, what: str) -> ModuleType:
    """Import a module of an optional package.

    Raises
    ------
    InputError
        If it is not installed; says what needs it and how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(f"{what} needs {package}: pip install crp-atlas[analysis] (or {package} itself).") from error
