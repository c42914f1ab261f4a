"""What is said of how much relevance arrives at a layer and at the input."""

from __future__ import annotations

import math

from crp.explanations import Explanation, LayerExplanation
from crp.explanations.plausibility import absorbed_is_a_share, coverage_is_a_share
from crp.visualization.number_formats import SPACE, percent, signed_percent
from crp.visualization.wording import times


def coverage(layer: LayerExplanation) -> str:
    """Say how much of the relevance that started at the output arrives at the layer, or that this is no share."""
    value = layer.coverage
    if layer.first_order:
        return (
            "Relevance here is a first-order effect: about what the output loses without the concept. It does not add "
            "up to the output, so shares are relative to this layer only."
        )
    if math.isnan(value):
        return "No relevance started at the output."
    if not coverage_is_a_share(value):
        return (
            f"Relevance is not conserved here: {times(value)} what started at the output arrives at this layer, so "
            "shares are relative to this layer only."
        )
    amount = f"{value * 100:.0f}{SPACE}%"
    if value < 0.995:
        return (
            f"{amount} of the relevance that started at the output arrives here; "
            "the rest was absorbed by biases or went a parallel way."
        )
    if value <= 1.005:
        return "All relevance that started at the output arrives here."
    return f"{amount} of the relevance that started at the output arrives here: biases on the way added to it."


def absorbed(explanation: Explanation) -> str:
    """Say how much of the relevance that started at the output reaches the input, or that this is no share."""
    value = explanation.absorbed
    if math.isnan(value):
        return "No relevance started at the output."
    if not absorbed_is_a_share(value):
        return (
            f"Relevance is not conserved: at the input it adds up to {times(1 - value)} what started at the output, "
            "so the heatmap shows relative strength only."
        )
    amount = f"{abs(value) * 100:.0f}{SPACE}%"
    if abs(value) < 0.005:
        return "All relevance that started at the output reaches the input."
    where = _absorbers(explanation)
    if value < 0:
        return f"The input holds {amount} more relevance than started at the output: biases added it{where}."
    return (
        f"On the way from the output to the input {amount} of the relevance was absorbed by biases and stabilisers"
        f"{where}."
    )


def _absorbers(explanation: Explanation) -> str:
    """Name the modules that absorbed or added most, in brackets."""
    sign = -1 if explanation.absorbed < 0 else 1
    parts = []
    for name, part in explanation.absorbers:
        amount = percent(part * sign) if part * sign > 0 else signed_percent(part * sign)
        parts.append(f"{amount} in {name or 'the model itself'}")
    return f" (most: {', '.join(parts)})" if parts else ""
