"""The interface of a kind of concept.

========================  ===================================================================================
`size(shape)`             how many concepts an output of that shape holds
`masked(relevance, ids)`  keeps the relevance of the chosen concepts of each condition
`at_positions(...)`       keeps one position of one concept for each sample
`total(values)`           one number per concept: the sum over its part
`peak(values)`            the largest signed value of each concept, and its position
`trough(values)`          the smallest one; optional: by default, the peak of the negated values
========================  ===================================================================================

Axes: `N` samples, `K` conditions, `C` channels, `*S` space (none for a linear layer).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class ConceptKind(Protocol):
    """Interface of a kind of concept, used by mining, explanation and attribution; see the table above."""

    def size(self, shape: Sequence[int]) -> int: ...

    def masked(self, relevance: Tensor, ids: Sequence[Sequence[int]]) -> Tensor: ...

    def at_positions(self, relevance: Tensor, ids: Tensor, positions: Tensor) -> Tensor: ...

    def total(self, values: Tensor) -> Tensor: ...

    def peak(self, values: Tensor) -> tuple[Tensor, Tensor]: ...


def trough(concept: ConceptKind, values: Tensor) -> tuple[Tensor, Tensor]:
    """Find the smallest signed value of each concept and its position, `[N, ...]` -> two of `[N, concepts]`."""
    if hasattr(concept, "trough"):
        return concept.trough(values)
    highest, positions = concept.peak(-values)
    return -highest, positions
