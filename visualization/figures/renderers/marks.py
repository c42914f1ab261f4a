"""Cells, outlines and axes that renderers have in common."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from crp.explanations import ConceptMap
from crp.places import Place
from crp.visualization import colours as palette
from crp.visualization import encoding as images
from crp.visualization.colours import AGAINST_TEXT, SOFT
from crp.visualization.figures.renderers.renderer import Box
from crp.visualization.map_cells import outweighed, winner_shares

# Label of the artist that outlines regions with negative relevance.
AGAINST_OUTLINE = "against"
# Label of the artist that outlines the mask or box that is explained.
PLACE_OUTLINE = "place"
# Label of the hatching of cells in which concepts against outweigh those for.
OUTWEIGHED = "outweighed"


def draw_cells(
    axes: Axes, concept_map: ConceptMap, colours: Mapping[int, str], *, corner: np.ndarray, cell: np.ndarray
) -> None:
    """Draw cells of (width, height) `cell`, the first at `corner`; each connected piece has outline and number.

    A cell is as opaque as the root of what its concept holds there, and hatched where the opposition outweighs.
    """
    shares = winner_shares(concept_map)
    for row, column in np.argwhere(outweighed(concept_map)):
        place = corner + np.array([column, row]) * cell
        style = {"hatch": "//", "edgecolor": AGAINST_TEXT, "linewidth": 0, "label": OUTWEIGHED}
        axes.add_patch(Rectangle(tuple(place), *cell, fill=False, **style))
    for concept in concept_map.strength():
        mask = concept_map.concept == concept
        for row, column in np.argwhere(mask):
            alpha = palette.cell_opacity(shares[row, column])
            place = corner + np.array([column, row]) * cell
            axes.add_patch(Rectangle(tuple(place), *cell, facecolor=colours[concept], alpha=alpha, linewidth=0))
        edges = images.contour(mask)[..., ::-1] * cell + corner
        axes.add_collection(LineCollection(edges, colors=colours[concept], linewidths=1.2, capstyle="projecting"))
        for row, column in images.label_cells(mask):
            x, y = corner + (np.array([column, row]) + 0.5) * cell
            label = axes.text(x, y, str(concept), fontsize=7.5, weight="bold", color="white", ha="center", va="center")
            label.set_path_effects([withStroke(linewidth=1.6, foreground="#14161a")])


def outline_place(axes: Axes, place: Place, linewidth: float) -> None:
    """Draw a white line with dark edges around a mask or box, over a drawing of its picture."""
    if place.box is None:
        edges = images.contour(place.mask)[..., ::-1] - 0.5
    else:
        left, top, right, bottom = np.array(place.box) - 0.5
        edges = [[(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]]
    # all dark edges first: the stroke of each edge on its own would cross the white line of the one before
    for width, colour, label in ((2.2 * linewidth, "#14161a", "under the place"), (linewidth, "white", PLACE_OUTLINE)):
        drawn = LineCollection(edges, colors=colour, linewidths=width, capstyle="projecting", label=label)
        axes.add_collection(drawn, autolim=False)


def outline(axes: Axes, box: Box, cells: np.ndarray) -> None:
    """Draw a dashed line around the true cells of a grid `[rows, columns]` that covers a box."""
    left, right, bottom, top = box
    size = np.array([(right - left) / cells.shape[1], (bottom - top) / cells.shape[0]])
    edges = images.contour(cells)[..., ::-1] * size + (left, top)
    if len(edges):
        style = {"colors": AGAINST_TEXT, "linewidths": 0.7, "linestyles": (0, (2, 1)), "label": AGAINST_OUTLINE}
        axes.add_collection(LineCollection(edges, **style))


def label_axis(axis: Axis, length: int, ends: tuple[float, float] | None, label: str) -> None:
    """Set the ticks of an axis of `length` pixels; `ends` are its limits in the unit of the label."""
    style_axis(axis, label)
    if ends is None:
        return
    values = np.linspace(*ends, 3)
    axis.set_ticks(np.linspace(-0.5, length - 0.5, 3), labels=[f"{value:g}" for value in values])
    first, *_, last = axis.get_ticklabels()
    # Labels at the ends must not extend beyond the picture.
    if axis.axis_name == "x":
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")
    else:
        first.set_verticalalignment("bottom")
        last.set_verticalalignment("top")


def style_axis(axis: Axis, label: str) -> None:
    """Set label and tick style of an axis."""
    axis.set_tick_params(labelsize=6, length=2, colors=SOFT, pad=1)
    axis.set_label_text(label, fontsize=6.5, color=SOFT)
