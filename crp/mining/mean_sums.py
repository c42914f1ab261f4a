"""Sums over all samples that the mean parts of a layer's concepts are made of, updated block by block."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from crp.values import ConceptMeans

from .exact import ExactSums

_ROW = np.zeros(1, dtype=np.int64)


class MeanSums:
    """Exact sums over blocks of samples.

    Parameters
    ----------
    count
        Of how many numbers of each sample there are sums (`crp.concepts.mean_count`).
    """

    def __init__(self, count: int):
        self._samples = np.zeros(1, dtype=np.int64)
        self._sums = ExactSums(1, count)

    def add(self, averages: np.ndarray) -> None:
        """Add the samples of one block, `[N, m]`.

        Blocks are the same however a data set is divided, so that the sum within a block may be rounded.
        """
        self._samples += len(averages)
        self._sums.add(_ROW, averages.sum(axis=0, dtype=np.float64, keepdims=True))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the whole state."""
        return {"samples": self._samples, "digits": self._sums.digits, "top": self._sums.top}

    def merge(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Add the samples of other sums, given by their `arrays`."""
        self._samples += arrays["samples"]
        self._sums.merge(arrays["digits"], arrays["top"])

    def result(self) -> ConceptMeans:
        """Compute the means; zero without samples."""
        samples = int(self._samples[0])
        return ConceptMeans(self._sums.result(_ROW)[0] / max(samples, 1), samples)
