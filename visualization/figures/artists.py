"""Parts of figures: each function draws one part of an explanation into given Axes.

Names of classes, files and layers are never parsed as mathematical text: a dollar sign stays a dollar sign. Colour,
the sign or word in the label, and hatching all show the sign, so that a grey print shows it too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.textpath import TextPath

from crp.explanations import ConceptMap, ConceptPart, Explanation, LayerExplanation, Patch
from crp.graphs.concept_graph import ConceptGraph, GraphEdge, Key
from crp.places import Place
from crp.visualization import concept_names, graph_wording, wording
from crp.visualization import encoding as images
from crp.visualization.colours import AGAINST, AGAINST_TEXT, FOR, FOR_TEXT, INK, REST, SOFT, TILE
from crp.visualization.figures.renderers import Renderer, renderer_for, renderer_of
from crp.visualization.figures.renderers.marks import AGAINST_OUTLINE, outline_place
from crp.visualization.graph_layout import edge_width
from crp.visualization.graph_layout import places as graph_places

DIVERGING = ListedColormap(images.DIVERGING / 255, name="crp_diverging")


def write(axes: Axes, x: float, y: float, text: str, **style: Any) -> Text:
    """Write one line of plain text at (x, y) in axes coordinates."""
    style = {"color": INK, "va": "center", "transform": axes.transAxes} | style
    artist = axes.text(x, y, wording.printable(text), **style)
    artist.set_parse_math(False)
    return artist


def draw_picture(
    axes: Axes,
    picture: np.ndarray,
    heatmap: np.ndarray | None = None,
    *,
    renderer: Renderer | None = None,
    place: Place | None = None,
) -> None:
    """Draw the input at the upper left of its axes; for a volume, the slices in which the heatmap is strongest.

    Here and below `renderer` defaults to the one that fits the number of axes (`renderer_for`). On pictures and
    spectrograms, `place` is outlined.
    """
    renderer = renderer or renderer_for(picture)
    renderer.draw_input(axes, picture, heatmap)
    _outline(axes, place, 1.0)


def draw_heatmap(
    axes: Axes,
    picture: np.ndarray,
    heatmap: np.ndarray,
    *,
    limit: float | None = None,
    power: float = 1.0,
    small: bool = False,
    renderer: Renderer | None = None,
    place: Place | None = None,
) -> float:
    """Draw a heatmap, float `[*S]`, over its input; return the magnitude at which its colours saturate.

    That is `limit` if given, and otherwise fits the heatmap. Colours grow with `power` (`images.scaled`). Small
    heatmaps have no labelled axes.
    """
    renderer = renderer or renderer_for(picture)
    limit = renderer.draw_heatmap(axes, picture, heatmap, limit, power, small=small)
    _outline(axes, place, 0.5 if small else 1.0)
    return limit


def _outline(axes: Axes, place: Place | None, linewidth: float) -> None:
    if place is not None and place.mask.ndim == 2:
        outline_place(axes, place, linewidth)


def draw_colour_bar(
    axes: Axes,
    limit: float,
    *,
    power: float = 1.0,
    fontsize: float = 8,
    percent: bool = False,
    of: Axes | None = None,
) -> None:
    """Draw the scale of heatmaps that saturate at ±limit, with both directions in words.

    Parameters
    ----------
    axes
        Axes to fill.
    limit
        Magnitude at which colours saturate.
    power
        Exponent of the scale. If it is not 1 (`images.ROOT`), the labels name it and give the values at half
        saturation, where they fit.
    fontsize
        In points.
    percent
        Whether values are shares, written in percent.
    of
        Axes with the heatmap. If regions that speak against are outlined there, the scale says so.
    """
    full = (limit or 1) ** power
    mappable = ScalarMappable(Normalize(-full, full), DIVERGING)
    # Heatmaps have values beyond the limit, tables of shares do not.
    tip = 0 if percent else 0.03
    ends = {"extend": "neither" if percent else "both", "extendfrac": tip}
    bar = axes.figure.colorbar(mappable, cax=axes, orientation="horizontal", **ends)
    bar.outline.set_visible(False)
    end = wording.percent(limit) if percent else f"{limit:.2g}"
    outlined = of is not None and any(artist.get_label() == AGAINST_OUTLINE for artist in of.collections)
    against = "against (outlined)" if outlined else "against"
    low, high = f"{wording.MINUS}{end}\n{against}", f"+{end}\nfor"
    half = f"{limit * 0.5 ** (1 / power):.2g}"
    candidates = [
        {-1.0: low, -0.5: f"{wording.MINUS}{half}", 0.0: "0\nroot scale", 0.5: f"+{half}", 1.0: high},
        {-1.0: low, 0.0: "0\nroot scale", 1.0: high},
    ]
    if power == 1:
        candidates.clear()
    candidates += [{-1.0: low, 0.0: "0", 1.0: high}, {-1.0: low, 1.0: high}]
    width = axes.get_window_extent().width * 72 / axes.figure.dpi / (1 + 2 * tip)
    labels = next((labels for labels in candidates if _fit(labels, fontsize, width)), candidates[-1])
    bar.set_ticks([place * full for place in labels], labels=list(labels.values()))
    axes.tick_params(labelsize=fontsize, length=0, colors=SOFT, pad=fontsize / 4)
    first, *_, last = axes.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")


def _fit(labels: Mapping[float, str], fontsize: float, width: float) -> bool:
    """Return whether tick labels at places -1..1 of an axis of `width` points do not overlap, line by line.

    The outer two are aligned with the ends of the axis, the others are centred.
    """
    font = FontProperties(size=fontsize)
    ends: dict[int, float] = {}
    for place, label in labels.items():
        for line, text in enumerate(label.split("\n")):
            wide = TextPath((0, 0), text, prop=font).get_extents().width
            before = {-1.0: 0.0, 1.0: wide}.get(place, wide / 2)
            left = (place + 1) / 2 * width - before
            if left < ends.get(line, -math.inf) + fontsize / 2:
                return False
            ends[line] = left + wide
    return True


def draw_classes(axes: Axes, explanation: Explanation) -> None:
    """Draw the best classes, and what is explained if it is not among them, with their probabilities as bars.

    For a model with one output, or a start, write its value without a bar.
    """
    scores = list(dict.fromkeys([*explanation.classes, explanation.target]))
    for row, score in enumerate(scores):
        explained = score == explanation.target
        weight = "bold" if explained else "normal"
        if not wording.is_number(score):
            axes.barh(row, 1, height=0.16, color=TILE)
            axes.barh(row, score.probability, height=0.16, color=FOR if explained else REST)
        name = axes.text(
            0, row - 0.3, wording.shortened(wording.class_name(score), 44), fontsize=10, weight=weight, color=INK
        )
        name.set_parse_math(False)
        value = wording.class_value(score, explanation.best)
        axes.text(1, row - 0.3, value, fontsize=10, weight=weight, color=INK if explained else SOFT, ha="right")
    axes.set(xlim=(0, 1), ylim=(max(5, len(scores)) - 0.5, -0.8))
    axes.set_axis_off()


def draw_ledger(axes: Axes, layer: LayerExplanation) -> None:
    """Draw the absolute shares of a layer as one bar of length 1: for, against (hatched), the rest."""
    left = 0.0
    for part in (*layer.supporting, *layer.opposing):
        style = {"color": FOR} if part.share > 0 else {"facecolor": AGAINST, "edgecolor": AGAINST_TEXT, "hatch": "////"}
        axes.barh(0, abs(part.share), left=left, height=1, **(style | {"edgecolor": "white", "linewidth": 1}))
        left += abs(part.share)
    axes.barh(0, layer.rest, left=left, height=1, color=REST)
    axes.set(xlim=(0, 1), ylim=(-0.5, 0.5))
    axes.set_axis_off()


def draw_share(
    axes: Axes, part: ConceptPart, *, widest: float, name: str = "", colour: str = "", fontsize: float = 11
) -> None:
    """Draw name, verdict and signed share of one concept; the bar is full at an absolute share of `widest`."""
    positive = part.share >= 0
    if colour:
        axes.add_patch(Rectangle((0, 0.7), 0.06, 0.17, color=colour, transform=axes.transAxes))
    title = concept_names.label(part.concept, name, 18) if name else concept_names.heading(part.concept, name)
    write(axes, 0.09 if colour else 0, 0.78, title, fontsize=fontsize, weight="bold")
    style = {"fontsize": 0.9 * fontsize, "color": FOR_TEXT if positive else AGAINST_TEXT}
    write(axes, 0, 0.44, wording.side(part), **style)
    write(axes, 1, 0.44, wording.share_of_side(part), ha="right", weight="bold", **style)
    axes.barh(0, 2, left=-1, height=1, color=TILE)
    bar = (
        {"color": FOR}
        if positive
        else {"facecolor": AGAINST, "edgecolor": AGAINST_TEXT, "hatch": "////", "linewidth": 0}
    )
    axes.barh(0, part.share / (widest or 1), height=1, **bar)
    axes.plot([0, 0], [-0.5, 0.5], color=SOFT, linewidth=0.8)
    # The bar takes the lowest eighth of the axes, the texts the rest.
    axes.set(xlim=(-1, 1), ylim=(-1.0, 7.0))
    axes.set_axis_off()


def draw_patches(
    axes: Axes,
    patches: Sequence[Patch],
    *,
    places: int,
    ratio: float = 1.0,
    renderer: Renderer | None = None,
    missing: bool = False,
) -> None:
    """Draw patches in a row of places, uncropped, faded where the concept has no relevance.

    A place is 1 high and `ratio` wide. If there are no patches, and some are `missing`, this is said.
    """
    if missing and not patches:
        write(axes, 0, 0.5, wording.PATCHES_NOT_MADE, fontsize=7, color=SOFT)
    for place, patch in enumerate(patches[:places]):
        chosen = renderer or renderer_for(patch.picture)
        box = ((place + 0.03) * ratio, (place + 0.97) * ratio, 0.03, 0.97)
        chosen.draw_patch(axes, box, patch.picture, patch.heatmap)
    axes.set(xlim=(0, places * ratio), ylim=(0, 1), aspect="equal")
    axes.set_axis_off()
    axes.set_anchor("W")


def draw_concept_map(
    axes: Axes,
    picture: np.ndarray,
    concept_map: ConceptMap,
    colours: Mapping[int, str],
    *,
    renderer: Renderer | None = None,
) -> None:
    """Draw the strongest concept of each cell, with one colour and number for each concept; empty cells stay blank."""
    renderer = renderer or renderer_for(picture)
    renderer.draw_concept_map(axes, picture, concept_map, colours)


def draw_legend(axes: Axes, layer: LayerExplanation, colours: Mapping[int, str]) -> None:
    """Draw colour, number and name of the concepts on the map, as many as fit; those that have a row are bold."""
    per_row = 2 if layer.names else 5
    shown = {part.concept for part in layer.ranked}
    on_map = () if layer.concept_map is None else layer.concept_map.strength()
    for index, concept in enumerate(list(on_map)[: 4 * per_row]):
        row, column = divmod(index, per_row)
        x, y = column / per_row, 1 - (row + 0.5) / 4
        axes.add_patch(Rectangle((x, y - 0.06), 0.035, 0.12, color=colours[concept], transform=axes.transAxes))
        known = concept in shown
        write(
            axes,
            x + 0.05,
            y,
            wording.shortened(" ".join([str(concept), layer.name_of(concept)]), 40 // per_row),
            fontsize=8.5,
            weight="bold" if known else "normal",
            color=INK if known else SOFT,
        )
    axes.set_axis_off()


def draw_graph(axes: Axes, graph: ConceptGraph, *, renderer: Renderer | None = None) -> float:
    """Draw an attribution graph: one row for each layer, edges as wide as their share, negative ones dashed.

    Nodes show a patch, the conditional heatmap if there is one, name and share of the prediction. All heatmaps have one
    root scale; the return value is the magnitude at which its colours saturate, 0 without heatmaps. The axes must have
    their final size, because texts and lines are placed by it.
    """
    heatmaps = [node.heatmap for node in graph.nodes if node.heatmap is not None]
    limit = images.shared_limit(heatmaps)
    place = graph_places(graph)
    rows = 1 + max(row for _, row in place.values())
    columns = max(sum(row == other for _, other in place.values()) for row in range(rows))
    # A node is one unit wide, its neighbour 1.15 units away; rows are two units apart.
    span, low, high = 1.15 * columns, -2.0 * (rows - 1) - 0.85, 0.7
    axes.set(xlim=(-0.6, span), ylim=(low, high), aspect="equal")
    axes.set_axis_off()
    box = axes.get_position()
    width, height = axes.figure.get_size_inches() * 72 * (box.width, box.height)
    unit = min(width / (span + 0.6), height / (high - low))
    font = min(9.0, max(5.0, 0.15 * unit))
    line = 1.2 * font / unit
    at = {key: (x * span, -2.0 * row) for key, (x, row) in place.items()}
    for edge in sorted(graph.edges, key=lambda edge: abs(edge.relevance)):
        _draw_edge(axes, graph, edge, at, below=0.16 + 2.2 * line, scale=min(1.0, unit / 100))
    for node in graph.nodes:
        x, y = at[node.key]
        shown = [value for value in (node.patch, node.heatmap) if value is not None]
        for index, value in enumerate(shown):
            left, bottom = x + 0.48 * (index - len(shown) / 2), y - 0.14
            box = (left, left + 0.46, bottom, bottom + 0.46)
            if isinstance(value, Patch):
                (renderer or renderer_for(value.picture)).draw_patch(axes, box, value.picture, value.heatmap)
            else:
                (renderer or renderer_of(value.ndim)).draw_thumbnail(axes, box, value, limit, images.ROOT)
            frame = Rectangle((left, bottom), 0.46, 0.46, fill=False, edgecolor=REST, linewidth=0.6, zorder=4)
            axes.add_patch(frame)
        style = {"transform": axes.transData, "ha": "center", "va": "center", "fontsize": font, "zorder": 5}
        name = graph_wording.node_label(node, 16)
        write(axes, x, y - 0.16 - 0.6 * line, name, weight="bold", **style)
        colour = FOR_TEXT if node.relevance >= 0 else AGAINST_TEXT
        write(axes, x, y - 0.16 - 1.6 * line, wording.share_of_all(node.share), **style | {"color": colour})
    for layer in dict.fromkeys(node.layer for node in graph.nodes):
        row = next(place[node.key][1] for node in graph.nodes if node.layer == layer)
        name = wording.shortened(graph_wording.root_row(graph) if row == 0 else layer, 20)
        style = {"transform": axes.transData, "ha": "center", "va": "center", "fontsize": font, "rotation": 90}
        write(axes, -0.45, -2.0 * row, name, color=SOFT, **style)
    # Drawing pictures changes the limits of the axes.
    axes.set(xlim=(-0.6, span), ylim=(low, high))
    return limit


def _draw_edge(
    axes: Axes,
    graph: ConceptGraph,
    edge: GraphEdge,
    at: Mapping[Key, tuple[float, float]],
    *,
    below: float,
    scale: float,
) -> None:
    (x1, y1), (x2, y2) = at[edge.upper], at[edge.lower]
    y1, y2 = y1 - below, y2 + 0.34
    middle = (y1 + y2) / 2
    against = edge.relevance < 0
    strongest = max(abs(other.relevance) for other in graph.edges if other.upper[0] == edge.upper[0])
    curve = Path([(x1, y1), (x1, middle), (x2, middle), (x2, y2)], [Path.MOVETO, *[Path.CURVE4] * 3])
    axes.add_patch(
        PathPatch(
            curve,
            facecolor="none",
            edgecolor=AGAINST if against else FOR,
            linestyle="--" if against else "-",
            linewidth=max(0.6, edge_width(graph, edge.relevance) * scale),
            # Weak edges recede, so that a dense layer can be read.
            alpha=0.3 + 0.5 * abs(edge.relevance) / strongest,
            label=graph_wording.edge_name(graph, edge),
        )
    )
