"""The name of a class by its index, and the index of a class by its name."""

from __future__ import annotations

from collections.abc import Sequence

from crp.errors import InputError, listed, nearest, shortened
from crp.indices import class_ids


def class_name(names: Sequence[str], index: int) -> str:
    """Name of a class; `class 3` where it has none.

    Parameters
    ----------
    names
        Names of the classes by index, possibly empty.
    index
        Index of the class.

    Examples
    --------
    >>> class_name(["ant", "bee"], 1), class_name([], 1)
    ('bee', 'class 1')
    """
    return (names[index] if 0 <= index < len(names) else "") or f"class {index}"


def class_index(names: Sequence[str], target: object, count: int, where: str = "the model's output") -> int:
    """Index of one class, given by name or by index.

    Parameters
    ----------
    names
        Names of the classes by index, possibly empty.
    target
        A name, an index in any form that `crp.indices.class_ids` reads, or an index as a string. A name that consists
        of digits takes precedence over the index.
    count
        How many classes there are.
    where
        What has the classes, for messages: `"the library"`.

    Raises
    ------
    InputError
        If there is no such class, several classes share the name, or several classes are given.

    Examples
    --------
    >>> class_index(["ant", "bee"], "bee", 2), class_index([], "1", 2), class_index([], [1], 2)
    (1, 1, 1)
    """
    if isinstance(target, str) and target in names:
        found = [index for index, name in enumerate(names) if name == target]
        if len(found) > 1:
            raise InputError(f"{len(found)} classes have the name {target!r}: give one of the indices {listed(found)}.")
        return found[0]
    if isinstance(target, str):
        if not target.removeprefix("-").isdecimal():
            known = nearest(target, names) if names else f"{where} has no class names, give an index below {count}."
            raise InputError(f"There is no class {target!r}: {known}")
        target = int(target)
    ids = class_ids(target, count, where)
    if len(ids) != 1:
        raise InputError(f"One class is expected, given {len(ids)}: {shortened(target)}.")
    return ids[0]
