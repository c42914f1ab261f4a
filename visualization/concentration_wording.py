"""How concentrated a layer's relevance is: the first sentence about a layer, and which of its cards are open at first.

A page shows a dozen concepts, and a layer has hundreds. The sentence says how much these hold, so that a reader does
not take them for the whole. Where relevance does not add up to the output, no share of it is claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from crp.explanations import ConceptPart, LayerExplanation
from crp.explanations.plausibility import coverage_is_a_share
from crp.visualization import wording
from crp.visualization.number_formats import percent

# The part of a layer's absolute relevance that open cards should hold.
_ENOUGH = 0.5
# Relevance is spread over many concepts if half of it takes more than these.
_MANY = 10
# Concepts with less than this part of the strongest share matter little; a few cards are open in any case.
_LITTLE, _FEW = 0.25, 3


def concentration(layer: LayerExplanation) -> str:
    """Say over how many concepts the relevance of a layer is spread, and how much of it those shown hold.

    Empty if no concept is shown.
    """
    count = len(layer.ranked)
    if not count:
        return ""
    if layer.first_order or not coverage_is_a_share(layer.coverage):
        are = "are" if count > 1 else "is"
        which = f"{count} of {layer.size} concepts {are} shown, those with most relevance for and against"
        if count == layer.size > 1:
            which = f"All {count} concepts are shown"
        return (
            f"{which}. How much of the output they explain is not known, because relevance here does not add up to it."
        )
    # the number that the ledger prints
    shown = wording.ledger(layer)["shown"]
    hold = (
        f"the {count} with cards ({_sides(layer.ranked)}) hold {shown}, the strongest of them "
        f"{percent(abs(layer.ranked[0].share))}"
        if count > 1
        else f"the one with a card holds {shown}"
    )
    half = concepts_for_half(layer)
    if half is None:
        return f"Of the layer’s absolute relevance, {hold}."
    holders = f"the strongest {half} of {layer.size} concepts hold" if half > 1 else "one concept alone holds"
    spread = f"Spread over many concepts: {holders}" if half > _MANY else holders[0].upper() + holders[1:]
    more = "more than " if half == 1 and abs(layer.ranked[0].share) > 0.5 else ""
    return f"{spread} {more}half of the layer’s absolute relevance; {hold}."


def concepts_for_half(layer: LayerExplanation) -> int | None:
    """Count the concepts, strongest first, that hold half of a layer's absolute relevance.

    Returns
    -------
    int or None
        None if the explanation does not keep the relevance of all concepts.
    """
    if layer.relevance is None:
        return None
    held = np.cumsum(np.sort(np.abs(layer.relevance))[::-1])
    # float sums: the last one is the total, and half of it is reached at the latest there
    return int(np.searchsorted(held, held[-1] / 2)) + 1


def open_cards(layer: LayerExplanation) -> int:
    """Count the cards that are open at first, of `layer.ranked`.

    Cards are open until they hold half of the layer's absolute relevance, or until their shares are below a quarter of
    the strongest; at least three are.
    """
    shares = [abs(part.share) for part in layer.ranked]
    needed = next((place for place, held in enumerate(accumulate(shares), 1) if held >= _ENOUGH), len(shares))
    mattering = sum(share >= _LITTLE * shares[0] for share in shares)
    return min(len(shares), max(_FEW, min(needed, mattering)))


def folded(layer: LayerExplanation) -> str:
    """Head the cards that are not open at first; empty if all are."""
    rest = layer.ranked[open_cards(layer) :]
    if not rest:
        return ""
    return f"{len(rest)} more concept{'' if len(rest) == 1 else 's'} with smaller shares: {_sides(rest)}"


def _sides(parts: Sequence[ConceptPart]) -> str:
    """Count the concepts on either side."""
    supporting = sum(part.share > 0 for part in parts)
    sides = {"for": supporting, "against": len(parts) - supporting}
    return ", ".join(f"{count} {side}" for side, count in sides.items() if count)
