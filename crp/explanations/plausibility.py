"""Whether coverage and absorption can be read as shares of the relevance that started at the output.

LRP rules conserve relevance only approximately: biases and stabilisers absorb some of it, and may add some. If they
absorb more than there was, or multiply it, the ratio is no longer a share. Pages and figures then print a warning
instead of a percentage. First-order effects (`LayerExplanation.first_order`) are not meant to be conserved: they have
no coverage.
"""

from __future__ import annotations

# A layer may receive a few percent more than started, because biases add relevance.
COVERAGE = (0.0, 1.05)
# The same 5 % at the input. Above 99 %, almost nothing is left, or relevance for and against cancels out.
ABSORBED = (-0.05, 0.99)


def coverage_is_a_share(value: float) -> bool:
    """Return whether relevance at a layer divided by relevance at the output is within `COVERAGE`; False for NaN."""
    return COVERAGE[0] <= value <= COVERAGE[1]


def absorbed_is_a_share(value: float) -> bool:
    """Return whether the absorbed part of the relevance is within `ABSORBED`; False for NaN."""
    return ABSORBED[0] <= value <= ABSORBED[1]
