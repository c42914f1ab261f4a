"""What is said of relevance that belongs to no concept of a layer."""

from __future__ import annotations

import math

from crp.explanations.explanation import LayerExplanation
from crp.visualization.number_formats import SPACE


def outside(layer: LayerExplanation) -> str:
    """Say how much of the relevance that arrives belongs to no concept; empty if it is nothing or not known."""
    total = layer.outside + (float(layer.relevance.sum()) if layer.relevance is not None else 0.0)
    if abs(layer.outside) <= 1e-3 * abs(total):
        return ""
    share = layer.outside / total if total else math.nan
    if layer.first_order or not 0 <= share <= 1:
        return (
            f"Relevance of {layer.outside:+.3g} belongs to no concept; that of all concepts together is "
            f"{total - layer.outside:+.3g}."
        )
    return f"{share * 100:.0f}{SPACE}% of the relevance that arrives here belongs to no concept."
