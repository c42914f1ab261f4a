"""One colour a concept, the same in every view of a page and in figures; and the inks of the figures."""

from __future__ import annotations

import math

from crp.explanations.explanation import LayerExplanation

# Chosen by search: as far apart as eight colours can be, from each other and from the orange and blue of for and
# against, with normal vision and with deuteranopia and protanopia (tests/visualization/test_colours.py). The number of
# the concept stands beside each of them.
COLOURS = ("#5c03ba", "#deeb12", "#e8195b", "#70fccc", "#6c0c4a", "#1f4820", "#f9cdfc", "#dde790")
OTHER = "#8d949c"

INK, SOFT, TILE = "#1b1d21", "#5d636c", "#f0f0ec"
FOR, FOR_TEXT, AGAINST, AGAINST_TEXT, REST = "#ea8a48", "#b3470c", "#5a9bd0", "#1d5a9c", "#cfcfc8"


def concept_colours(*views: LayerExplanation) -> dict[int, str]:
    """Give every concept of a layer that its map or a card shows a colour.

    Concepts of the map come first, those that gather most of its relevance leading, then the cards by absolute share.
    The first ones get a colour of their own, all further ones the same grey and only their number.

    Parameters
    ----------
    views
        The layer as one or several explanations have it (of two classes, of their difference): a concept has one colour
        in all of them.

    Returns
    -------
    dict of int to str
        "#rrggbb" by concept.
    """
    mapped: dict[int, float] = {}
    for view in views:
        strength = {} if view.concept_map is None else view.concept_map.strength()
        total = math.fsum(strength.values())
        for concept, value in strength.items():
            mapped[concept] = max(mapped.get(concept, 0.0), value / total if total else 0.0)
    carded: dict[int, float] = {}
    for part in (part for view in views for part in view.ranked):
        carded[part.concept] = max(carded.get(part.concept, 0.0), abs(part.share))
    order = [
        *sorted(mapped, key=lambda concept: (-mapped[concept], concept)),
        *sorted(carded.keys() - mapped.keys(), key=lambda concept: (-carded[concept], concept)),
    ]
    return {concept: COLOURS[rank] if rank < len(COLOURS) else OTHER for rank, concept in enumerate(order)}


def cell_opacity(share: float) -> float:
    """Opacity of a cell of the concept map, 0..0.75: it grows with the root of the share that its winner holds.

    NaN, an unknown share, gives the middle.
    """
    return 0.4 if math.isnan(share) else 0.75 * math.sqrt(share)
