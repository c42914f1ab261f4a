"""The parts of the figure: each function draws one part of an explanation into the Axes it is given.

Names from outside (classes, files, layers) are never read as mathematical text: a dollar sign stays a dollar sign.
Signs are carried by colour, by the sign or word in the label, and by hatching, so that a grey print says the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

from crp.explanation import ConceptMap, ConceptPart, Explanation, LayerExplanation, Patch
from crp.relations import ConceptGraph, GraphEdge, Key
from crp.visualization import images, palette, wording
from crp.visualization.graph import edge_width
from crp.visualization.graph import places as graph_places

INK, SOFT, TILE = "#1b1d21", "#5d636c", "#f0f0ec"
FOR, FOR_TEXT, AGAINST, AGAINST_TEXT, REST = "#ea8a48", "#b3470c", "#5a9bd0", "#1d5a9c", "#cfcfc8"
DIVERGING = ListedColormap(images.DIVERGING / 255, name="crp_diverging")


def write(axes: Axes, x: float, y: float, text: str, **style: Any) -> Text:
    """Put one line of plain text at (x, y) in the coordinates of the axes."""
    style = {"color": INK, "va": "center", "transform": axes.transAxes} | style
    artist = axes.text(x, y, wording.printable(text), **style)
    artist.set_parse_math(False)
    return artist


def draw_picture(axes: Axes, picture: np.ndarray) -> None:
    """A picture, uint8 [h, w, 3], without ticks or frame, at the upper left of its place."""
    height, width = picture.shape[:2]
    axes.imshow(picture, interpolation="nearest" if max(height, width) <= images.SMALL_SIDE else "antialiased")
    axes.set_axis_off()
    axes.set_anchor("NW")


def draw_heatmap(axes: Axes, picture: np.ndarray, heatmap: np.ndarray) -> float:
    """A heatmap, float [h, w], over the faded picture; returns the magnitude at which its colours saturate."""
    limit = images.colour_limit(heatmap)
    draw_picture(axes, images.overlay(picture, heatmap, limit))
    return limit


def draw_colour_bar(axes: Axes, limit: float) -> None:
    """The scale of a heatmap that saturates at ±limit, with both directions in words."""
    mappable = ScalarMappable(Normalize(-(limit or 1), limit or 1), DIVERGING)
    bar = axes.figure.colorbar(mappable, cax=axes, orientation="horizontal", extend="both", extendfrac=0.03)
    bar.outline.set_visible(False)
    bar.set_ticks(
        [-(limit or 1), 0, limit or 1], labels=[f"{wording.MINUS}{limit:.2g}\nagainst", "0", f"+{limit:.2g}\nfor"]
    )
    axes.tick_params(labelsize=8, length=0, colors=SOFT)
    for label, alignment in zip(axes.get_xticklabels(), ("left", "center", "right"), strict=True):
        label.set_horizontalalignment(alignment)


def draw_classes(axes: Axes, explanation: Explanation) -> None:
    """The best classes and, if it is not among them, the explained one, with their probabilities as bars."""
    scores = list(explanation.classes)
    if all(score.index != explanation.target.index for score in scores):
        scores.append(explanation.target)
    for row, score in enumerate(scores):
        explained = score.index == explanation.target.index
        weight = "bold" if explained else "normal"
        axes.barh(row, 1, height=0.16, color=TILE)
        axes.barh(row, score.probability, height=0.16, color=FOR if explained else REST)
        name = axes.text(
            0, row - 0.3, wording.shortened(wording.class_name(score), 44), fontsize=10, weight=weight, color=INK
        )
        name.set_parse_math(False)
        value = wording.probability(score.probability)
        axes.text(1, row - 0.3, value, fontsize=10, weight=weight, color=INK if explained else SOFT, ha="right")
    axes.set(xlim=(0, 1), ylim=(max(5, len(scores)) - 0.5, -0.8))
    axes.set_axis_off()


def draw_ledger(axes: Axes, layer: LayerExplanation) -> None:
    """The absolute shares of a layer as one bar of length one: for, against (hatched), the rest."""
    left = 0.0
    for part in (*layer.supporting, *layer.opposing):
        style = {"color": FOR} if part.share > 0 else {"facecolor": AGAINST, "edgecolor": AGAINST_TEXT, "hatch": "////"}
        axes.barh(0, abs(part.share), left=left, height=1, **(style | {"edgecolor": "white", "linewidth": 1}))
        left += abs(part.share)
    axes.barh(0, layer.rest, left=left, height=1, color=REST)
    axes.set(xlim=(0, 1), ylim=(-0.5, 0.5))
    axes.set_axis_off()


def draw_share(axes: Axes, part: ConceptPart, *, widest: float, colour: str = "") -> None:
    """Number, verdict and signed share of one concept; its bar is full at an absolute share of `widest`."""
    positive = part.share >= 0
    if colour:
        axes.add_patch(Rectangle((0, 0.7), 0.06, 0.17, color=colour, transform=axes.transAxes))
    write(axes, 0.09 if colour else 0, 0.78, f"Concept {part.concept}", fontsize=11, weight="bold")
    style = {"fontsize": 10, "color": FOR_TEXT if positive else AGAINST_TEXT}
    write(axes, 0, 0.44, wording.side(part), **style)
    write(axes, 1, 0.44, wording.signed_percent(part.share), ha="right", weight="bold", **style)
    axes.barh(0, 2, left=-1, height=1, color=TILE)
    bar = (
        {"color": FOR}
        if positive
        else {"facecolor": AGAINST, "edgecolor": AGAINST_TEXT, "hatch": "////", "linewidth": 0}
    )
    axes.barh(0, part.share / (widest or 1), height=1, **bar)
    axes.plot([0, 0], [-0.5, 0.5], color=SOFT, linewidth=0.8)
    # The bar takes the lowest eighth of the axes, the texts what is above it.
    axes.set(xlim=(-1, 1), ylim=(-1.0, 7.0))
    axes.set_axis_off()


def draw_patches(axes: Axes, patches: Sequence[Patch], *, places: int) -> None:
    """Patches in a row of square places, each whole, with what the concept does not look at washed out."""
    for place, patch in enumerate(patches[:places]):
        height, width = patch.heatmap.shape
        half = np.array([width, height]) / max(width, height) * 0.47
        extent = (place + 0.5 - half[0], place + 0.5 + half[0], 0.5 - half[1], 0.5 + half[1])
        axes.imshow(images.veiled(patch.picture, patch.heatmap, 0.65), extent=extent, interpolation="antialiased")
    axes.set(xlim=(0, places), ylim=(0, 1), aspect="equal")
    axes.set_axis_off()
    axes.set_anchor("W")


def draw_concept_map(axes: Axes, picture: np.ndarray, concept_map: ConceptMap, colours: Mapping[int, str]) -> None:
    """The strongest concept of each cell over the faded picture: one colour and number a concept, blank cells blank."""
    rows, columns = concept_map.concept.shape
    height, width = concept_map.shape
    cell = np.array([width / columns, height / rows])
    draw_picture(axes, images.faded(picture))
    # Cells are given in pixels, whose centres imshow puts at whole numbers.
    corner = np.array([-0.5, -0.5])
    strongest = float(concept_map.relevance.max()) or 1.0
    for concept in concept_map.strength():
        mask = concept_map.concept == concept
        for row, column in np.argwhere(mask):
            alpha = palette.cell_opacity(concept_map.relevance[row, column], strongest)
            place = corner + np.array([column, row]) * cell
            axes.add_patch(Rectangle(tuple(place), *cell, facecolor=colours[concept], alpha=alpha, linewidth=0))
        edges = images.contour(mask)[..., ::-1] * cell + corner
        axes.add_collection(LineCollection(edges, colors=colours[concept], linewidths=1.2, capstyle="projecting"))
        for row, column in images.label_cells(mask):
            x, y = corner + (np.array([column, row]) + 0.5) * cell
            label = axes.text(x, y, str(concept), fontsize=7.5, weight="bold", color="white", ha="center", va="center")
            label.set_path_effects([withStroke(linewidth=1.6, foreground="#14161a")])
    axes.set(xlim=(-0.5, picture.shape[1] - 0.5), ylim=(picture.shape[0] - 0.5, -0.5))


def draw_legend(axes: Axes, layer: LayerExplanation, colours: Mapping[int, str], *, per_row: int = 5) -> None:
    """Colour and number of the concepts of the layer's map; bold are those that have a row of their own."""
    shown = {part.concept for part in layer.ranked}
    entries = list(colours.items())[: 4 * per_row]
    for index, (concept, colour) in enumerate(entries):
        row, column = divmod(index, per_row)
        x, y = column / per_row, 1 - (row + 0.5) / 4
        axes.add_patch(Rectangle((x, y - 0.06), 0.035, 0.12, color=colour, transform=axes.transAxes))
        known = concept in shown
        write(
            axes,
            x + 0.05,
            y,
            str(concept),
            fontsize=8.5,
            weight="bold" if known else "normal",
            color=INK if known else SOFT,
        )
    axes.set_axis_off()


def draw_graph(axes: Axes, graph: ConceptGraph) -> None:
    """An attribution graph: one row a layer, edges as wide as their share, those against dashed.

    Nodes show their patch, their conditional heatmap where there is one, their name and their share of the whole
    prediction. Call it when the axes have their size: texts and lines are measured against it.
    """
    place = graph_places(graph)
    rows = 1 + max(row for _, row in place.values())
    columns = max(sum(row == other for _, other in place.values()) for row in range(rows))
    # A node is one unit wide and stands 1.15 from the next; rows lie two units apart.
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
        pictures = [] if node.patch is None else [images.squared(node.patch.picture, 64)]
        if node.heatmap is not None:
            pictures.append(images.squared(images.colours(node.heatmap), 64))
        for index, picture in enumerate(pictures):
            left, bottom = x + 0.48 * (index - len(pictures) / 2), y - 0.14
            axes.imshow(
                picture, extent=(left, left + 0.46, bottom, bottom + 0.46), interpolation="antialiased", zorder=3
            )
            frame = Rectangle((left, bottom), 0.46, 0.46, fill=False, edgecolor=REST, linewidth=0.6, zorder=4)
            axes.add_patch(frame)
        style = {"transform": axes.transData, "ha": "center", "va": "center", "fontsize": font, "zorder": 5}
        name = wording.shortened(node.name or str(node.concept), 16)
        write(axes, x, y - 0.16 - 0.6 * line, name, weight="bold", **style)
        colour = FOR_TEXT if node.relevance >= 0 else AGAINST_TEXT
        write(axes, x, y - 0.16 - 1.6 * line, wording.share_of_all(node.share), **style | {"color": colour})
    for layer in dict.fromkeys(node.layer for node in graph.nodes):
        row = next(place[node.key][1] for node in graph.nodes if node.layer == layer)
        name = "prediction" if layer == graph.layers[0] and graph.root.name else wording.shortened(layer, 20)
        style = {"transform": axes.transData, "ha": "center", "va": "center", "fontsize": font, "rotation": 90}
        write(axes, -0.45, -2.0 * row, name, color=SOFT, **style)
    # Pictures set limits of their own.
    axes.set(xlim=(-0.6, span), ylim=(low, high))


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
    ends = (wording.node_name(graph.node(*key)) for key in (edge.upper, edge.lower))
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
            label=" → ".join(ends),
        )
    )
