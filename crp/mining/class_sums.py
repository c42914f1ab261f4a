"""Statistics of every concept by class, over all samples explained for the class, updated block by block."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from crp.library.references import ClassStatistics

from .exact import ExactSums, join_rows

# How many concepts of a sample count as leading, by default.
LEADING = 10

_SUMMED = ("share", "share_squared", "activation", "activation_squared")


class ClassSums:
    """Sums over the samples of each explained class, for every concept of a layer.

    Parameters
    ----------
    classes
        Number of the model's outputs.
    concepts
        Number of the layer's concepts `C`.
    top
        A concept is counted for a sample if its share is positive and among this many largest ones of the layer.
    """

    def __init__(self, classes: int, concepts: int, top: int):
        self._top = min(top, concepts)
        self._count = np.zeros(classes, dtype=np.int64)
        self._among_top = np.zeros((classes, concepts), dtype=np.int64)
        self._sums = {name: ExactSums(classes, concepts) for name in _SUMMED}

    def add(self, targets: np.ndarray, shares: np.ndarray, activations: np.ndarray) -> None:
        """Add one block: explained classes int64 `[N]`, shares and activation scores float64 `[N, C]`."""
        present, joined = join_rows(targets)
        self._count[present] += joined(np.ones_like(targets))
        self._among_top[present] += joined((leading(shares, self._top) & (shares > 0)).astype(np.int64))
        for name, values in (("share", shares), ("activation", activations)):
            self._sums[name].add(targets, values)
            self._sums[f"{name}_squared"].add(targets, values**2)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the whole state."""
        arrays = {"count": self._count, "among_top": self._among_top}
        for name, sums in self._sums.items():
            arrays |= {f"{name}.digits": sums.digits, f"{name}.top": sums.top}
        return arrays

    def merge(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Add the samples of another table, given by its `arrays`."""
        self._count += arrays["count"]
        self._among_top += arrays["among_top"]
        for name, sums in self._sums.items():
            sums.merge(arrays[f"{name}.digits"], arrays[f"{name}.top"])

    def result(self) -> ClassStatistics:
        """Compute means, variances and frequencies; zero for classes without samples."""
        seen = np.flatnonzero(self._count)
        tables = {}
        for name in ("share", "activation"):
            mean, mean_square = (
                sums.result(seen) / self._count[seen, None]
                for sums in (self._sums[name], self._sums[f"{name}_squared"])
            )
            tables |= {name: mean, f"{name}_variance": np.maximum(mean_square - mean**2, 0)}
        for name, of_seen in tables.items():
            tables[name] = np.zeros(self._among_top.shape)
            tables[name][seen] = of_seen
        return ClassStatistics(**tables, among_top=self._among_top.copy(), count=self._count.copy())


def leading(shares: np.ndarray, count: int) -> np.ndarray:
    """Mark the `count` largest shares of each sample, the first of equal ones: `[N, C]` -> bool `[N, C]`."""
    least = -np.partition(-shares, count - 1, axis=1)[:, count - 1, None]
    above, equal = shares > least, shares == least
    return above | equal & (equal.cumsum(1) <= count - above.sum(1, keepdims=True))
