"""Class statistics as sorted rows: the concepts of a class and the classes of a concept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crp.arguments import whole_number
from crp.class_names import class_name
from crp.errors import InputError, nearest

from .references import ClassStatistics

# Sort keys.
ORDERS = ("share", "activation", "frequency")


@dataclass(frozen=True)
class ConceptUse:
    """How much one class uses one concept, over the samples that were explained for the class.

    Attributes
    ----------
    target, target_name
        The class; its name is `class 3` if the library has no names.
    concept
        Id of the concept.
    share, share_variance
        Mean and variance of its signed share in the layer's relevance.
    activation, activation_variance
        Mean and variance of its activation score.
    frequency
        Fraction of the samples on which it was among the leading concepts (`settings.top`), 0 to 1.
    samples
        Number of samples.
    concept_name
        Name of the concept; empty if it has only its number.
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
    concept_name: str = ""


def uses(
    statistics: ClassStatistics,
    names: tuple[str, ...],
    concept_names: tuple[str, ...],
    pairs: list[tuple[int, int]],
    order: str,
    count: int | None,
) -> tuple[ConceptUse, ...]:
    """Make the rows for some pairs of class and concept, in descending order; ties are sorted by class and concept.

    Raises
    ------
    InputError
        If there is no such order, or the count is below one.
    """
    if order not in ORDERS:
        raise InputError(f"There is no order {order!r}: {nearest(str(order), ORDERS)}")
    count = None if count is None else whole_number("count", count, 1)
    rows = [
        ConceptUse(
            target=target,
            target_name=class_name(names, target, len(statistics.count)),
            concept=concept,
            share=float(statistics.share[target, concept]),
            share_variance=float(statistics.share_variance[target, concept]),
            activation=float(statistics.activation[target, concept]),
            activation_variance=float(statistics.activation_variance[target, concept]),
            frequency=float(statistics.among_top[target, concept] / np.maximum(statistics.count[target], 1)),
            samples=int(statistics.count[target]),
            concept_name=concept_names[concept] if concept_names else "",
        )
        for target, concept in pairs
    ]
    return tuple(sorted(rows, key=lambda row: (-getattr(row, order), row.target, row.concept))[:count])
