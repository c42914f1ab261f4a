"""Heatmaps of concepts: each drawn up to its own limit, and the opacity that puts it on the scale of its layer.

Those of the cards of a layer are cells of one picture, which the style of the page holds: nodes of the graph show the
same cells, and only those without a card have others, smaller ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from crp.explanations import Explanation
from crp.visualization import encoding as images
from crp.visualization import picture_formats as formats
from crp.visualization import wording
from crp.visualization.page.context import Context
from crp.visualization.page.heatmap_sheets import HeatmapSheet


def layer_limits(explanation: Explanation, context: Context) -> dict[str, float]:
    """Find where the colour scale of each layer ends: the largest limit of the heatmaps of its cards and nodes."""
    limits: dict[str, list[float]] = {layer.layer: [] for layer in explanation.layers}
    for layer in explanation.layers:
        limits[layer.layer] += [context.limit(part.heatmap) for part in layer.ranked]
    for node in explanation.graph.nodes if explanation.graph else ():
        if node.heatmap is not None:
            limits.setdefault(node.layer, []).append(context.limit(node.heatmap))
    return {layer: max(found, default=0.0) for layer, found in limits.items()}


def heatmap_view(heatmap: np.ndarray, limit: float, sheet: HeatmapSheet, context: Context) -> dict[str, Any]:
    """Draw one heatmap.

    Parameters
    ----------
    heatmap
        float [*S], of the input.
    limit
        Where the scale of its layer ends.
    sheet
        Where it is drawn.
    context
        Of the page.

    Returns
    -------
    dict
        `sheet` and `cell`: where it lies, drawn up to its own limit. `fade`: its opacity on the layer's scale. `full`:
        the own limit as text.
    """
    own = context.limit(heatmap)
    drawn = formats.drawn_heatmap(context.picture, context.relevance(heatmap), side=sheet.side, limit=own)
    return {
        "sheet": sheet.name,
        "cell": sheet.place(drawn),
        "fade": f"{images.fade(own, limit):.4f}",
        "full": f"±{wording.number(own)}",
    }
