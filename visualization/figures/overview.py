"""The whole atlas as one matplotlib Figure.

All places are in inches from the upper left corner, because the atlas is a table of many small pictures of fixed size:
the figure grows with its rows, and no layout engine is needed. pyplot is not used. `crp.visualization.figures.paper`
draws single parts at the width of a paper's column.
"""

from __future__ import annotations

import os
from typing import Any, BinaryIO

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from crp.explanations import Explanation, LayerExplanation
from crp.graphs import ConceptGraph
from crp.visualization import colours as palette
from crp.visualization import concentration_wording, conservation_wording, effect_wording, graph_wording, wording
from crp.visualization import encoding as images
from crp.visualization.figures import artists
from crp.visualization.figures.renderers import Renderer, renderer_for
from crp.visualization.graph_layout import places
from crp.visualization.map_cells import outweighed
from crp.visualization.no_concept import outside

# The resolution that journals require in print.
_DOTS_PER_INCH = 300

WIDTH, MARGIN = 15.0, 0.55
# Heights of the graph's heading and of one of its rows.
GRAPH_HEAD, GRAPH_ROW = 0.9, 2.1
HEADER, SUMMARY, FOOTER = 0.95, 3.75, 0.75
LAYER_HEAD, ROW, LAYER_GAP = 1.55, 0.84, 0.2
# Height of the sentence above the ledger of a layer.
SENTENCE = 0.2
MAP = 3.0
# Height of the colour scale below a layer's rows.
ROW_BAR = 0.65
# Columns of a concept's row: its heatmap, its share, two strips of patches.
WHERE, SHARE, PATCH = 0.78, 1.75, 0.46
PLACES = 8


def atlas_figure(explanation: Explanation, *, renderer: Renderer | None = None) -> Figure:
    """Draw input, heatmap and classes; then each layer with its concepts, rest and concept map; then the graph.

    All heatmaps of a layer share one colour scale, as do all heatmaps of the graph. These scales grow with the square
    root of relevance, so that weak concepts are visible next to strong ones.

    Parameters
    ----------
    explanation
        What to draw.
    renderer
        How the input is drawn; by default chosen by the explanation's medium, or else by its number of axes
        (`crp.visualization.figures.renderers`).

    Returns
    -------
    Figure
        A new figure, not registered with pyplot, 15 inches wide (wider for inputs with wide heatmaps).
    """
    renderer = renderer or renderer_for(explanation.picture, explanation.medium)
    heights = [_layer_height(layer) for layer in explanation.layers]
    graph = _graph_height(explanation.graph)
    width = WIDTH + WHERE * (renderer.strip - 1)
    figure = Figure(figsize=(width, HEADER + SUMMARY + sum(heights) + graph + FOOTER), facecolor="white")
    _header(figure, explanation)
    _summary(figure, explanation, renderer, top=HEADER)
    top = HEADER + SUMMARY
    for layer, height in zip(explanation.layers, heights, strict=True):
        _layer(figure, explanation, layer, renderer, top=top)
        top += height
    if explanation.graph is not None:
        _graph(figure, explanation.graph, renderer, top=top, height=graph)
    _footer(figure, explanation)
    return figure


def save(figure: Figure, file: str | os.PathLike[str] | BinaryIO, **options: Any) -> None:
    """Write a figure at 300 dots per inch. Text stays text (SVG, PDF), and equal figures give equal bytes.

    Parameters
    ----------
    figure
        Any matplotlib figure.
    file
        A path, whose suffix names the format, or an open file together with the option `format`.
    options
        Options of `matplotlib.figure.Figure.savefig`, such as `dpi`.
    """
    # Without a date, so that equal figures give equal files.
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    kind = options.get("format") or os.path.splitext(os.fspath(file))[1][1:].lower()
    options = {"metadata": dates.get(kind), "dpi": _DOTS_PER_INCH} | options
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "crp-atlas", "pdf.fonttype": 42}):
        figure.savefig(file, **options)


def _layer_height(layer: LayerExplanation) -> float:
    rows = len(layer.ranked) * ROW + ROW_BAR
    beside = MAP + 0.95 if layer.concept_map is not None else 0
    return LAYER_HEAD + max(rows, beside) + LAYER_GAP


def _place(figure: Figure, left: float, top: float, width: float, height: float, label: str) -> Axes:
    full_width, full_height = figure.get_size_inches()
    box = (left / full_width, 1 - (top + height) / full_height, width / full_width, height / full_height)
    return figure.add_axes(box, label=label)


def _inner(figure: Figure) -> float:
    """Return the width between the margins."""
    return figure.get_size_inches()[0] - 2 * MARGIN


def _text_line(figure: Figure, top: float, label: str) -> Axes:
    axes = _place(figure, MARGIN, top, _inner(figure), 0.3, label)
    axes.set_axis_off()
    return axes


def _title(figure: Figure, left: float, top: float, text: str, *, label: str) -> None:
    axes = _place(figure, left, top, 3, 0.25, label)
    axes.set_axis_off()
    artists.write(axes, 0, 0.4, text, fontsize=9.5, color=artists.SOFT)


def _header(figure: Figure, explanation: Explanation) -> None:
    sentence = "".join(wording.shortened(text, 60) if name else text for text, name in wording.headline(explanation))
    axes = _text_line(figure, 0.35, "headline")
    artists.write(axes, 0, 0.5, sentence, fontsize=22 if len(sentence) < 80 else 15, weight="bold")


def _summary(figure: Figure, explanation: Explanation, renderer: Renderer, *, top: float) -> None:
    side = 2.75
    ratio = renderer.ratio(explanation.picture)
    left_edge, foot = renderer.margins
    # A wide input may be up to one and a half times as wide as a square one.
    box = min(side * ratio, side * 1.5)
    shown = box / ratio
    second = MARGIN + box + 0.35 + left_edge
    image = _place(figure, MARGIN + left_edge, top + 0.3, box - left_edge, shown, "input")
    drawn = {"renderer": renderer, "place": explanation.place}
    artists.draw_picture(image, explanation.picture, explanation.heatmap, **drawn)
    heatmap = _place(figure, second, top + 0.3, box - left_edge, shown, "heatmap")
    limit = artists.draw_heatmap(heatmap, explanation.picture, explanation.heatmap, **drawn)
    bar = _place(figure, second, top + 0.3 + shown + foot + 0.1, box - left_edge, 0.09, "colour bar")
    artists.draw_colour_bar(bar, limit, of=heatmap)
    left = MARGIN + 2 * box + 1.1
    classes = _place(figure, left, top + 0.3, min(5.2, MARGIN + _inner(figure) - left), side * 0.85, "classes")
    artists.draw_classes(classes, explanation)
    target = wording.shortened(wording.class_name(explanation.target), 24)
    title = wording.classes_title(explanation)
    for column, text in (
        (MARGIN, "input"),
        (second, f"relevance for {target}"),
        (left, title[0].lower() + title[1:]),
    ):
        _title(figure, column, top, text, label=f"{text} title")


def _layer(
    figure: Figure, explanation: Explanation, layer: LayerExplanation, renderer: Renderer, *, top: float
) -> None:
    ledger = wording.ledger(layer)
    head = _text_line(figure, top, f"{layer.layer} head")
    artists.write(
        head, 0, 0.5, f"{wording.shortened(layer.layer, 60)}  ·  {layer.size} concepts", fontsize=14, weight="bold"
    )
    said = _place(figure, MARGIN, top + 0.32, _inner(figure), 0.24, f"{layer.layer} concentration")
    said.set_axis_off()
    artists.write(said, 0, 0.5, concentration_wording.concentration(layer), fontsize=10.5)
    bar = _place(figure, MARGIN, top + 0.42 + SENTENCE, _inner(figure), 0.13, f"{layer.layer} ledger")
    artists.draw_ledger(bar, layer)
    account = "No relevance arrives at this layer."
    if layer.shown + layer.rest:
        account = (
            f"{ledger['for']} for + {ledger['against']} against + {ledger['rest']} in {wording.hidden(layer)} = 100 % "
            "of the layer's absolute relevance."
        )
    line = _text_line(figure, top + 0.58 + SENTENCE, f"{layer.layer} account")
    artists.write(line, 0, 0.5, f"{account}  {conservation_wording.coverage(layer)}", fontsize=9, color=artists.SOFT)
    if rest := "  ".join(filter(None, (outside(layer), effect_wording.overlooked(layer)))):
        line = _text_line(figure, top + 0.77 + SENTENCE, f"{layer.layer} rest")
        artists.write(line, 0, 0.5, rest, fontsize=9, color=artists.SOFT)

    colours = palette.concept_colours(explanation)[layer.layer]
    wide = WHERE * renderer.strip
    strips = MARGIN + wide + 0.2 + SHARE + 0.3
    second = strips + PLACES * PATCH + 0.25
    start = top + LAYER_HEAD
    for left, text in ((MARGIN, "where"), (strips, "most relevant for (RelMax)"), (second, "most active on (ActMax)")):
        _title(figure, left, start - 0.3, text, label=f"{layer.layer} {text} title")
    widest = max((abs(part.share) for part in layer.ranked), default=0)
    limit = images.shared_limit([part.heatmap for part in layer.ranked])
    for row, part in enumerate(layer.ranked):
        y = start + row * ROW
        name = f"{layer.layer} {part.concept}"
        where = _place(figure, MARGIN, y, wide, WHERE - 0.04, f"{name} where")
        scale = {"limit": limit, "power": images.ROOT, "renderer": renderer, "place": explanation.place}
        artists.draw_heatmap(where, explanation.picture, part.heatmap, **scale, small=True)
        where.set_anchor("W")
        share = _place(figure, MARGIN + wide + 0.2, y + 0.03, SHARE, 0.68, f"{name} share")
        artists.draw_share(share, part, widest=widest, name=layer.name_of(part.concept), colour=colours[part.concept])
        ratio = renderer.patch_ratio
        for left, kind in ((strips, "relevance"), (second, "activation")):
            axes = _place(figure, left, y + 0.13, PLACES * PATCH, PATCH, f"{name} {kind}")
            patches = getattr(part, f"{kind}_patches")
            count, missing = int(PLACES / ratio), part.patches_missing > 0
            artists.draw_patches(axes, patches, places=count, ratio=ratio, renderer=renderer, missing=missing)
    if layer.ranked:
        y = start + len(layer.ranked) * ROW + 0.02
        bar = _place(figure, MARGIN, y, wide + 0.2 + SHARE, 0.09, f"{layer.layer} bar")
        artists.draw_colour_bar(bar, limit, power=images.ROOT)
    if layer.concept_map is not None:
        left = MARGIN + _inner(figure) - MAP
        hatched = "; hatched: opposed" if outweighed(layer.concept_map).any() else ""
        _title(figure, left, start - 0.3, f"strongest supporters{hatched}", label=f"{layer.layer} map title")
        height = MAP * min(1, 1 / renderer.ratio(explanation.picture))
        left_edge, foot = renderer.margins
        axes = _place(figure, left + left_edge, start, MAP - left_edge, height, f"{layer.layer} map")
        artists.draw_concept_map(axes, explanation.picture, layer.concept_map, colours, renderer=renderer)
        legend = _place(figure, left, start + height + foot + 0.1, MAP, 0.8, f"{layer.layer} legend")
        artists.draw_legend(legend, layer, colours)


def _graph_height(graph: ConceptGraph | None) -> float:
    if graph is None:
        return 0.0
    return GRAPH_HEAD + GRAPH_ROW * (1 + max(row for _, row in places(graph).values())) + LAYER_GAP


def _graph(figure: Figure, graph: ConceptGraph, renderer: Renderer, *, top: float, height: float) -> None:
    head = _text_line(figure, top, "graph head")
    artists.write(head, 0, 0.5, "How concepts compose the prediction", fontsize=14, weight="bold")
    account = (
        "Edges are as wide as their share of the prediction, dashed ones speak against. "
        f"{graph_wording.edges_drawn(graph)}"
    )
    # Below the labels of the colour bar, because the sentence may be as long as the line.
    artists.write(_text_line(figure, top + 0.55, "graph account"), 0, 0.5, account, fontsize=9, color=artists.SOFT)
    axes = _place(figure, MARGIN, top + GRAPH_HEAD, _inner(figure), height - GRAPH_HEAD - LAYER_GAP, "graph")
    limit = artists.draw_graph(axes, graph, renderer=renderer)
    if limit:
        bar = _place(figure, MARGIN + _inner(figure) - 2.7, top + 0.12, 2.7, 0.09, "graph bar")
        artists.draw_colour_bar(bar, limit, power=images.ROOT)


def _footer(figure: Figure, explanation: Explanation) -> None:
    versions = explanation.provenance.get("versions", {})
    facts = [explanation.provenance.get("command", ""), *(f"{name} {version}" for name, version in versions.items())]
    _, height = figure.get_size_inches()
    axes = _text_line(figure, height - 0.5, "footer")
    line = "  ·  ".join(str(fact) for fact in [*facts, conservation_wording.absorbed(explanation)] if fact)
    artists.write(axes, 0, 0.5, wording.shortened(line, 220), fontsize=8, color=artists.SOFT)
