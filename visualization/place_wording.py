"""What pages and figures say about relevance inside and outside of the mask or box that is explained."""

from __future__ import annotations

import math

from crp.explanations import ConceptPart, Explanation
from crp.places import ContextUse, Place, context_use
from crp.visualization.number_formats import SPACE, percent

# What the numbers mean.
CONTEXT_MEANS = (
    "the part of the concept’s relevance that lies outside of the outline, counting only the sign that it has in the "
    "layer; inside ÷ outside says the same as a ratio (Dreyer et al. 2023)"
)


def outlined(place: Place) -> str:
    """Name what is outlined on the picture."""
    return "mask" if place.box is None else "box"


def context(explanation: Explanation, part: ConceptPart) -> str:
    """Say how much of a concept's relevance lies outside of what is explained; empty without a place."""
    use = explanation.context_of(part)
    if use is None or math.isnan(use.context):
        return ""
    return f"{percent(use.context)} outside the {outlined(explanation.place)}, {ratio(use)}"


def context_share(explanation: Explanation, part: ConceptPart) -> str:
    """Give the part of a concept's relevance that lies outside, in a few characters; empty if it is not known."""
    use = explanation.context_of(part)
    return "" if use is None or math.isnan(use.context) else percent(use.context)


def ratio(use: ContextUse) -> str:
    """Give the relevance inside divided by that outside.

    >>> ratio(ContextUse(3.0, 2.0)).replace(SPACE, " "), ratio(ContextUse(3.0, 0.0)).replace(SPACE, " ")
    ('inside ÷ outside 1.5', 'all inside')
    """
    return "all inside" if math.isinf(use.ratio) else f"inside{SPACE}÷{SPACE}outside{SPACE}{use.ratio:.2g}"


def prediction_context(explanation: Explanation) -> str:
    """Say how much positive relevance at the input lies outside of what is explained, and how large that is."""
    place = explanation.place
    if place is None:
        return ""
    name, covers = outlined(place), f"which covers {percent(place.part)} of the picture"
    use = context_use(explanation.heatmap, place)
    if math.isnan(use.context):
        return f"Outlined: the {name}, {covers}."
    return f"Outlined: the {name}, {covers}. {percent(use.context)} of the positive relevance lies outside of it."


def prediction_context_share(explanation: Explanation) -> str:
    """Give the part of the positive relevance at the input that lies outside of what is explained."""
    use = context_use(explanation.heatmap, explanation.place)
    return "" if math.isnan(use.context) else percent(use.context)
