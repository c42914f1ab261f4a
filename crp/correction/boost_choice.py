"""How much samples with a concept count, chosen on samples that are held out: `chosen_boost`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class HeldOut:
    """How many held-out samples a model gets right.

    Attributes
    ----------
    lacking, taken_out
        Of the samples without the concept, and of those it was taken out of (0 to 1).
    share
        Which part of both together the latter are (0 to 1).
    """

    lacking: float
    taken_out: float
    share: float

    @property
    def right(self) -> float:
        """Of both together."""
        return (1 - self.share) * self.lacking + self.share * self.taken_out

    @property
    def worst(self) -> float:
        """Of the group of which fewer are right."""
        return min(self.lacking, self.taken_out)


def chosen_boost(found: Mapping[float, HeldOut], least: float) -> float:
    """Return the boost with which the worse of the two groups is best.

    A higher boost moves samples of other classes to those that have the concept. Where as many of them are lost as of
    the others are found, both groups are right about as often, and a little more or less of it changes least.

    Parameters
    ----------
    found
        For each boost, what the model with it gets right.
    least
        How many of all have to be right (0 to 1). If no boost keeps that, the one with most is returned.
    """
    kept = {boost: one for boost, one in found.items() if one.right >= least}
    if not kept:
        return max(found, key=lambda boost: found[boost].right)
    return max(kept, key=lambda boost: kept[boost].worst)
