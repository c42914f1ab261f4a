"""Who uses the concepts of a layer, and which concepts are alike: read from what mining stored, nothing computed anew.

Two measures of likeness, because they answer different questions:

- **by classes**: the cosine of two concepts' class profiles, each the concept's mean share in every class that was
  mined. Concepts that the same classes use are alike, whatever they look like.
- **by samples**: how many reference samples (RelMax, of positive score) two concepts have in common. Concepts that
  show up in the same pictures are alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crp.class_names import class_name
from crp.values import ClassShare

from .references import ClassStatistics, References


@dataclass(frozen=True)
class Likeness:
    """Another concept of the layer and how alike it is: a cosine (-1..1), or a number of samples in common."""

    concept: int
    value: float


def class_shares(shares: np.ndarray, names: Sequence[str], limit: int, *, sign: int = 1) -> tuple[ClassShare, ...]:
    """The classes that use a concept most, by its mean share in each class.

    Parameters
    ----------
    shares
        Signed mean shares of one concept, `[classes]`.
    names
        Of the classes; may be empty.
    limit
        How many at most.
    sign
        1: classes it speaks for, the largest share first; -1: those it speaks against, the most negative first.

    Examples
    --------
    >>> [use.name for use in class_shares(np.array([0.1, -0.3, 0.2]), ["ant", "bee", "cat"], 5)]
    ['cat', 'ant']
    """
    order = np.argsort(-sign * shares, kind="stable")[:limit]
    return tuple(
        ClassShare(index, class_name(names, index), shares[index])
        for index in order.tolist()
        if sign * shares[index] > 0
    )


class LayerProfiles:
    """The class profiles and reference samples of all concepts of a layer.

    Parameters
    ----------
    statistics
        What each class makes of every concept of the layer.
    references
        The layer's reference samples by relevance.
    class_names
        May be empty.
    """

    def __init__(self, statistics: ClassStatistics, references: References, class_names: Sequence[str]) -> None:
        self.names = class_names
        self.share = statistics.share
        # A sample without relevance for a concept is among its references only where there are too few others.
        self.samples = np.where(references.score > 0, references.sample, -1)
        length = np.linalg.norm(self.share, axis=0)
        self._unit = self.share / np.where(length > 0, length, 1)

    def users(self, concept: int, limit: int, *, sign: int = 1) -> tuple[ClassShare, ...]:
        """As `class_shares`."""
        return class_shares(self.share[:, concept], self.names, limit, sign=sign)

    def alike_by_classes(self, concept: int, limit: int) -> tuple[Likeness, ...]:
        """Concepts with the largest positive cosine of class profiles, largest first (ties: the smaller id first)."""
        return _largest(self._unit.T @ self._unit[:, concept], concept, limit)

    def alike_by_samples(self, concept: int, limit: int) -> tuple[Likeness, ...]:
        """Concepts with most reference samples in common, most first (ties: the smaller id first)."""
        own = self.samples[concept]
        common = np.isin(self.samples, own[own >= 0]).sum(1)
        return _largest(common.astype(np.float64), concept, limit)


def _largest(values: np.ndarray, concept: int, limit: int) -> tuple[Likeness, ...]:
    order = [int(other) for other in np.argsort(-values, kind="stable") if other != concept]
    return tuple(Likeness(other, float(values[other])) for other in order[:limit] if values[other] > 0)
