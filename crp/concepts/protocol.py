"""The interface of a kind of concept.

Axes: `N` samples, `K` conditions, `C` channels, `*S` space (none for a linear layer).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class ConceptKind(Protocol):
    """Interface of a kind of concept, used by mining, explanation and attribution.

    A method `trough`, which finds the smallest values as `peak` finds the largest, is optional: see the function
    `trough`. `ChannelConcept` describes arguments and results in full.
    """

    def size(self, shape: Sequence[int]) -> int:
        """Return the number of concepts in a layer's output of shape `[C, *S]`."""

    def masked(self, relevance: Tensor, ids: Sequence[Sequence[int]]) -> Tensor:
        """Keep the relevance of the chosen concepts of each condition: `[N, C, *S]` -> `[K, N, C, *S]`."""

    def at_positions(self, relevance: Tensor, ids: Tensor, positions: Tensor) -> Tensor:
        """Keep one position of one concept for each sample: `[N, C, *S]` -> `[1, N, C, *S]`."""

    def total(self, values: Tensor) -> Tensor:
        """Sum the values of each concept: `[N, C, *S]` -> `[N, concepts]`."""

    def peak(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Find the largest signed value of each concept and its position: two of `[N, concepts]`."""


def trough(concept: ConceptKind, values: Tensor) -> tuple[Tensor, Tensor]:
    """Find the smallest signed value of each concept and its position, `[N, ...]` -> two of `[N, concepts]`."""
    if hasattr(concept, "trough"):
        return concept.trough(values)
    highest, positions = concept.peak(-values)
    return -highest, positions
