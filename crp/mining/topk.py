"""The k best samples of every concept, of all samples and of each class, kept while samples stream by."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from crp.errors import SampleError
from crp.library.references import References

_FIELDS = ("sample", "score", "target", "position")
# What stands in a place that was never filled.
_NOTHING = (-1, np.float32(-np.inf), -1, 0)


def ranking(sample: np.ndarray, score: np.ndarray, k: int) -> np.ndarray:
    """Places of the `k` largest scores in each row, equal ones by sample index: two of `[C, n]` -> int64 `[C, k]`.

    Scores are float32, sample indices -1 (the last of equals) to `2**32 - 2`. Both go into one whole number, score
    first, which numpy sorts in half the time that sorting by two keys takes.
    """
    # + 0 makes 0 of -0; the bits of floats, but for the sign, are in the order of their absolute values
    bits = (score + np.float32(0)).view(np.int32)
    ascending = np.where(bits < 0, bits ^ np.int32(2**31 - 1), bits).astype(np.int64)
    keys = (-1 - ascending) << 32 | sample & 0xFFFFFFFF
    return np.argsort(keys, axis=-1)[:, :k]


def check_finite(samples: np.ndarray, scores: np.ndarray) -> None:
    """Refuse a sample, of indices `[N]`, with a score in `[N, C]` that is not finite as float32; the first one.

    Raises
    ------
    SampleError
    """
    scores = scores.astype(np.float32, copy=False)
    if not np.isfinite(scores).all():
        row, concept = np.argwhere(~np.isfinite(scores))[0]
        raise SampleError(
            int(samples[row]),
            f"scores {scores[row, concept]} for concept {concept}, no finite number: the model overflows on it.",
        )


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

    def add(
        self,
        samples: np.ndarray,
        scores: np.ndarray,
        targets: np.ndarray,
        positions: np.ndarray,
        among: np.ndarray | None = None,
    ) -> None:
        """Merge one block.

        Parameters
        ----------
        samples
            Indices in the data set, int64 `[N]`, none of which was added before.
        scores
            `[N, C]`, finite (see `check_finite`); kept, and compared, as float32.
        targets
            Class explained for each sample, int64 `[N]`; `[N, C]` where concepts differ in it.
        positions
            Flat position of each concept in each sample, int64 `[N, C]`.
        among
            Which scores compete, bool `[N, C]`; by default all.
        """
        scores = scores.astype(np.float32, copy=False)
        targets = targets if targets.ndim == 2 else targets[:, None]
        candidates = (samples[:, None], scores, targets, positions)
        if among is not None:
            candidates = (np.where(among, part, nothing) for part, nothing in zip(candidates, _NOTHING, strict=True))
        self._keep(*(np.broadcast_to(part, scores.shape).T for part in candidates))

    def arrays(self) -> dict[str, np.ndarray]:
        """All that is needed to go on from here."""
        return {name: getattr(self.best, name) for name in _FIELDS}

    def merge(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take in the best of other samples, as another one's `arrays` hold them."""
        self._keep(*(arrays[name] for name in _FIELDS))

    def _keep(self, *candidates: np.ndarray) -> None:
        """Keep the best of those so far and of candidates `[C, n]`: sample, score, target, position."""
        best = self.best
        _, competing, *_ = candidates
        # after some samples most concepts see none that comes near their last one
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
        # one table of the best, one of the second best, ...: a sample goes down them and stays where it is better
        shape = k, classes, concepts
        self._best = {
            "sample": np.full(shape, -1, dtype=np.int64),
            "score": np.full(shape, -np.inf, dtype=np.float32),
            "position": np.zeros(shape, dtype=np.int64),
        }

    @property
    def best(self) -> dict[str, np.ndarray]:
        """`sample`, `score` and `position` `[classes, C, k]`, best first; places never filled as in `TopK`."""
        return {name: np.moveaxis(table, 0, 2) for name, table in self._best.items()}

    def add(
        self,
        samples: np.ndarray,
        scores: np.ndarray,
        targets: np.ndarray,
        positions: np.ndarray,
        among: np.ndarray | None = None,
    ) -> None:
        """Merge one block; arguments as in `TopK.add`."""
        scores = scores.astype(np.float32, copy=False)
        if among is not None:
            scores = np.where(among, scores, -np.inf)
        turns = _turns(targets)
        for turn in range(turns.max(initial=-1) + 1):
            # one sample of each class at a time, so that no place is written twice
            rows = np.flatnonzero(turns == turn)
            new = {"sample": samples[rows, None], "score": scores[rows], "position": positions[rows]}
            self._insert(targets[rows], new)

    def arrays(self) -> dict[str, np.ndarray]:
        """All that is needed to go on from here."""
        return dict(self._best)

    def merge(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take in the best of other samples, as another one's `arrays` hold them."""
        everywhere = slice(None)
        for place in range(len(arrays["sample"])):
            self._insert(everywhere, {name: table[place] for name, table in arrays.items()})

    def _insert(self, targets: np.ndarray | slice, new: dict[str, np.ndarray]) -> None:
        """Let one sample of each of some classes compete, `[m, C]` or `[m, 1]`."""
        for place in range(len(self._best["sample"])):
            kept = {name: table[place][targets] for name, table in self._best.items()}
            better = new["score"] > kept["score"]
            better |= (new["score"] == kept["score"]) & (new["sample"] < kept["sample"])
            if better.any():
                # what was there goes on to the next table
                beaten = {name: np.where(better, kept[name], new[name]) for name in new}
                for name, table in self._best.items():
                    table[place][targets] = np.where(better, new[name], kept[name])
                new = beaten


def _turns(targets: np.ndarray) -> np.ndarray:
    """How many of the same value came before: [3, 5, 3, 3] -> [0, 0, 1, 2]."""
    order = np.argsort(targets, kind="stable")
    _, first, count = np.unique(targets[order], return_index=True, return_counts=True)
    turns = np.empty(len(targets), dtype=np.int64)
    turns[order] = np.arange(len(targets)) - np.repeat(first, count)
    return turns
