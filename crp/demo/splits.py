"""How samples of built-in data are asked for: a split, how many, and a seed."""

from __future__ import annotations

from collections.abc import Sequence

from crp.errors import InputError, nearest

SPLITS = ("train", "test")
MODES = ("train", "always", "never")


def check_request(what: str, split: str, count: int, seed: int, mode: tuple[str, str] | None = None) -> None:
    """Refuse a split, count or seed that built-in data do not have.

    Parameters
    ----------
    what
        What samples are called, in the plural.
    split, count, seed
        One of `SPLITS`; at least 1; at least 0.
    mode
        The name of a further choice and its value, one of `MODES`.

    Raises
    ------
    InputError
    """
    choices: list[tuple[str, str, Sequence[str]]] = [("split", split, SPLITS)]
    if mode is not None:
        choices.append((*mode, MODES))
    for name, value, allowed in choices:
        if value not in allowed:
            raise InputError(f"There is no {name} {value!r}; {nearest(str(value), allowed)}")
    for name, number, least in (("count", count, 1), ("seed", seed, 0)):
        if number < least:
            raise InputError(f"The {name} of {what} is {number}; it must be at least {least}.")
