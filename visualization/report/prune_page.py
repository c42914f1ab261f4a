"""What taking out filters changed, as one HTML file that opens offline, with the accuracy curve."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from crp.correction.figures_of_pruning import PruningFigures
from crp.library import Library
from crp.visualization.number_formats import SPACE
from crp.visualization.report.changes import change_views, percent
from crp.visualization.report.documents import document

# The plot of the curve, in units of its drawing: width and height, and the space around it for numbers.
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 560, 240, 52, 16, 44


def prune_report(figures: PruningFigures, method: str, data: Tensor, library: Library) -> str:
    """Write the page.

    Parameters
    ----------
    figures
        What was measured.
    method
        What was done, in words.
    data
        The samples that were measured, `[N, c, *S]`.
    library
        The library, with class names and preprocessing.

    Returns
    -------
    str
        HTML.
    """
    return document(
        "prune.html",
        name=library.path.name,
        method=method,
        samples=len(data),
        before=percent(figures.before),
        after=percent(figures.after),
        layers=[(layer, count, gone, percent(gone / count)) for layer, count, gone in figures.layers],
        curve=[(_whole(share), percent(right)) for share, right in figures.curve],
        plot=_plot(figures),
        **change_views(figures, data, library),
    )


def _plot(figures: PruningFigures) -> dict[str, Any]:
    """Lay out the curve: its points, what is written along the axes, and where the pruned model is."""

    def x(share: float) -> str:
        return f"{_LEFT + _WIDTH * share:.1f}"

    def y(right: float) -> str:
        return f"{_TOP + _HEIGHT * (1 - right):.1f}"

    return {
        "size": (_LEFT + _WIDTH + 16, _TOP + _HEIGHT + _BOTTOM),
        "points": [(x(share), y(right)) for share, right in sorted({*figures.curve, (figures.share, figures.after)})],
        "across": [(x(tenth / 10), _whole(tenth / 10)) for tenth in range(0, 11, 2)],
        "along": [(y(quarter / 4), _whole(quarter / 4)) for quarter in range(5)],
        "edges": (_LEFT, _LEFT + _WIDTH, _TOP, _TOP + _HEIGHT),
        "here": (x(figures.share), y(figures.after)),
        "share": _whole(figures.share),
        # beside the point, where there is space
        "side": "end" if figures.share > 0.6 else "start",
    }


def _whole(share: float) -> str:
    return f"{100 * share:.3g}{SPACE}%"
