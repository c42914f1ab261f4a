"""The k best samples of every concept, kept while samples stream by."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from crp.errors import SampleError
from crp.library.references import References

_FIELDS = ("sample", "score", "target", "position")


def ranking(sample: np.ndarray, score: np.ndarray, k: int) -> np.ndarray:
    """Places of the `k` largest scores in each row, equal ones by sample index: two of `[C, n]` -> int64 `[C, k]`."""
    return np.lexsort((sample, -score), axis=-1)[:, :k]


class TopK:
    """The `k` largest scores of each of `C` concepts among all samples seen so far.

    Equal scores are ordered by sample index, so that the result depends neither on the order of the blocks nor on
    how many samples a block holds. Memory is `O(C * k)`.

    Parameters
    ----------
    concepts
        Number of concepts `C`.
    k
        How many samples to keep for each. Places never filled hold sample -1, score -inf, target -1, position 0.
    """

    def __init__(self, concepts: int, k: int):
        self.best = References(
            sample=np.full((concepts, k), -1, dtype=np.int64),
            score=np.full((concepts, k), -np.inf, dtype=np.float32),
            target=np.full((concepts, k), -1, dtype=np.int64),
            position=np.zeros((concepts, k), dtype=np.int64),
        )

    def add(self, samples: np.ndarray, scores: np.ndarray, targets: np.ndarray, positions: np.ndarray) -> None:
        """Merge one block.

        Parameters
        ----------
        samples
            Indices in the data set, int64 `[N]`, none of which was added before.
        scores
            `[N, C]`, finite; kept, and compared, as float32.
        targets
            Class explained for each sample, int64 `[N]`; `[N, C]` where concepts differ in it.
        positions
            Flat position of each concept in each sample, int64 `[N, C]`.

        Raises
        ------
        SampleError
            If a score is NaN or infinite; names the first such sample. Nothing is merged then.
        """
        scores = scores.astype(np.float32, copy=False)
        if not np.isfinite(scores).all():
            row, concept = np.argwhere(~np.isfinite(scores))[0]
            raise SampleError(
                f"Sample {samples[row]} scores {scores[row, concept]} for concept {concept}, no finite number: "
                "the model overflows on it."
            )
        self._keep(
            np.broadcast_to(samples[:, None], scores.shape).T,
            scores.T,
            np.broadcast_to(targets.reshape(len(samples), -1) if len(samples) else targets, scores.shape).T,
            positions.T,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """All that is needed to go on from here."""
        return {name: getattr(self.best, name) for name in _FIELDS}

    def merge(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take in the best of other samples, as another one's `arrays` hold them."""
        self._keep(*(arrays[name] for name in _FIELDS))

    def _keep(self, *candidates: np.ndarray) -> None:
        """Keep the best of those so far and of candidates `[C, n]`: sample, score, target, position."""
        best = self.best
        merged = [
            np.concatenate([getattr(best, name), values], axis=1)
            for name, values in zip(_FIELDS, candidates, strict=True)
        ]
        sample, score, *_ = merged
        order = ranking(sample, score, best.sample.shape[1])
        self.best = References(*(np.take_along_axis(values, order, axis=1) for values in merged))
