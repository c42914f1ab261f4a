"""An attribution graph as a figure for a paper."""

from __future__ import annotations

from matplotlib.axes import Axes

from crp.graphs import ConceptGraph
from crp.visualization import encoding as images
from crp.visualization import wording
from crp.visualization.colours import SOFT
from crp.visualization.figures import artists
from crp.visualization.figures.panel import BAR, SMALL, TWO_COLUMNS, Panel, width_of
from crp.visualization.figures.renderers import Renderer
from crp.visualization.graph_layout import places


def plot_graph(
    graph: ConceptGraph,
    *,
    ax: Axes | None = None,
    width: float = TWO_COLUMNS,
    renderer: Renderer | None = None,
) -> Axes:
    """Draw an attribution graph: a row per layer, edges as wide as their share of the prediction, negative ones dashed.

    Parameters
    ----------
    graph
        The graph. Many concepts in one layer need the width of two columns, or a smaller `breadth` in `crp.compose`.
    ax, width, renderer
        As in `plot_heatmap`; heatmaps of all nodes share one scale.

    Returns
    -------
    Axes
        `ax`, or the new ones.
    """
    place = places(graph)
    rows = 1 + max(row for _, row in place.values())
    columns = max(sum(row == other for _, other in place.values()) for row in range(rows))
    bar = BAR if any(node.heatmap is not None for node in graph.nodes) else 0.0
    height = width_of(ax, width) * (2 * rows - 0.45) / (1.15 * columns + 0.6) + bar
    sheet = Panel(ax, width, height, "graph panel")
    axes = sheet.place(0, 0, sheet.width, sheet.height - bar, "graph")
    limit = artists.draw_graph(axes, graph, renderer=renderer)
    if bar:
        scale = sheet.place(0.1, sheet.height - bar + 0.02, min(2.2, sheet.width - 0.2), 0.07, "colour bar")
        artists.draw_colour_bar(scale, limit, power=images.ROOT, fontsize=SMALL)
        if graph.started < 0:
            note = f"{wording.number(graph.started)} is explained: positive shares make it more negative"
            sheet.write(min(2.2, sheet.width - 0.2) + 0.3, sheet.height - bar + 0.06, note, color=SOFT)
    return sheet.axes
