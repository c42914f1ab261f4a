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
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.text import Text

from crp.explanations import ConceptMap, ConceptPart, Explanation, LayerExplanation, Patch
from crp.graphs.concept_graph import ConceptGraph, GraphEdge, Key
from crp.visualization import encoding as images
from crp.visualization import wording
from crp.visualization.colours import AGAINST, AGAINST_TEXT, FOR, FOR_TEXT, INK, REST, SOFT, TILE
from crp.visualization.figures.renderers import Renderer, renderer_for, renderer_of
from crp.visualization.figures.renderers.marks import AGAINST_OUTLINE
from crp.visualization.graph_layout import edge_width
from crp.visualization.graph_layout import places as graph_places

DIVERGING = ListedColormap(images.DIVERGING / 255, name="crp_diverging")


def write(axes: Axes, x: float, y: float, text: str, **style: Any) -> Text:
    """Put one line of plain text at (x, y) in the coordinates of the axes."""
    style = {"color": INK, "va": "center", "transform": axes.transAxes} | style
    artist = axes.text(x, y, wording.printable(text), **style)
    artist.set_parse_math(False)
    return artist


def draw_picture(
    axes: Axes, picture: np.ndarray, heatmap: np.ndarray | None = None, *, renderer: Renderer | None = None
) -> None:
    """The input, at the upper left of its place; of a volume, the slices in which the heatmap is strongest.

    Here and below the renderer is by default the one that fits the number of axes (`renderer_for`).
    """
    renderer = renderer or renderer_for(picture)
    renderer.draw_input(axes, picture, heatmap)


def draw_heatmap(
    axes: Axes,
    picture: np.ndarray,
    heatmap: np.ndarray,
    *,
    limit: float | None = None,
    power: float = 1.0,
    small: bool = False,
    renderer: Renderer | None = None,
) -> float:
    """A heatmap, float [*S], on what it belongs to; returns the magnitude at which its colours saturate.

    That is `limit`, where heatmaps share one, or fits the heatmap; below it colours follow `power` (`images.scaled`).
    Small ones have no labelled axes.
    """
    renderer = renderer or renderer_for(picture)
    return renderer.draw_heatmap(axes, picture, heatmap, limit, power, small=small)


def draw_colour_bar(
    axes: Axes,
    limit: float,
    *,
    power: float = 1.0,
    fontsize: float = 8,
    percent: bool = False,
    of: Axes | None = None,
) -> None:
    """The scale of a heatmap that saturates at ±limit, with both directions in words; of shares, in percent.

    A scale of another power than 1 (`images.ROOT`) is named, and says where there is room what its half colours mean.
    `of` are the axes with the heatmap: if they outline what speaks against, the scale names the outline.
    """
    full = (limit or 1) ** power
    mappable = ScalarMappable(Normalize(-full, full), DIVERGING)
    # Heatmaps have values beyond the limit, tables of shares have not.
    ends = {"extend": "neither" if percent else "both", "extendfrac": 0.03}
    bar = axes.figure.colorbar(mappable, cax=axes, orientation="horizontal", **ends)
    bar.outline.set_visible(False)
    end = wording.percent(limit) if percent else f"{limit:.2g}"
    outlined = of is not None and any(artist.get_label() == AGAINST_OUTLINE for artist in of.collections)
    against = "against (outlined)" if outlined else "against"
    places, labels = [-full, 0, full], [f"{wording.MINUS}{end}\n{against}", "0", f"+{end}\nfor"]
    if power != 1:
        labels[1] = "0\nroot scale"
        if axes.get_window_extent().width > 24 * fontsize * axes.figure.dpi / 72:
            half = f"{limit * 0.5 ** (1 / power):.2g}"
            places[1:2], labels[1:2] = [-full / 2, 0, full / 2], [f"{wording.MINUS}{half}", labels[1], f"+{half}"]
    bar.set_ticks(places, labels=labels)
    axes.tick_params(labelsize=fontsize, length=0, colors=SOFT, pad=fontsize / 4)
    for label, alignment in zip(axes.get_xticklabels()[:: len(places) - 1], ("left", "right"), strict=True):
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


def draw_share(axes: Axes, part: ConceptPart, *, widest: float, colour: str = "", fontsize: float = 11) -> None:
    """Number, verdict and signed share of one concept; its bar is full at an absolute share of `widest`."""
    positive = part.share >= 0
    if colour:
        axes.add_patch(Rectangle((0, 0.7), 0.06, 0.17, color=colour, transform=axes.transAxes))
    write(axes, 0.09 if colour else 0, 0.78, f"Concept {part.concept}", fontsize=fontsize, weight="bold")
    style = {"fontsize": 0.9 * fontsize, "color": FOR_TEXT if positive else AGAINST_TEXT}
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


def draw_patches(
    axes: Axes, patches: Sequence[Patch], *, places: int, ratio: float = 1.0, renderer: Renderer | None = None
) -> None:
    """Patches in a row of places, each whole, with what the concept does not look at washed out.

    A place is 1 high and `ratio` wide.
    """
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
    """The strongest concept of each cell: one colour and number a concept, blank cells blank."""
    renderer = renderer or renderer_for(picture)
    renderer.draw_concept_map(axes, picture, concept_map, colours)


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


def draw_graph(axes: Axes, graph: ConceptGraph, *, renderer: Renderer | None = None) -> float:
    """An attribution graph: one row a layer, edges as wide as their share, those against dashed.

    Nodes show their patch, their conditional heatmap where there is one, their name and their share of the whole
    prediction. All heatmaps share one scale of power `images.ROOT`; what is returned is the magnitude at which its
    colours saturate, 0 without heatmaps. Call it when the axes have their size: texts and lines are measured against
    it.
    """
    heatmaps = [node.heatmap for node in graph.nodes if node.heatmap is not None]
    limit = images.shared_limit(heatmaps)
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
