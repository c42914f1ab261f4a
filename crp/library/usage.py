"""Which classes use which concepts, as rows to read: a class's concepts and a concept's classes, the largest first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crp.class_names import class_name
from crp.errors import InputError, nearest

from .references import ClassStatistics

# What rows may be ordered by.
ORDERS = ("share", "activation", "frequency")


@dataclass(frozen=True)
class ConceptUse:
    """What one class makes of one concept, over the samples that were explained for the class.

    Attributes
    ----------
    target, target_name
        The class; its name is `class 3` where the library has no names.
    concept
        Id of the concept.
    share, share_variance
        Mean and variance of its signed share in the layer's relevance.
    activation, activation_variance
        Mean and variance of its activation score.
    frequency
        On which part of the samples it was among the leading concepts (the library's `top`), 0 to 1.
    samples
        Number of the samples.
    """

    target: int
    target_name: str
    concept: int
    share: float
    share_variance: float
    activation: float
    activation_variance: float
    frequency: float
    samples: int


def uses(
    statistics: ClassStatistics, names: tuple[str, ...], pairs: list[tuple[int, int]], order: str, count: int | None
) -> tuple[ConceptUse, ...]:
    """Rows for some pairs of class and concept, the largest first; equal ones by class and concept.

    Raises
    ------
    InputError
        If there is no such order, or the count is below one.
    """
    if order not in ORDERS:
        raise InputError(f"There is no order {order!r}: {nearest(str(order), ORDERS)}")
    if count is not None and count < 1:
        raise InputError(f"count is {count}; at least 1 row must be asked for.")
    rows = [
        ConceptUse(
            target=target,
            target_name=class_name(names, target),
            concept=concept,
            share=float(statistics.share[target, concept]),
            share_variance=float(statistics.share_variance[target, concept]),
            activation=float(statistics.activation[target, concept]),
            activation_variance=float(statistics.activation_variance[target, concept]),
            frequency=float(statistics.among_top[target, concept] / np.maximum(statistics.count[target], 1)),
            samples=int(statistics.count[target]),
        )
        for target, concept in pairs
    ]
    return tuple(sorted(rows, key=lambda row: (-getattr(row, order), row.target, row.concept))[:count])
