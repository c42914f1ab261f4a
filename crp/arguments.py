"""Arguments that many functions take, read once: numbers, names of layers, devices."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from crp.errors import InputError, shortened
from crp.indices import plain_number

if TYPE_CHECKING:
    import torch


# How the logits of classes become probabilities.
PROBABILITIES = ("softmax", "sigmoid")


def whole_number(name: str, value: object, least: int) -> int:
    """Read a whole number, of Python, numpy or torch.

    Parameters
    ----------
    name
        The argument's name.
    value
        What was given.
    least
        The smallest valid value.

    Raises
    ------
    InputError
        If it is anything else, such as a float or a boolean, or too small.

    Examples
    --------
    >>> import numpy as np
    >>> whole_number("count", np.int64(3), 1)
    3
    """
    number = plain_number(value)
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        raise InputError(f"{name} is {shortened(value)}; it must be a whole number of at least {least}.")
    return number


def way_to_probabilities(value: str | None) -> str | None:
    """Check how logits become probabilities of classes: one of `PROBABILITIES`, or None if it is not said.

    Raises
    ------
    InputError
        If it is anything else.
    """
    if value is not None and value not in PROBABILITIES:
        raise InputError(
            f"probabilities is {shortened(value)}: it is 'softmax' (a sample has one class), 'sigmoid' (it may have "
            "several), or None."
        )
    return value


def seconds(name: str, value: object) -> float:
    """Read a duration; infinity is allowed.

    Raises
    ------
    InputError
        If it is no number, or negative.
    """
    number = plain_number(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or math.isnan(number) or number < 0:
        raise InputError(f"{name} is {shortened(value)}; it must be a number of seconds of at least 0.")
    return float(number)


def yes_or_no(name: str, value: object) -> bool:
    """Read a boolean, of Python, numpy or torch.

    Raises
    ------
    InputError
        If it is anything else, such as a number.
    """
    answer = plain_number(value)
    if not isinstance(answer, bool):
        raise InputError(f"{name} is {shortened(value)}; it must be True or False.")
    return answer


def layer_names(layers: object) -> list[str]:
    """Read the names of layers, each once; a single string is one name.

    Raises
    ------
    InputError
        If it is anything else, such as a module.

    Examples
    --------
    >>> layer_names("conv1"), layer_names(("conv1", "fc", "conv1"))
    (['conv1'], ['conv1', 'fc'])
    """
    if isinstance(layers, str):
        return [str(layers)]
    if isinstance(layers, bytes | Mapping) or not isinstance(layers, Iterable):
        raise InputError(f"Layers are given as a list of names, not as {shortened(layers)}.")
    return list(dict.fromkeys(map(layer_name, layers)))


def layer_name(layer: object) -> str:
    """Read the name of a layer.

    Raises
    ------
    InputError
        If it is not a string.
    """
    if not isinstance(layer, str):
        raise InputError(f"A layer is given by its name in model.named_modules(), not as {shortened(layer)}.")
    return str(layer)


def uncompiled_name(name: str) -> str:
    """Return the name of a module or a weight without the marks of parts that `torch.compile` has wrapped.

    >>> uncompiled_name("_orig_mod.conv._orig_mod.weight"), uncompiled_name("conv._orig_mod")
    ('conv.weight', 'conv')
    """
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def device_named(device: object) -> torch.device:
    """Read a device, as `torch.device` does.

    Raises
    ------
    InputError
        If torch knows no such device. Whether this machine has it is not checked.
    """
    import torch  # only here: whoever opens a library must not load it

    try:
        return torch.device(device)
    except (RuntimeError, TypeError):
        raise InputError(f"There is no device {shortened(device)}: give 'cpu', 'cuda', 'cuda:1' or 'mps'.") from None


def device_here(device: object) -> torch.device:
    """Read a device that this machine must have.

    Raises
    ------
    InputError
        If torch knows no such device, or the machine does not have it.
    """
    import torch

    found = device_named(device)
    try:
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError):  # AssertionError: torch is not compiled for it
        raise InputError(f"This machine has no device '{found}'.") from None
    return found
