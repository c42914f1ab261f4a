"""Which classes use the concepts of a layer, and which concepts are similar; read from a library without a model.

There are two measures of similarity, for different questions:

- **by classes**: the cosine of two concepts' class profiles. A profile is the concept's mean share in every class, so
  concepts that the same classes use are similar, whatever they look like.
- **by samples**: the number of reference samples (RelMax, with a positive score) that two concepts share, so concepts
  that occur in the same pictures are similar.

Neither lists concepts whose shares are printed as 0.0 %: rounding errors have a direction and an order, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crp.arguments import whole_number
from crp.class_names import class_name
from crp.indices import concept_id
from crp.relevance_shares import LEAST_SHARE
from crp.values import ClassShare

from .references import ClassStatistics, References

# A class counts as if so many samples without relevance for the concept had been added to its own.
_PRIOR_SAMPLES = 5


@dataclass(frozen=True)
class Likeness:
    """Another concept of the layer and its similarity: a cosine (-1..1), or the number of shared samples."""

    concept: int
    value: float


def class_shares(
    statistics: ClassStatistics, concept: int, names: Sequence[str], limit: int, *, sign: int = 1
) -> tuple[ClassShare, ...]:
    """Rank the classes that use a concept.

    Parameters
    ----------
    statistics
        Of the concept's layer.
    concept
        Id of the concept.
    names
        Names of the classes; may be empty.
    limit
        Largest number of classes.
    sign
        1 for classes that it supports, -1 for those that it opposes.

    Returns
    -------
    tuple of ClassShare
        Ordered by the mean share shrunk towards zero, `share * n / (n + 5)` for a class of `n` samples: a class with
        one lucky sample does not lead. `ClassShare.share` itself is not shrunk.

    Examples
    --------
    >>> one, none = np.array([[0.4], [0.3]]), np.zeros((2, 1))
    >>> statistics = ClassStatistics(one, none, none, none, none, np.array([1, 20]))
    >>> [(use.name, use.share, use.samples) for use in class_shares(statistics, 0, ["ant", "bee"], 5)]
    [('bee', 0.3, 20), ('ant', 0.4, 1)]
    """
    share, variance, count = statistics.share[:, concept], statistics.share_variance[:, concept], statistics.count
    shrunk = sign * share * count / (count + _PRIOR_SAMPLES)
    return tuple(
        ClassShare(
            index,
            class_name(names, index, len(count)),
            share[index],
            samples=count[index],
            spread=variance[index] ** 0.5 if count[index] > 1 else None,
        )
        for index in np.argsort(-shrunk, kind="stable")[:limit].tolist()
        if shrunk[index] > 0
    )


class LayerProfiles:
    """The class profiles and reference samples of all concepts of a layer.

    Parameters
    ----------
    statistics
        How much each class uses every concept of the layer.
    references
        The layer's reference samples by relevance.
    class_names
        May be empty.

    Attributes
    ----------
    used
        Whether the concept has a mean share of at least `LEAST_SHARE` in some class, for or against it, bool `[C]`.
    """

    def __init__(self, statistics: ClassStatistics, references: References, class_names: Sequence[str]) -> None:
        self.names = class_names
        self.share = statistics.share
        self._statistics = statistics
        # A sample without relevance for a concept is a reference only if there are too few others.
        self.samples = np.where(references.score > 0, references.sample, -1)
        self.used = (np.abs(self.share) >= LEAST_SHARE).any(axis=0)
        # A mean may be 0 because samples for and against cancel out; the mean square is not.
        self._occurs = (self.share**2 + statistics.share_variance >= LEAST_SHARE**2).any(axis=0)
        length = np.linalg.norm(self.share, axis=0)
        self._unit = self.share / np.where(length > 0, length, 1)

    def users(self, concept: int, limit: int, *, sign: int = 1) -> tuple[ClassShare, ...]:
        """Rank the classes that use a concept, as `class_shares`."""
        return class_shares(self._statistics, self._id(concept), self.names, whole_number("limit", limit, 0), sign=sign)

    def alike_by_classes(self, concept: int, limit: int) -> tuple[Likeness, ...]:
        """List the concepts with a positive cosine of class profiles, largest first (ties: the smaller id first).

        Of a concept that no class uses, nothing is listed, and it is listed for none.
        """
        concept = self._id(concept)
        return _largest(self._unit.T @ self._unit[:, concept], concept, limit, self.used)

    def alike_by_samples(self, concept: int, limit: int) -> tuple[Likeness, ...]:
        """List the concepts that share reference samples, the most first (ties: the smaller id first).

        Of a concept that no sample uses, nothing is listed, and it is listed for none.
        """
        concept = self._id(concept)
        own = self.samples[concept]
        common = np.isin(self.samples, own[own >= 0]).sum(1)
        return _largest(common.astype(np.float64), concept, limit, self._occurs)

    def _id(self, concept: int) -> int:
        return concept_id(concept, self.share.shape[1])


def _largest(values: np.ndarray, concept: int, limit: int, counts: np.ndarray) -> tuple[Likeness, ...]:
    """List the concepts with the largest values among those that count; none if `concept` does not count."""
    limit = whole_number("limit", limit, 0)
    if not counts[concept]:
        return ()
    order = [int(other) for other in np.argsort(-values, kind="stable") if counts[other] and other != concept]
    return tuple(Likeness(other, float(values[other])) for other in order[:limit] if values[other] > 0)
