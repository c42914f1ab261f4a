"""One colour a concept: the same on its card, in the concept map and in the legend. And the inks of the figures."""

from __future__ import annotations

import math

from crp.explanations.explanation import LayerExplanation
from crp.visualization.encoding import luminance

# Told apart by hue and lightness, also by colour-blind readers; the number of the concept stands beside each of them.
COLOURS = (
    "#e69f00", "#3b6fb6", "#2a9d6f", "#c8504f", "#8e6bbf", "#6cc3e8", "#b5c334", "#8a5a2b", "#e58fb8", "#2f7f86",
)  # fmt: skip
OTHER = "#8d949c"

INK, SOFT, TILE = "#1b1d21", "#5d636c", "#f0f0ec"
FOR, FOR_TEXT, AGAINST, AGAINST_TEXT, REST = "#ea8a48", "#b3470c", "#5a9bd0", "#1d5a9c", "#cfcfc8"


def concept_colours(layer: LayerExplanation) -> dict[int, str]:
    """Colour of every concept in the layer's concept map, as "#rrggbb".

    The concepts that gather most relevance in the map get a colour of their own, all further ones the same grey and
    only their number.
    """
    if layer.concept_map is None:
        return {}
    ids = layer.concept_map.strength()
    return {concept: COLOURS[rank] if rank < len(COLOURS) else OTHER for rank, concept in enumerate(ids)}


def cell_opacity(relevance: float, strongest: float) -> float:
    """How opaque a cell of the concept map is drawn, 0.25..0.7: by the root of its relative relevance."""
    return 0.25 + 0.45 * math.sqrt(max(0.0, float(relevance)) / strongest)


def ink(colour: str) -> str:
    """Black or white, whichever is read better on `colour` (WCAG 2: the larger contrast ratio)."""
    light = float(luminance([int(colour[i : i + 2], 16) for i in (1, 3, 5)]))
    return "#000000" if (light + 0.05) / 0.05 > 1.05 / (light + 0.05) else "#ffffff"
