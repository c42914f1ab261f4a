"""Deletion and insertion curves of the rankings of a layer."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from crp.evaluation import LayerEvaluation
from crp.visualization import wording
from crp.visualization.colours import INK, SOFT
from crp.visualization.figures.profile_plots import plain_axes

# Told apart in grey print by dashes and markers. The explanation itself is the only thick line.
_LINES = {
    "relevance": {"color": INK, "linewidth": 2.2},
    "activation": {"color": "#8a5a00", "linestyle": (0, (1, 1.5))},
    "gradient × part": {"color": "#1d5a9c", "linestyle": (0, (6, 2))},
    "integrated gradients": {"color": "#1d5a9c", "linestyle": (0, (6, 2, 1, 2)), "marker": "x", "markersize": 4},
    "single effects": {"color": "#b3470c", "linestyle": "-", "marker": "o", "markersize": 2.5},
    "random": {"color": SOFT, "linestyle": (0, (2, 2))},
}
_TITLES = {"deletion": "concepts removed, highest first", "insertion": "concepts put back, highest first"}
_FILLS = {"zero": "removed concepts become zero", "mean": "removed concepts become their mean"}


def evaluation_figure(layer: LayerEvaluation, width: float = 10.5) -> Figure:
    """Draw all curves of a layer, one panel for deletion and insertion with each fill.

    Parameters
    ----------
    layer
        The evaluation of a layer.
    width
        Width of the figure in inches.
    """
    keys = list(layer.rankings[0].curves)
    figure = Figure((width, width * 0.31), layout="constrained")
    panels = figure.subplots(1, len(keys), sharey=True, squeeze=False)[0]
    for panel, (kind, fill) in zip(panels, keys, strict=True):
        _draw(panel, layer, kind, fill)
    panels[0].set_ylabel("explained output, relative to the original", fontsize=8, color=SOFT)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8, frameon=False)
    return figure


def _draw(axes: Axes, layer: LayerEvaluation, kind: str, fill: str) -> None:
    percents = [fraction * 100 for fraction in layer.fractions]
    for ranking in layer.rankings:
        axes.plot(percents, ranking.curves[kind, fill].mean, label=ranking.name, **_LINES[ranking.name])
    axes.set_title(f"{_TITLES[kind]}\n{_FILLS[fill]}", fontsize=8.5, loc="left", color=INK)
    axes.set_xlabel("% of the concepts", fontsize=8, color=SOFT)
    axes.axhline(0, color=SOFT, linewidth=0.6)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}".replace("-", wording.MINUS))
    plain_axes(axes, fontsize=8)
