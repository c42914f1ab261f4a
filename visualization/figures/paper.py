"""The parts of an atlas as figures for a paper: one column or two wide, each a function that draws into given axes too.

    axes = plot_overview(explanation, width=TWO_COLUMNS)
    save(axes.figure, "overview.pdf")

========================  =============================================================================
`plot_overview`           input, heatmap, concept map and concepts of one layer
`plot_heatmap`            the input and its relevance
`plot_concepts`           one row a concept: where, share, patches
`plot_concept_map`        the strongest concept of each cell, with patches as legend
`plot_graph`              an attribution graph
`plot_class_profile`      which classes use which concepts
========================  =============================================================================

Without `ax` each makes a Figure of its own, as high as its content needs, unknown to pyplot; with `ax` it fills the
axes given, whose size must be final (texts and pictures are measured against it). What is returned is the Axes, whose
`figure` is saved by `save` with its texts as text. Texts have 5 to 8 points. Heatmaps that stand side by side share a
colour scale, with a bar, on which colours grow with the root of relevance, so that weak concepts are seen beside strong
ones; `limit` shares it between figures. Signs are also carried by words, signs and hatching.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from crp.errors import InputError, nearest
from crp.explanations import Explanation, LayerExplanation, Patch
from crp.visualization import colours as palette
from crp.visualization import encoding as images
from crp.visualization import wording
from crp.visualization.colours import SOFT
from crp.visualization.figures import artists
from crp.visualization.figures.class_table import plot_class_profile
from crp.visualization.figures.graph_figure import plot_graph
from crp.visualization.figures.overview import save
from crp.visualization.figures.panel import (
    BAR,
    FONT,
    GAP,
    LINE,
    ONE_COLUMN,
    SMALL,
    TWO_COLUMNS,
    Panel,
    width_of,
)
from crp.visualization.figures.renderers import Renderer, renderer_for
from crp.visualization.map_cells import outweighed

__all__ = [
    "ONE_COLUMN",
    "TWO_COLUMNS",
    "plot_class_profile",
    "plot_concept_map",
    "plot_concepts",
    "plot_graph",
    "plot_heatmap",
    "plot_overview",
    "save",
]

SHARE = 0.95
ROW, PATCH = 0.52, 0.4


def plot_heatmap(
    explanation: Explanation,
    *,
    ax: Axes | None = None,
    width: float = ONE_COLUMN,
    limit: float | None = None,
    renderer: Renderer | None = None,
) -> Axes:
    """Draw the input and, beside it, its relevance with a colour bar; wide inputs stand above each other.

    Parameters
    ----------
    explanation
        What to draw.
    ax
        Axes to fill; by default those of a new figure.
    width
        Width of the new figure, in inches.
    limit
        Magnitude of relevance at which colours saturate; by default all but 0.2 % of the values lie below it.
    renderer
        How the input is drawn, by default as its number of axes says (`crp.visualization.figures.renderers`).

    Returns
    -------
    Axes
        `ax`, or the new ones.
    """
    renderer = renderer or renderer_for(explanation.picture)
    sheet = Panel(ax, width, _heatmap_height(explanation, renderer, width_of(ax, width)), "heatmap panel")
    stacked, box, height = _heatmap_boxes(explanation, renderer, sheet.width)
    margin, foot = renderer.margins
    below = height + foot + LINE + 0.04
    second = (0.0, below) if stacked else (box + GAP, 0.0)

    def panel(left: float, top: float, title: str, label: str) -> Axes:
        # a letter is about a twentieth of an inch wide
        sheet.write(left + margin, top + LINE / 2, wording.shortened(title, int(box * 20)), color=SOFT)
        return sheet.place(left + margin, top + LINE, box - margin, height, label)

    axes = panel(0, 0, "input", "input")
    artists.draw_picture(axes, explanation.picture, explanation.heatmap, renderer=renderer)
    axes = panel(*second, f"relevance for {wording.subject(explanation)}", "relevance")
    drawn = artists.draw_heatmap(axes, explanation.picture, explanation.heatmap, limit=limit, renderer=renderer)
    bar = sheet.place(second[0] + margin, second[1] + LINE + height + foot + 0.05, box - margin, 0.07, "colour bar")
    artists.draw_colour_bar(bar, drawn, fontsize=SMALL, of=axes)
    return sheet.axes


def plot_concepts(
    explanation: Explanation,
    layer: str | None = None,
    *,
    concepts: int = 5,
    ax: Axes | None = None,
    width: float = ONE_COLUMN,
    limit: float | None = None,
    renderer: Renderer | None = None,
) -> Axes:
    """Draw the concepts of a layer, one row each: where in the input, signed share, patches.

    Where there is room (more than five inches) patches are of both kinds, otherwise only the most relevant ones. The
    last line says what the rows hold of the layer's absolute relevance and what is left.

    Parameters
    ----------
    explanation
        What to draw.
    layer
        Name of a layer of it, by default the first.
    concepts
        Rows, at most; the largest absolute shares come first.
    ax, width, limit, renderer
        As in `plot_heatmap`; all concepts of the layer share one scale.

    Returns
    -------
    Axes
        `ax`, or the new ones.

    Raises
    ------
    InputError
        There is no such layer.
    """
    found = _layer(explanation, layer)
    renderer = renderer or renderer_for(explanation.picture)
    parts = found.ranked[:concepts]
    sheet = Panel(ax, width, _concepts_height(len(parts)), "concepts panel")
    row = min(ROW, (sheet.height - LINE - BAR - LINE) / max(1, len(parts)))
    both = sheet.width > 5
    wide = min((row - 0.06) * renderer.strip, 0.32 * sheet.width)
    first = wide + 0.08 + SHARE + 0.12
    room = sheet.width - first if not both else (sheet.width - first - GAP) / 2
    height = min(PATCH, row - 0.04)
    count = int(room / (height * renderer.patch_ratio))
    columns = [(first, "most relevant for", "relevance")]
    if both:
        columns.append((first + room + GAP, "most active on", "activation"))
    if not _has_patches(found):
        columns = []
    for left, title in ((0.0, "where"), (wide + 0.08, "share"), *((left, title) for left, title, _ in columns)):
        sheet.write(left, LINE / 2, title, color=SOFT)
    # One scale for the layer, however many of its concepts have a row.
    limit = images.shared_limit([part.heatmap for part in found.ranked]) if limit is None else limit
    widest = max((abs(part.share) for part in parts), default=0)
    colours = palette.concept_colours(explanation)[found.layer]
    for index, part in enumerate(parts):
        top = LINE + index * row
        where = sheet.place(0, top, wide, row - 0.06, f"{part.concept} where")
        scale = {"limit": limit, "power": images.ROOT}
        artists.draw_heatmap(where, explanation.picture, part.heatmap, **scale, small=True, renderer=renderer)
        where.set_anchor("W")
        share = sheet.place(wide + 0.08, top, SHARE, row - 0.08, f"{part.concept} share")
        artists.draw_share(share, part, widest=widest, colour=colours[part.concept], fontsize=FONT)
        for left, _, kind in columns:
            strip = sheet.place(left, top + (row - 0.06 - height) / 2, room, height, f"{part.concept} {kind}")
            patches = getattr(part, f"{kind}_patches")
            artists.draw_patches(strip, patches, places=count, ratio=renderer.patch_ratio, renderer=renderer)
    foot = LINE + len(parts) * row
    if parts:
        bar = sheet.place(0, foot + 0.03, wide + 0.08 + SHARE, 0.07, "colour bar")
        artists.draw_colour_bar(bar, limit, power=images.ROOT, fontsize=SMALL)
        sheet.write(wide + 0.08 + SHARE + 0.15, foot + 0.07, "one scale for the layer", color=SOFT)
    shown = sum(abs(part.share) for part in parts)
    account = f"{wording.percent(shown)} shown + {wording.percent(1 - shown)} in {found.size - len(parts)} others"
    if not found.shown + found.rest:
        account = "No relevance arrives at this layer."
    sheet.write(0, foot + BAR + LINE / 2, account, color=SOFT)
    return sheet.axes


def plot_concept_map(
    explanation: Explanation,
    layer: str | None = None,
    *,
    ax: Axes | None = None,
    width: float = ONE_COLUMN,
    renderer: Renderer | None = None,
) -> Axes:
    """Draw the concept map of a layer, and beside it its concepts with the patches that show them best.

    Of the concepts of the map those with most relevance in it are listed, as many as fit; the line below counts the
    others. Patches are there for concepts that have a card or a glimpse (`crp.explain`).

    Parameters
    ----------
    explanation
        What to draw.
    layer
        Name of a layer of it, by default the first.
    ax, width, renderer
        As in `plot_heatmap`.

    Returns
    -------
    Axes
        `ax`, or the new ones.

    Raises
    ------
    InputError
        There is no such layer, or it has no concept map.
    """
    found = _layer(explanation, layer)
    if found.concept_map is None:
        raise InputError(f"Layer {found.layer!r} has no concept map: it has no place in the input.")
    renderer = renderer or renderer_for(explanation.picture)
    sheet = Panel(ax, width, _map_height(explanation, found, renderer, width_of(ax, width)), "concept map panel")
    stacked, box, height = _map_boxes(explanation, renderer, sheet.width)
    margin, foot = renderer.margins
    height = min(height, sheet.height - LINE - foot)
    against = "; hatched: opposed" if outweighed(found.concept_map).any() else ""
    sheet.write(margin, LINE / 2, f"strongest supporter{against}", color=SOFT)
    axes = sheet.place(margin, LINE, box - margin, height, "map")
    colours = palette.concept_colours(explanation)[found.layer]
    artists.draw_concept_map(axes, explanation.picture, found.concept_map, colours, renderer=renderer)
    left, top = (0.0, LINE + height + foot + 0.08) if stacked else (box + GAP, LINE)
    row = PATCH + 0.03
    rows = max(1, int((sheet.height - top - LINE) / row))
    on_map = list(found.concept_map.strength())
    listed = on_map[:rows]
    start = left + 0.38
    count = int((sheet.width - start) / (PATCH * renderer.patch_ratio))
    for index, concept in enumerate(listed):
        y = top + index * row
        swatch = sheet.place(left, y + PATCH / 2 - 0.05, 0.1, 0.1, f"{concept} colour")
        swatch.add_patch(Rectangle((0, 0), 1, 1, color=colours[concept]))
        swatch.set_axis_off()
        sheet.write(left + 0.15, y + PATCH / 2, str(concept), fontsize=FONT, weight="bold")
        strip = sheet.place(start, y, sheet.width - start, PATCH, f"{concept} patches")
        artists.draw_patches(
            strip, _patches(found, concept), places=count, ratio=renderer.patch_ratio, renderer=renderer
        )
    others = len(on_map) - len(listed)
    if others:
        sheet.write(left, top + len(listed) * row + LINE / 2, f"and {others} more in the map", color=SOFT)
    return sheet.axes


def plot_overview(
    explanation: Explanation,
    layer: str | None = None,
    *,
    concepts: int = 4,
    ax: Axes | None = None,
    width: float = TWO_COLUMNS,
    renderer: Renderer | None = None,
) -> Axes:
    """Draw one prediction on one layer: (a) input and relevance, (b) concept map, (c) concepts.

    In two columns (more than five inches) a and b stand side by side, otherwise all stand below each other. A layer
    without a concept map goes without b.

    Parameters
    ----------
    explanation
        What to draw.
    layer
        Name of a layer of it, by default the first.
    concepts
        Rows of c, at most.
    ax, width, renderer
        As in `plot_heatmap`.

    Returns
    -------
    Axes
        `ax`, or the new ones.

    Raises
    ------
    InputError
        There is no such layer.
    """
    found = _layer(explanation, layer)
    renderer = renderer or renderer_for(explanation.picture)
    total = width_of(ax, width)
    mapped = found.concept_map is not None
    # What stands beside a where there is room: b, or c if it needs none for patches.
    beside = total > 5 and (mapped or not _has_patches(found))
    margin = 0.14
    # So that the three pictures of the first line are of one size.
    first = (total - 2 * GAP) * 0.539 if beside else total
    second = total - first - 2 * GAP if beside else total
    heights = [_heatmap_height(explanation, renderer, first - margin)]
    if mapped:
        heights.append(_map_height(explanation, found, renderer, second - margin))
    heights.append(_concepts_height(min(concepts, len(found.ranked))))
    if beside:
        heights[:2] = [max(heights[:2])] * 2
    places, top = [], 0.0
    for index, height in enumerate(heights):
        if beside and index < 2:
            places.append((0.0 if index == 0 else first + 2 * GAP, 0.0, first if index == 0 else second, height))
        else:
            places.append((0.0, top, total, height))
        top = max(top, places[-1][1] + height + GAP)
    sheet = Panel(ax, width, top - GAP, "overview")
    # Axes that are too low squeeze all parts alike.
    squeeze = min(1.0, sheet.height / (top - GAP))
    panels = []
    for letter, (left, top, wide, height) in zip("abc", places, strict=False):
        sheet.write(left, top * squeeze + LINE / 2, letter, fontsize=8, weight="bold")
        panels.append(sheet.place(left + margin, top * squeeze, wide - margin, height * squeeze, f"panel {letter}"))
    plot_heatmap(explanation, ax=panels[0], renderer=renderer)
    if mapped:
        plot_concept_map(explanation, layer, ax=panels[1], renderer=renderer)
    plot_concepts(explanation, layer, concepts=concepts, ax=panels[-1], renderer=renderer)
    return sheet.axes


def _layer(explanation: Explanation, name: str | None) -> LayerExplanation:
    layers = {layer.layer: layer for layer in explanation.layers}
    if not layers:
        raise InputError("The explanation has no layer to draw.")
    if name is None:
        return explanation.layers[0]
    if name not in layers:
        raise InputError(f"The explanation has no layer {name!r}: {nearest(name, list(layers))}")
    return layers[name]


def _has_patches(layer: LayerExplanation) -> bool:
    return any(part.relevance_patches or part.activation_patches for part in layer.ranked)


def _patches(layer: LayerExplanation, concept: int) -> tuple[Patch, ...]:
    for part in layer.ranked:
        if part.concept == concept:
            return part.relevance_patches
    return (layer.glimpses[concept],) if concept in layer.glimpses else ()


def _heatmap_boxes(explanation: Explanation, renderer: Renderer, width: float) -> tuple[bool, float, float]:
    """Whether input and heatmap stand above each other, the width of a box with its margin, its height."""
    ratio = renderer.ratio(explanation.picture)
    stacked = ratio > 1.6
    box = width if stacked else (width - GAP) / 2
    return stacked, box, (box - renderer.margins[0]) / ratio


def _heatmap_height(explanation: Explanation, renderer: Renderer, width: float) -> float:
    stacked, _, height = _heatmap_boxes(explanation, renderer, width)
    one = LINE + height + renderer.margins[1]
    return (2 * one + 0.04 if stacked else one) + BAR


def _map_boxes(explanation: Explanation, renderer: Renderer, width: float) -> tuple[bool, float, float]:
    """Whether the legend stands below, the width of the map with its margin, its height."""
    ratio = renderer.ratio(explanation.picture)
    stacked = ratio > 1.6
    box = width if stacked else 0.57 * width
    return stacked, box, (box - renderer.margins[0]) / ratio


def _map_height(explanation: Explanation, layer: LayerExplanation, renderer: Renderer, width: float) -> float:
    stacked, _, height = _map_boxes(explanation, renderer, width)
    legend = min(5, len(layer.concept_map.strength())) * (PATCH + 0.03) + LINE
    foot = renderer.margins[1]
    return LINE + (height + foot + 0.08 + legend if stacked else max(height + foot, legend))


def _concepts_height(rows: int) -> float:
    return LINE + rows * ROW + BAR + LINE
