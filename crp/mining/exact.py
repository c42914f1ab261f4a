"""Sums that do not depend on order or grouping: any number of processes computes the same bytes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# A digit has 32 bits, so an int64 can hold the sum of 2**32 digits.
_BITS = 32
_WORDS = 2
# Below the smallest float64: the exponent of a column that contains only zeros.
_NOWHERE = -40


class ExactSums:
    """A table of sums, stored as integers: `sum = digits[0] * 2**(32 * top) + digits[1] * 2**(32 * (top - 1))`.

    Values are split at fixed powers of two, so that only integers are added, and their order does not matter. Each
    column keeps the two digits that its largest value so far needs. Anything smaller than `2**-32` of that value (in
    the worst case; `2**-63` in the best) is rounded, separately for each value. After Demmel and Nguyen, "Parallel
    reproducible summation", IEEE Transactions on Computers 2015, with integers instead of floats.

    Parameters
    ----------
    rows, columns
        Size of the table. A sum can take up to `2**32` values.
    """

    def __init__(self, rows: int, columns: int):
        self.digits = np.zeros((_WORDS, rows, columns), dtype=np.int64)
        self.top = np.full(columns, _NOWHERE, dtype=np.int64)

    def add(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Add finite values, float64 `[N, columns]`, to the given rows, ints `[N]`."""
        largest = np.abs(values).max(axis=0, initial=0)
        exponents = np.where(largest > 0, np.frexp(largest)[1], _NOWHERE * _BITS)
        # The smallest place at which the first digit is below 2**31. Higher places would split a value the same way.
        self._raise(-((_BITS - 1 - exponents) // _BITS))
        present, joined = join_rows(rows)
        rest = values
        for place, digits in enumerate(self.digits):
            shift = _BITS * (self.top - place)
            split = np.rint(_scaled(rest, -shift))
            rest = rest - _scaled(split, shift)  # exact
            digits[present] += joined(split.astype(np.int64))

    def merge(self, digits: np.ndarray, top: np.ndarray) -> None:
        """Add the sums of another table of the same size."""
        other = ExactSums(*digits.shape[1:])
        other.digits, other.top = digits.copy(), top.copy()
        self._raise(other.top)
        other._raise(self.top)
        self.digits += other.digits

    def result(self, rows: np.ndarray) -> np.ndarray:
        """Return the sums of the given rows, float64 `[len(rows), columns]`."""
        return sum(_scaled(self.digits[place, rows].astype(np.float64), _BITS * (self.top - place)) for place in (1, 0))

    def _raise(self, top: np.ndarray) -> None:
        """Move columns to the places that larger values need; digits below the lowest place are dropped."""
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
    """Find the distinct rows `[m]`, sorted, and a function summing values `[N, ...]` of equal rows into `[m, ...]`."""
    order = np.argsort(rows, kind="stable")
    present, first = np.unique(rows[order], return_index=True)
    if len(present) == len(rows):
        return present, lambda values: values[order]
    return present, lambda values: np.add.reduceat(values[order], first, axis=0)


def _scaled(values: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    """Compute `values * 2**exponents` exactly.

    `np.ldexp` takes twice as long. A single factor could exceed the range of float64.
    """
    half = exponents // 2
    return values * np.ldexp(1.0, half) * np.ldexp(1.0, exponents - half)
