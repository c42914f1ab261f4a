"""Names of classes: read from the caller, looked up by index, and an index looked up by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from crp.errors import InputError, listed, nearest, shortened
from crp.indices import class_ids, plain_number

# Between the terms of an expression of classes, as "octagon - disc" (`crp.attribution.named_starts`).
SIGNS = re.compile(r"\s+([+\N{MINUS SIGN}-])\s+")


def is_expression(target: str) -> bool:
    """Return whether a string is an expression of several classes.

    >>> is_expression("octagon - disc"), is_expression("T-shirt")
    (True, False)
    """
    return SIGNS.search(target) is not None


def as_class_names(names: object, where: str = "class_names") -> tuple[str, ...]:
    """Read the names of all classes as a caller has them.

    Parameters
    ----------
    names
        A list, tuple, array or other sequence of strings, by class index; or a dict from index to name, as in
        `model.config.id2label` of `transformers`. Its keys are integers, or integers as strings. Several classes may
        have the same name, as ImageNet's cranes do.
    where
        What holds the names, for messages.

    Raises
    ------
    InputError
        If a name is not a string, or the keys of a dict are not 0, 1, 2 and so on.

    Examples
    --------
    >>> as_class_names(["ant", "bee"]), as_class_names({"1": "bee", "0": "ant"})
    (('ant', 'bee'), ('ant', 'bee'))
    """
    if isinstance(names, str | bytes | set | frozenset) or not isinstance(names, Iterable):
        raise InputError(f"{where} must be a list of names or a dict from index to name, given {shortened(names)}.")
    if isinstance(names, Mapping):
        by_index = {_index(key): name for key, name in names.items()}
        if len(by_index) < len(names) or set(by_index) != set(range(len(names))):
            raise InputError(f"{where} must have the keys 0 to {len(names) - 1}, given {listed(names)}.")
        names = [by_index[index] for index in range(len(by_index))]
    names = list(names)
    for index, name in enumerate(names):
        if not isinstance(name, str):
            raise InputError(f"{where} must hold strings, given {shortened(name)} for class {index}.")
    return tuple(map(str, names))


def _index(key: object) -> object:
    """Turn a dict's key into an int where it stands for one."""
    if isinstance(key, str):
        return int(key) if key.isdecimal() else key
    return repr(key) if isinstance(key, bool) else plain_number(key)


def class_name(names: Sequence[str], index: int, count: int | None = None) -> str:
    """Return the name of a class; `class 3` if it has none, and `output` for the only output of a model.

    Parameters
    ----------
    names
        Names of the classes by index, possibly empty.
    index
        Index of the class.
    count
        How many outputs the model has, if that is known.

    Examples
    --------
    >>> class_name(["ant", "bee"], 1), class_name([], 1), class_name([], 0, count=1)
    ('bee', 'class 1', 'output')
    """
    named = names[index] if 0 <= index < len(names) else ""
    return named or ("output" if count == 1 and index == 0 else f"class {index}")


def class_places(own: Sequence[str], names: Sequence[str], what: str = "class") -> list[int]:
    """Return which class of a model each class of a data set is, by its name.

    Parameters
    ----------
    own
        Names of the data set's classes, by its labels.
    names
        Names of the model's classes, by index.
    what
        What has the names of `own`, and of what; for messages.

    Raises
    ------
    InputError
        If a name is not among `names`, or is there more than once.

    Examples
    --------
    >>> class_places(["bee", "ant"], ["ant", "bee", "cat"])
    [1, 0]
    """
    for name in own:
        if names.count(name) != 1:
            known = "not a class name" if name not in names else "the name of several classes"
            hint = nearest(name, names) if name not in names else "rename them."
            raise InputError(f"The {what.format(repr(name))} is {known}; {hint}")
    return [names.index(name) for name in own]


def check_classes(labels: Iterable[int], count: int) -> None:
    """Refuse labels that are no class of a model with `count` classes.

    Raises
    ------
    InputError
    """
    for label in labels:
        if not 0 <= label < count:
            raise InputError(f"A sample has the label {label}, but the model has the classes 0 to {count - 1}.")


def class_index(names: Sequence[str], target: object, count: int, where: str = "the model's output") -> int:
    """Return the index of one class, given by name or by index.

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
        What the classes belong to, for messages: `"the library"`.

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
