"""Which classes use a concept: mean shares by explained class, kept while samples stream by."""

from __future__ import annotations

import numpy as np

from crp.library.references import ClassStatistics


class ClassSums:
    """Sum of each concept's share of relevance over the samples of each explained class.

    Sums are float64, formed within a block and added block by block, so that equal blocks in equal order give equal
    bytes.

    Parameters
    ----------
    classes
        Number of the model's outputs.
    concepts
        Number of the layer's concepts `C`.
    """

    def __init__(self, classes: int, concepts: int):
        self._sums = np.zeros((classes, concepts))
        self._counts = np.zeros(classes, dtype=np.int64)

    def add(self, targets: np.ndarray, shares: np.ndarray) -> None:
        """Add one block: explained classes int64 `[N]`, shares float64 `[N, C]`."""
        present, place, counts = np.unique(targets, return_inverse=True, return_counts=True)
        block = np.zeros((len(present), shares.shape[1]))
        np.add.at(block, place, shares)
        self._sums[present] += block
        self._counts[present] += counts

    def result(self) -> ClassStatistics:
        """Mean share `[classes, C]` (zero for classes without samples) and number of samples `[classes]`."""
        return ClassStatistics(share=self._sums / np.maximum(self._counts, 1)[:, None], count=self._counts.copy())
