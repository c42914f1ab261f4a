"""Ids of concepts and classes, in whatever form the caller has them: int, list, set, range, slice, array, mask.

Everything that takes ids from a user reads them here, so that a value means the same everywhere.

=============================================  ====================================================================
`3`, `numpy.int64(3)`, a tensor without axes   that id
a list, tuple, set, range, an array of ints    those ids, each once, in the given order (a set: ascending)
`slice(0, 8, 2)`                               as for a list of all ids
booleans, one for each id                      the ids that are True
=============================================  ====================================================================

Floating-point numbers, single booleans and ids out of range are refused.

For concepts, integers are always ids, also in `[0, 1, 1, 0]`: a mask is made of booleans. For classes, integers 0 and
1, one for each class with at least one of them repeated, are a one-hot or multi-hot vector, as labels often are.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from crp.errors import InputError, shortened


def concept_ids(value: object, count: int, where: str = "the layer") -> tuple[int, ...]:
    """Read concept ids.

    Parameters
    ----------
    value
        An id or several, in any form of the table above. Negative ids count from the end.
    count
        How many concepts there are.
    where
        What they belong to, for messages: `"layer 'conv5'"`.

    Returns
    -------
    tuple of int
        Ids in `0 .. count - 1`, without repetitions. Empty if `value` names none.

    Raises
    ------
    InputError
        If an id is not a whole number or out of range, or a mask has another length than `count`.

    Examples
    --------
    >>> concept_ids(3, 8), concept_ids([5, -1], 8), concept_ids(slice(0, 8, 3), 8)
    ((3,), (5, 7), (0, 3, 6))
    >>> concept_ids(np.array([False, True, True]), 3)
    (1, 2)
    """
    return _Ids(count, where, "concept", "concepts", from_the_end=True).read(value)


def concept_id(value: object, count: int, where: str = "the layer") -> int:
    """Read the id of a single concept, in any form of the table above.

    Raises
    ------
    InputError
        As `concept_ids`, or if `value` names no concept, or several.

    Examples
    --------
    >>> concept_id(np.int64(-1), 8), concept_id([3], 8)
    (7, 3)
    """
    ids = concept_ids(value, count, where)
    if len(ids) != 1:
        raise InputError(f"One concept is expected, given {len(ids)}: {shortened(value)}.")
    return ids[0]


def class_ids(value: object, count: int, where: str = "the model's output") -> tuple[int, ...]:
    """Read class indices as `concept_ids` reads concepts, except that negative ones are refused.

    Data sets use -1 for "no label", so it must not mean the last class.
    """
    return _Ids(count, where, "class", "classes", from_the_end=False, hot=True).read(value)


def classes_of_samples(value: object, samples: int, count: int, where: str = "the model's output") -> tuple[int, ...]:
    """Read one class for each of some samples; a single class stands for all of them.

    Parameters
    ----------
    value
        A class, or a list, tuple, array or tensor of classes, one for each sample. One alone stands for all samples.
    samples
        How many samples there are.
    count
        How many classes there are.
    where
        What the classes belong to, for messages.

    Returns
    -------
    tuple of int
        One class in `0 .. count - 1` for each sample.

    Raises
    ------
    InputError
        If a class is not a whole number or out of range, or their number is not that of the samples.

    Examples
    --------
    >>> classes_of_samples([2, 2, 0], 3, 5), classes_of_samples(4, 3, 5), classes_of_samples([4], 3, 5)
    ((2, 2, 0), (4, 4, 4), (4, 4, 4))
    """
    ids = _Ids(count, where, "class", "classes", from_the_end=False)
    several = _several(value)
    if several is None:
        return (ids.single(plain_number(value)),) * samples
    if len(several) == 1:
        several = several * samples
    if len(several) != samples:
        raise InputError(f"{samples} samples need one class each, given {len(several)}: {shortened(value)}.")
    return tuple(ids.single(each) for each in several)


def position_ids(value: object, count: int, where: str = "the layer") -> tuple[int, ...]:
    """Read positions of a layer's flattened space as `concept_ids` reads concepts."""
    return _Ids(count, where, "position", "positions", from_the_end=True).read(value)


@dataclass(frozen=True)
class _Ids:
    """Which ids are allowed, and what they are called in messages."""

    count: int
    where: str
    one: str
    many: str
    from_the_end: bool
    hot: bool = False

    def read(self, value: object) -> tuple[int, ...]:
        if isinstance(value, slice):
            return self._sliced(value)
        several = _several(value)
        if several is None:
            return (self.single(plain_number(value)),)
        if any(isinstance(each, bool) for each in several):
            return self._masked(several)
        if self.hot and self._looks_hot(several):
            return tuple(place for place, each in enumerate(several) if each)
        return tuple(dict.fromkeys(self.single(each) for each in several))

    def _sliced(self, value: slice) -> tuple[int, ...]:
        try:
            found = tuple(range(self.count)[value])
        except (TypeError, ValueError):  # bounds that are not integers, or a step of 0
            found = ()
        if not found:
            raise InputError(f"{value} selects no {self.one}: {self._range()}.")
        return found

    def _masked(self, values: list) -> tuple[int, ...]:
        if not all(isinstance(each, bool) for each in values):
            raise InputError(f"{shortened(values)} mixes booleans and {self.many}: give one or the other.")
        if len(values) != self.count:
            raise InputError(
                f"A mask has one boolean for each {self.one}, given {len(values)} for {self.count}: {self._range()}."
            )
        return tuple(place for place, each in enumerate(values) if each)

    def _looks_hot(self, values: list) -> bool:
        """Return whether these are 0 and 1 for each id. Without a repetition, they are the ids 0 and 1."""
        zeros_and_ones = all(isinstance(each, int) and each in (0, 1) for each in values)
        if not zeros_and_ones or len(values) != self.count or len(values) == len(set(values)):
            return False
        if len(set(values)) == 1:
            raise InputError(
                f"{shortened(values)} may be {self.many} or a mask, because {self.where} has {self.count} {self.many}: "
                f"give each {self.one} once, or booleans."
            )
        return True

    def single(self, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise InputError(f"A {self.one} is a whole number, given {shortened(value)}: {self._range()}.")
        if not (-self.count if self.from_the_end else 0) <= value < self.count:
            raise InputError(f"There is no {self.one} {shortened(value)}: {self._range()}.")
        return value % self.count

    def _range(self) -> str:
        return f"{self.where} has the {self.many} 0 to {self.count - 1}"


def _several(value: object) -> list | None:
    """List the entries of a collection or row of numbers as Python values; None for anything else."""
    array = as_array(value)
    if array is not None:
        if array.ndim and array.size != max(array.shape):
            raise InputError(f"Ids form a single row, given an array of shape {list(array.shape)}.")
        return array.ravel().tolist() if array.ndim else None
    if isinstance(value, set | frozenset):
        return sorted((plain_number(each) for each in value), key=lambda each: (str(type(each)), each))
    if isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping):
        return [plain_number(each) for each in value]
    return None


def plain_number(value: object) -> object:
    """Turn a number of numpy or torch into one of Python; anything else stays as it is."""
    if type(value) is int:  # most are
        return value
    array = as_array(value)
    return value if array is None or array.size != 1 else array.item()


def as_array(value: object) -> np.ndarray | None:
    """Turn an array or tensor into an array of numpy; None for anything else."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        return (value.double() if value.is_floating_point() else value).numpy()  # numpy has no bfloat16
    return np.asarray(value) if hasattr(value, "__array__") else None
