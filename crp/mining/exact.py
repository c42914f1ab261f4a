"""Sums that depend on what was added, not on the order or the grouping: the same bytes from any number of processes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# A digit holds 32 bits, so an int64 has room for 2**32 of them.
_BITS = 32
_WORDS = 2
# Below the smallest float64: the place of a column that has seen nothing but zeros.
_NOWHERE = -40


class ExactSums:
    """A table of sums, each kept as whole numbers: `sum = digits[0] * 2**(32 * top) + digits[1] * 2**(32 * (top - 1))`.

    A value is split at absolute powers of two, so adding is adding whole numbers, which no order changes. Each column
    keeps the two digits that its largest value so far needs; what is smaller than `2**-32` of that value (in the worst
    case, else down to `2**-63`) is rounded, value by value. After Demmel and Nguyen, "Parallel reproducible summation",
    IEEE Transactions on Computers 2015, with whole numbers in place of floats.

    Parameters
    ----------
    rows, columns
        Size of the table. It may take `2**32` values a sum.
    """

    def __init__(self, rows: int, columns: int):
        self.digits = np.zeros((_WORDS, rows, columns), dtype=np.int64)
        self.top = np.full(columns, _NOWHERE, dtype=np.int64)

    def add(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Add values float64 `[N, columns]`, finite, to the given rows, ints `[N]`."""
        largest = np.abs(values).max(axis=0, initial=0)
        exponents = np.where(largest > 0, np.frexp(largest)[1], _NOWHERE * _BITS)
        # The smallest place at which the first digit is less than 2**31. Higher ones would split a value alike.
        self._raise(-((_BITS - 1 - exponents) // _BITS))
        present, joined = join_rows(rows)
        rest = values
        for place, digits in enumerate(self.digits):
            shift = _BITS * (self.top - place)
            split = np.rint(_scaled(rest, -shift))
            rest = rest - _scaled(split, shift)  # exact
            digits[present] += joined(split.astype(np.int64))

    def merge(self, digits: np.ndarray, top: np.ndarray) -> None:
        """Add the sums of another table of this size."""
        other = ExactSums(*digits.shape[1:])
        other.digits, other.top = digits.copy(), top.copy()
        self._raise(other.top)
        other._raise(self.top)
        self.digits += other.digits

    def result(self, rows: np.ndarray) -> np.ndarray:
        """The sums of the given rows, float64 `[len(rows), columns]`."""
        return sum(_scaled(self.digits[place, rows].astype(np.float64), _BITS * (self.top - place)) for place in (1, 0))

    def _raise(self, top: np.ndarray) -> None:
        """Move columns up to where larger values need them; digits that fall out at the lower end are dropped."""
        # a column of zeros has no digits to move
        steps = np.where(self.top == _NOWHERE, 0, top - self.top)
        for _ in range(_WORDS):
            higher = np.flatnonzero(steps > 0)
            if len(higher):
                self.digits[1:, :, higher] = self.digits[:-1, :, higher]
                self.digits[0, :, higher] = 0
                steps[higher] -= 1
        self.top = np.maximum(self.top, top)


def join_rows(rows: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Rows `[m]`, sorted, of `[N]` that may repeat, and what sums values `[N, ...]` over equal ones to `[m, ...]`."""
    order = np.argsort(rows, kind="stable")
    present, first = np.unique(rows[order], return_index=True)
    if len(present) == len(rows):
        return present, lambda values: values[order]
    return present, lambda values: np.add.reduceat(values[order], first, axis=0)


def _scaled(values: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    """`values * 2**exponents`, exactly; `np.ldexp` takes twice as long, and one factor alone may not be a float64."""
    half = exponents // 2
    return values * np.ldexp(1.0, half) * np.ldexp(1.0, exponents - half)
