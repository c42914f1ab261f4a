"""Which coverage and absorption can be read as a share of the relevance that started at the output.

LRP rules conserve relevance only approximately: biases and stabilisers absorb some of it, and may add some. Where they
take more than there was, or multiply it, the ratio is not a share any more. Pages and figures then print a warning
instead of a percentage.
"""

from __future__ import annotations

# A layer may hold a few percent more than started: biases add to it.
COVERAGE = (0.0, 1.05)
# The same 5 % at the input. Above 99 % almost nothing is left, or what is for and against cancels out.
ABSORBED = (-0.05, 0.99)


def coverage_is_a_share(value: float) -> bool:
    """Whether relevance at a layer divided by relevance at the output lies within `COVERAGE`; False for NaN."""
    return COVERAGE[0] <= value <= COVERAGE[1]


def absorbed_is_a_share(value: float) -> bool:
    """Whether the absorbed part of the relevance lies within `ABSORBED`; False for NaN."""
    return ABSORBED[0] <= value <= ABSORBED[1]
