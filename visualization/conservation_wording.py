"""What pages and figures say about how much of the relevance that started arrives, and where the rest is lost."""

from __future__ import annotations

import math

from crp.explanations import Explanation, LayerExplanation
from crp.explanations.plausibility import absorbed_is_a_share, coverage_is_a_share
from crp.visualization.number_formats import SPACE, percent, signed_percent, times


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
            "the rest was absorbed by biases or took a parallel path."
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
            f"Relevance is not conserved: at the input it adds up to {times(1 - value)} what started at the output"
            f"{_absorbers(explanation, 'added' if value < 0 else 'absorbed')}, so the heatmap shows relative strength "
            f"only.{_departure(explanation)}"
        )
    amount = f"{abs(value) * 100:.0f}{SPACE}%"
    if abs(value) < 0.005:
        return f"All relevance that started at the output reaches the input.{_departure(explanation)}"
    where = f"{_absorbers(explanation)}.{_departure(explanation)}"
    if value < 0:
        return f"The input holds {amount} more relevance than started at the output: biases added it{where}"
    return (
        f"On the way from the output to the input {amount} of the relevance was absorbed by biases and stabilisers"
        f"{where}"
    )


def _absorbers(explanation: Explanation, word: str = "most") -> str:
    """Name the modules that absorbed or added most, in brackets."""
    sign = -1 if explanation.absorbed < 0 else 1
    parts = []
    for name, part in explanation.absorbers:
        if abs(part) >= 10:
            amount = times(part * sign)
        else:
            amount = percent(part * sign) if part * sign > 0 else signed_percent(part * sign)
        parts.append(f"{amount} in {name or 'the model itself'}")
    return f" ({word}: {', '.join(parts)})" if parts else ""


def _departure(explanation: Explanation) -> str:
    """Say below which operation little relevance is left, or much more than started."""
    if explanation.departure is None:
        return ""
    module, operation, left = explanation.departure
    amount = "less than a tenth of" if abs(left) < 1 else "more than three times"
    return f" Below {module or 'the model itself'} ({operation}), relevance adds up to {amount} what started."
