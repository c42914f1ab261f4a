"""What relevance is propagated for. Each purpose can have rules of its own.

How much a concept counts and where in the input it is are two questions, and no single rule answers both well. Epsilon
follows the signs and sizes of what the network computes, and its heatmaps are noise. Gamma and flat give heatmaps that
point, and rank concepts less well (docs/truth.md).
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager


class Purpose(enum.Enum):
    """The purpose of a backward pass."""

    RANKING = "ranking"
    """Relevance that ends at layers: how much each concept counts."""
    MAPS = "maps"
    """Relevance that ends at the input: where it is. A composite of the caller has all its rules here."""
    SQUARES = "squares"
    """What values add to the squares in norms: a pass that completes one for ranking (`norm_squares.py`)."""


class CurrentPurpose:
    """Which rules the calls of one forward pass use in a backward pass.

    Parameters
    ----------
    available
        The purposes that the pass has rules for. Outside `pursued` the last one is in use.

    Attributes
    ----------
    value
        The purpose in use.
    shorter
        The calls of rules that have a shorter form in the pass under way (`positive_outputs.py`).
    """

    def __init__(self, available: Sequence[Purpose]) -> None:
        self.available = tuple(available)
        self.value = self.available[-1]
        self.shorter: Collection[object] = frozenset()

    @contextmanager
    def pursued(self, purpose: Purpose, shorter: Collection[object] = frozenset()) -> Iterator[None]:
        """Use the rules for a purpose inside the context."""
        before = self.value, self.shorter
        self.value, self.shorter = purpose, shorter
        try:
            yield
        finally:
            self.value, self.shorter = before
