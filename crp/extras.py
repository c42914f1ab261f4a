"""Import of optional packages."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from crp.errors import InputError


def optional(module: str, package: str, what: str, extra: str | None = "analysis") -> ModuleType:
    """Import a module of an optional package.

    Parameters
    ----------
    module
        The module to import.
    package
        The package that has it, as pip names it.
    what
        What needs it: the subject of the message.
    extra
        The extra of crp-atlas that installs the package; None if none does.

    Raises
    ------
    InputError
        If it is not installed; says what needs it and how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        ours = package if extra is None else f"crp-atlas[{extra}] (or {package} itself)"
        raise InputError(f"{what} needs {package}: pip install {ours}.") from error
