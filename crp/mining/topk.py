"""The k best samples of every concept, overall and for each class, updated block by block."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from crp.errors import SampleError
from crp.library.references import References

_FIELDS = ("sample", "score", "target", "position")
# Values of an empty place.
_NOTHING = (-1, np.float32(-np.inf), -1, 0)


def ranking(sample: np.ndarray, score: np.ndarray, k: int) -> np.ndarray:
    """Sort by score, then by sample, and return the first `k` places: two of `[C, n]` -> int64 `[C, k]`.

    Scores are float32, sample indices -1 (last among equal scores) to `2**32 - 2`. Both are packed into one integer
    sort key, score first; numpy sorts it twice as fast as two keys.
    """
    # + 0 turns -0 into 0; apart from the sign, the bits of floats are in the order of their absolute values
    bits = (score + np.float32(0)).view(np.int32)
    ascending = np.where(bits < 0, bits ^ np.int32(2**31 - 1), bits).astype(np.int64)
    keys = (-1 - ascending) << 32 | sample & 0xFFFFFFFF
    return np.argsort(keys, axis=-1)[:, :k]


def check_finite(samples: np.ndarray, scores: np.ndarray) -> None:
    """Raise an error for the first sample, of indices `[N]`, that has a non-finite float32 score in `[N, C]`.

    Raises
    ------
    SampleError
    """
    scores = scores.astype(np.float32, copy=False)
    if not np.isfinite(scores).all():
        row, concept = np.argwhere(~np.isfinite(scores))[0]
        raise SampleError(
            int(samples[row]),
            f"has the score {scores[row, concept]} for concept {concept}, which is not finite: the model overflows.",
        )


class TopK:
    """The `k` largest scores of each of `C` concepts among all samples so far.

    Equal scores are ordered by sample index, so the result does not depend on the order or the size of blocks. Memory
    is `O(C * k)`.

    Parameters
    ----------
    concepts
        Number of concepts `C`.
    k
        How many samples to keep for each. Empty places hold sample -1, score -inf, target -1, position 0.
    """

    def __init__(self, concepts: int, k: int):
        self.best = References(
            sample=np.full((concepts, k), -1, dtype=np.int64),
            score=np.full((concepts, k), -np.inf, dtype=np.float32),
            target=np.full((concepts, k), -1, dtype=np.int64),
            position=np.zeros((concepts, k), dtype=np.int64),
        )

    def add(
        self,
        samples: np.ndarray,
        scores: np.ndarray,
        targets: np.ndarray,
        positions: np.ndarray,
        among: np.ndarray | None = None,
    ) -> None:
        """Add one block.

        Parameters
        ----------
        samples
            Indices in the data set, int64 `[N]`, none of which was added before.
        scores
            `[N, C]`, finite (see `check_finite`); stored and compared as float32.
        targets
            Explained class of each sample, int64 `[N]`; `[N, C]` if it differs between concepts.
        positions
            Flat position of each concept in each sample, int64 `[N, C]`.
        among
            Which scores are candidates, bool `[N, C]`; by default all.
        """
        scores = scores.astype(np.float32, copy=False)
        targets = targets if targets.ndim == 2 else targets[:, None]
        candidates = (samples[:, None], scores, targets, positions)
        if among is not None:
            candidates = (np.where(among, part, nothing) for part, nothing in zip(candidates, _NOTHING, strict=True))
        self._keep(*(np.broadcast_to(part, scores.shape).T for part in candidates))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the whole state."""
        return {name: getattr(self.best, name) for name in _FIELDS}

    def merge(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Add the best of other samples, given by the `arrays` of their table."""
        self._keep(*(arrays[name] for name in _FIELDS))

    def _keep(self, *candidates: np.ndarray) -> None:
        """Keep the best of the current entries and of candidates `[C, n]`: sample, score, target, position."""
        best = self.best
        _, competing, *_ = candidates
        # after some blocks, most concepts have no candidate that is good enough
        rows = np.flatnonzero((competing >= best.score[:, -1:]).any(axis=1))
        merged = [
            np.concatenate([getattr(best, name)[rows], values[rows]], axis=1)
            for name, values in zip(_FIELDS, candidates, strict=True)
        ]
        sample, score, *_ = merged
        order = ranking(sample, score, best.sample.shape[1])
        places = order + np.arange(len(sample))[:, None] * sample.shape[1]
        for name, values in zip(_FIELDS, merged, strict=True):
            getattr(best, name)[rows] = values.take(places)


class ClassTopK:
    """The `k` largest scores of each of `C` concepts among the samples explained for each class.

    Ordered as in `TopK`. Memory is `classes * C * k` times 20 bytes.

    Parameters
    ----------
    classes
        Number of the model's outputs.
    concepts
        Number of concepts `C`.
    k
        How many samples to keep for each class and concept.
    """

    def __init__(self, classes: int, concepts: int, k: int):
        # one table of the best, one of the second best, ...; a sample is inserted where it beats the entry
        shape = k, classes, concepts
        self._best = {
            "sample": np.full(shape, -1, dtype=np.int64),
            "score": np.full(shape, -np.inf, dtype=np.float32),
            "position": np.zeros(shape, dtype=np.int64),
        }

    @property
    def best(self) -> dict[str, np.ndarray]:
        """`sample`, `score` and `position` `[classes, C, k]`, best first; empty places as in `TopK`."""
        return {name: np.moveaxis(table, 0, 2) for name, table in self._best.items()}

    def add(
        self,
        samples: np.ndarray,
        scores: np.ndarray,
        targets: np.ndarray,
        positions: np.ndarray,
        among: np.ndarray | None = None,
    ) -> None:
        """Add one block; arguments as in `TopK.add`."""
        scores = scores.astype(np.float32, copy=False)
        if among is not None:
            scores = np.where(among, scores, -np.inf)
        turns = _turns(targets)
        for turn in range(turns.max(initial=-1) + 1):
            # one sample of each class at a time, so that no entry is written twice
            rows = np.flatnonzero(turns == turn)
            new = {"sample": samples[rows, None], "score": scores[rows], "position": positions[rows]}
            self._insert(targets[rows], new)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the whole state."""
        return dict(self._best)

    def merge(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Add the best of other samples, given by the `arrays` of their table."""
        everywhere = slice(None)
        for place in range(len(arrays["sample"])):
            self._insert(everywhere, {name: table[place] for name, table in arrays.items()})

    def _insert(self, targets: np.ndarray | slice, new: dict[str, np.ndarray]) -> None:
        """Insert one sample for each of `m` classes where it beats an entry; values `[m, C]` or `[m, 1]`."""
        for place in range(len(self._best["sample"])):
            kept = {name: table[place][targets] for name, table in self._best.items()}
            better = new["score"] > kept["score"]
            better |= (new["score"] == kept["score"]) & (new["sample"] < kept["sample"])
            if better.any():
                # the beaten entry moves on to the next table
                beaten = {name: np.where(better, kept[name], new[name]) for name in new}
                for name, table in self._best.items():
                    table[place][targets] = np.where(better, new[name], kept[name])
                new = beaten


def _turns(targets: np.ndarray) -> np.ndarray:
    """Count earlier occurrences of each value: [3, 5, 3, 3] -> [0, 0, 1, 2]."""
    order = np.argsort(targets, kind="stable")
    _, first, count = np.unique(targets[order], return_index=True, return_counts=True)
    turns = np.empty(len(targets), dtype=np.int64)
    turns[order] = np.arange(len(targets)) - np.repeat(first, count)
    return turns
