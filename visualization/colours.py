"""One colour a concept, the same in every view of a page and in figures; and the inks of the figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

from crp.explanations import Explanation, LayerExplanation

# Chosen by search: as far apart as eight colours can be, from each other and from the orange and blue of for and
# against, with normal vision and with deuteranopia and protanopia (tests/visualization/test_colours.py). The number of
# the concept stands beside each of them.
COLOURS = ("#5c03ba", "#deeb12", "#e8195b", "#70fccc", "#6c0c4a", "#1f4820", "#f9cdfc", "#dde790")
OTHER = "#8d949c"

INK, SOFT, TILE = "#1b1d21", "#5d636c", "#f0f0ec"
FOR, FOR_TEXT, AGAINST, AGAINST_TEXT, REST = "#ea8a48", "#b3470c", "#5a9bd0", "#1d5a9c", "#cfcfc8"


def concept_colours(explanation: Explanation) -> dict[str, dict[int, str]]:
    """Give every concept of each layer that a map or a card shows a colour.

    A concept has one colour in an explanation and in those beside it. In each layer concepts of the map come first,
    those that gather most of its relevance leading, then the cards by absolute share. The first ones get a colour of
    their own, all further ones the same grey and only their number.

    Parameters
    ----------
    explanation
        What is drawn.

    Returns
    -------
    dict of str to dict of int to str
        "#rrggbb" by layer and concept.
    """
    layers: dict[str, list[LayerExplanation]] = {}
    for layer in (layer for view in (explanation, *explanation.beside) for layer in view.layers):
        layers.setdefault(layer.layer, []).append(layer)
    return {
        name: {concept: COLOURS[rank] if rank < len(COLOURS) else OTHER for rank, concept in enumerate(_ordered(views))}
        for name, views in layers.items()
    }


def _ordered(views: Sequence[LayerExplanation]) -> list[int]:
    mapped: dict[int, float] = {}
    for view in views:
        strength = {} if view.concept_map is None else view.concept_map.strength()
        total = math.fsum(strength.values())
        for concept, value in strength.items():
            mapped[concept] = max(mapped.get(concept, 0.0), value / total if total else 0.0)
    carded: dict[int, float] = {}
    for part in (part for view in views for part in view.ranked):
        carded[part.concept] = max(carded.get(part.concept, 0.0), abs(part.share))
    return [
        *sorted(mapped, key=lambda concept: (-mapped[concept], concept)),
        *sorted(carded.keys() - mapped.keys(), key=lambda concept: (-carded[concept], concept)),
    ]


def cell_opacity(share: float) -> float:
    """Opacity of a cell of the concept map, 0.15..0.75: it grows with the root of the share that its winner holds.

    NaN, an unknown share, gives the middle.
    """
    return 0.4 if math.isnan(share) else 0.15 + 0.6 * math.sqrt(share)
