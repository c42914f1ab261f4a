"""The parts of an atlas as figures for a paper, one or two columns wide. Each function can also draw into given axes.

    axes = plot_overview(explanation, width=TWO_COLUMNS)
    save(axes.figure, "overview.pdf")

========================  =============================================================================
`plot_overview`           input, heatmap, concept map and concepts of one layer
`plot_heatmap`            the input and its relevance
`plot_concepts`           one row per concept: heatmap, share, patches
`plot_concept_map`        the strongest concept of each cell, with patches as legend
`plot_graph`              an attribution graph
`plot_class_profile`      which classes use which concepts
========================  =============================================================================

Without `ax`, a function creates a Figure as high as its content needs, not registered with pyplot. With `ax`, it fills
the given axes. Their size must be final, because texts and pictures are placed by it. The functions return the Axes;
`save(axes.figure, path)` writes the figure and keeps text as text. Font sizes are 5 to 8 points.

Heatmaps side by side share a colour scale, which is shown as a bar. It grows with the square root of relevance, so that
weak concepts are visible next to strong ones. Pass the same `limit` to share a scale between figures. The sign of
relevance is also shown by words, signs and hatching.
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
    """Draw the input and its relevance with a colour bar, side by side, or one above the other for wide inputs.

    Parameters
    ----------
    explanation
        What to draw.
    ax
        Axes to fill; by default new ones in a new figure.
    width
        Width of the new figure, in inches.
    limit
        Magnitude of relevance at which colours saturate; by default 0.2 % of the values are larger.
    renderer
        How the input is drawn; by default chosen by the explanation's medium, or else by its number of axes
        (`crp.visualization.figures.renderers`).

    Returns
    -------
    Axes
        `ax`, or the new ones.
    """
    renderer = renderer or renderer_for(explanation.picture, explanation.medium)
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
    shown = {"renderer": renderer, "place": explanation.place}
    artists.draw_picture(axes, explanation.picture, explanation.heatmap, **shown)
    axes = panel(*second, f"relevance for {wording.subject(explanation)}", "relevance")
    drawn = artists.draw_heatmap(axes, explanation.picture, explanation.heatmap, limit=limit, **shown)
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
    """Draw the concepts of a layer, one row each: heatmap, signed share, patches.

    Figures wider than five inches show patches of both kinds (RelMax and ActMax), others only RelMax. The last line
    says how much of the layer's absolute relevance the rows hold, and how much is left.

    Parameters
    ----------
    explanation
        What to draw.
    layer
        Name of one of its layers; by default the first.
    concepts
        Largest number of rows; the largest absolute shares come first.
    ax, width, limit, renderer
        As in `plot_heatmap`; all concepts of the layer share one scale.

    Returns
    -------
    Axes
        `ax`, or the new ones.

    Raises
    ------
    InputError
        If there is no such layer.
    """
    found = _layer(explanation, layer)
    renderer = renderer or renderer_for(explanation.picture, explanation.medium)
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
    # The scale of the whole layer, even if only some of its concepts have a row.
    limit = images.shared_limit([part.heatmap for part in found.ranked]) if limit is None else limit
    widest = max((abs(part.share) for part in parts), default=0)
    colours = palette.concept_colours(explanation)[found.layer]
    for index, part in enumerate(parts):
        top = LINE + index * row
        where = sheet.place(0, top, wide, row - 0.06, f"{part.concept} where")
        scale = {"limit": limit, "power": images.ROOT, "renderer": renderer, "place": explanation.place}
        artists.draw_heatmap(where, explanation.picture, part.heatmap, **scale, small=True)
        where.set_anchor("W")
        share = sheet.place(wide + 0.08, top, SHARE, row - 0.08, f"{part.concept} share")
        name = found.name_of(part.concept)
        artists.draw_share(share, part, widest=widest, name=name, colour=colours[part.concept], fontsize=FONT)
        for left, _, kind in columns:
            strip = sheet.place(left, top + (row - 0.06 - height) / 2, room, height, f"{part.concept} {kind}")
            patches = getattr(part, f"{kind}_patches")
            drawn = {"places": count, "ratio": renderer.patch_ratio, "renderer": renderer}
            artists.draw_patches(strip, patches, **drawn, missing=part.patches_missing > 0)
    foot = LINE + len(parts) * row
    if parts:
        across = min(wide + 0.08 + SHARE, sheet.width - 1.25)  # the words need an inch beside it
        bar = sheet.place(0, foot + 0.03, across, 0.07, "colour bar")
        artists.draw_colour_bar(bar, limit, power=images.ROOT, fontsize=SMALL)
        sheet.write(across + 0.15, foot + 0.07, "one scale for the layer", color=SOFT)
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
    """Draw the concept map of a layer, with a list of its concepts and their best patches.

    The list holds the concepts with most relevance in the map, as many as fit; the line below it counts the others.
    Patches are shown for concepts that are among the explanation's ranked ones or have a glimpse (`LayerExplanation`).

    Parameters
    ----------
    explanation
        What to draw.
    layer
        Name of one of its layers; by default the first.
    ax, width, renderer
        As in `plot_heatmap`.

    Returns
    -------
    Axes
        `ax`, or the new ones.

    Raises
    ------
    InputError
        If there is no such layer, or it has no concept map.
    """
    found = _layer(explanation, layer)
    if found.concept_map is None:
        raise InputError(f"Layer {found.layer!r} has no concept map, because it has no spatial axes.")
    renderer = renderer or renderer_for(explanation.picture, explanation.medium)
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
    """Draw one prediction at one layer: (a) input and relevance, (b) concept map, (c) concepts.

    In figures wider than five inches, a and b are side by side; otherwise the parts are stacked. Without a concept map,
    b is left out.

    Parameters
    ----------
    explanation
        What to draw.
    layer
        Name of one of its layers; by default the first.
    concepts
        Largest number of rows in c.
    ax, width, renderer
        As in `plot_heatmap`.

    Returns
    -------
    Axes
        `ax`, or the new ones.

    Raises
    ------
    InputError
        If there is no such layer.
    """
    found = _layer(explanation, layer)
    renderer = renderer or renderer_for(explanation.picture, explanation.medium)
    total = width_of(ax, width)
    mapped = found.concept_map is not None
    # Next to a, if there is room: b, or c if it has no patches.
    beside = total > 5 and (mapped or not _has_patches(found))
    margin = 0.14
    # This ratio makes the three pictures of the first line equally large.
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
    # If the given axes are too low, all parts are shrunk alike.
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
    """Whether any concept has patches, or has some that have not been made yet."""
    return any(part.relevance_patches or part.activation_patches or part.patches_missing for part in layer.ranked)


def _patches(layer: LayerExplanation, concept: int) -> tuple[Patch, ...]:
    for part in layer.ranked:
        if part.concept == concept:
            return part.relevance_patches
    return (layer.glimpses[concept],) if concept in layer.glimpses else ()


def _heatmap_boxes(explanation: Explanation, renderer: Renderer, width: float) -> tuple[bool, float, float]:
    """Return whether input and heatmap are stacked, the width of a box with its margin, and its height."""
    ratio = renderer.ratio(explanation.picture)
    stacked = ratio > 1.6
    box = width if stacked else (width - GAP) / 2
    return stacked, box, (box - renderer.margins[0]) / ratio


def _heatmap_height(explanation: Explanation, renderer: Renderer, width: float) -> float:
    stacked, _, height = _heatmap_boxes(explanation, renderer, width)
    one = LINE + height + renderer.margins[1]
    return (2 * one + 0.04 if stacked else one) + BAR


def _map_boxes(explanation: Explanation, renderer: Renderer, width: float) -> tuple[bool, float, float]:
    """Return whether the legend is below the map, the width of the map with its margin, and its height."""
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
