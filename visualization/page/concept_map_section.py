"""The concept map as the page shows it: the strongest supporter of each cell as SVG, and what the script ranks by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from crp.explanations import ConceptMap, Explanation, LayerExplanation
from crp.visualization import colours as palette
from crp.visualization import concept_names, wording
from crp.visualization import encoding as images
from crp.visualization.inputs.laid_out import cell_axes
from crp.visualization.map_cells import outweighed, winner_shares
from crp.visualization.page.cards import users
from crp.visualization.page.context import Context
from crp.visualization.page.outline import edges_path
from crp.visualization.page.packing import packed_floats

# Characters of a name in the legend.
NAME_LENGTH = 24


def concept_map_view(
    layer: LayerExplanation, colours: Mapping[int, str], cards: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any]:
    """Draw the strongest supporter of each cell, and hatch the cells in which the opposition outweighs.

    Parameters
    ----------
    layer
        A layer with a map.
    colours
        By concept.
    cards
        By concept, of those that have one.
    """
    concept_map = layer.concept_map
    rows, columns = concept_map.concept.shape
    height, width = concept_map.shape
    shares, against = winner_shares(concept_map), outweighed(concept_map)
    regions = []
    for concept, total in concept_map.strength().items():
        mask = concept_map.concept == concept
        regions.append(
            {
                "concept": concept,
                "name": wording.shortened(layer.name_of(concept), NAME_LENGTH),
                "title": concept_names.in_sentence(concept, layer.name_of(concept)),
                "colour": colours[concept],
                "card": cards[concept]["id"] if concept in cards else "",
                "cells": _cells(mask, shares),
                "total": f"{total:.3g}",
                "text": _region_text(shares[mask]),
                "outline": edges_path(mask, width / columns, height / rows),
                "labels": [
                    {"x": _length((column + 0.5) * width / columns), "y": _length((row + 0.5) * height / rows)}
                    for row, column in images.label_cells(mask)
                ],
            }
        )
    return {
        "rows": rows,
        "columns": columns,
        "height": height,
        "width": width,
        "scale": f"scale({width / columns:.6g} {height / rows:.6g})",
        "font": f"{min(0.42 * width / columns, 0.5 * height / rows, 0.055 * max(width, height)):.2f}",
        "line": f"{max(height, width) / 220:.2f}",
        "hatch": f"{max(height, width) / 36:.2f}",
        "regions": regions,
        "against": _squares(against, width / columns, height / rows),
        "text": _map_text(layer),
        "caption": _caption(concept_map, shares, int(against.sum())),
    }


def _cells(mask: np.ndarray, shares: np.ndarray) -> list[dict[str, str]]:
    """Draw the cells of a mask in units of cells, those of one opacity as one path."""
    drawn: dict[str, np.ndarray] = {}
    for cell in map(tuple, np.argwhere(mask)):
        opacity = f"{palette.cell_opacity(shares[cell]):.2f}"[1:]
        drawn.setdefault(opacity, np.zeros_like(mask))[cell] = True
    return [{"opacity": opacity, "path": _squares(of_it)} for opacity, of_it in drawn.items()]


def _squares(mask: np.ndarray, x: float = 1, y: float = 1) -> str:
    """Draw each cell of a mask, bool `[rows, columns]`: cells are `x` wide, `y` high.

    >>> _squares(np.array([[True, False], [False, True]]), x=28)
    'M0 0h28v1h-28zM28 1h28v1h-28z'
    """
    width, height = _length(x), _length(y)
    return "".join(
        f"M{_length(column * x)} {_length(row * y)}h{width}v{height}h-{width}z" for row, column in np.argwhere(mask)
    )


def _region_text(shares: np.ndarray) -> str:
    cells = "1 cell" if len(shares) == 1 else f"{len(shares)} cells"
    if np.isnan(shares).any():
        return f"strongest supporter in {cells}"
    low, high = (wording.percent(value) for value in (shares.min(), shares.max()))
    held = low if low == high else f"{low} to {high}"
    return f"strongest supporter in {cells}, with {held} of the absolute relevance there"


def _caption(concept_map: ConceptMap, shares: np.ndarray, against: int) -> str:
    """Say what the map shows and what it leaves out."""
    filled = concept_map.concept >= 0
    blank, count = int((~filled).sum()), concept_map.concept.size
    sentences = ["Each cell names the concept that supports most there."]
    if filled.any() and concept_map.table is not None:
        low, high = (wording.percent(value) for value in (shares[filled].min(), shares[filled].max()))
        sentences.append(
            f"It holds {low} to {high} of the absolute relevance in its cell: the more, the stronger its colour."
        )
    if against:
        sentences.append(
            f"Hatched: {against} of {count} cells in which concepts against outweigh those for; "
            "select such a cell to see which."
        )
    if blank:
        sentences.append(f"Blank: {blank} of {count} cells with almost no supporting relevance.")
    return " ".join(sentences)


def _map_text(layer: LayerExplanation) -> str:
    concept_map = layer.concept_map
    strength = concept_map.strength()
    rows, columns = concept_map.concept.shape
    if not strength:
        return f"Concept map, {rows} by {columns} cells, all blank."
    first = [
        f"{concept_names.in_sentence(i, layer.name_of(i))} {wording.where(concept_map.concept == i)}"
        for i in list(strength)[:3]
    ]
    return f"Concept map, {rows} by {columns} cells, {len(strength)} supporters. The strongest: {', '.join(first)}."


def _length(value: float) -> str:
    """Write a length in the map, to a hundredth of a pixel."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def cells_view(explanation: Explanation, layer: LayerExplanation, context: Context) -> dict[str, Any]:
    """Collect what the script needs of a layer besides its table: names, colours, where cells lie, classes of cards."""
    glimpses = context.glimpses[layer.layer]
    content: dict[str, Any] = {
        "layer": layer.layer,
        "size": layer.size,
        "pages": glimpses["pages"],
        "names": list(layer.names),
        "relevance": None if layer.relevance is None else packed_floats(layer.relevance),
        "colours": dict(context.colours[layer.layer]),
        "users": {part.concept: names for part in layer.ranked if any(names := users(explanation, part))},
        "sprite": {"name": glimpses["index"], **glimpses["glimpses"].numbers(layer.size)},
    }
    drawn = context.layer(layer).concept_map
    if drawn is not None and drawn.table is not None:
        rows, columns = drawn.concept.shape
        content |= {
            "rows": rows,
            "columns": columns,
            "winner": drawn.concept.ravel().tolist(),
            **cell_axes(layer.concept_map, context.renderer, context.space),
        }
    return content

