"""Which classes use which concepts of a layer, as a table of mean shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from crp.class_names import class_name
from crp.indices import class_ids, concept_ids
from crp.library import ClassStatistics
from crp.visualization import encoding as images
from crp.visualization import wording
from crp.visualization.colours import INK, SOFT
from crp.visualization.figures import artists
from crp.visualization.figures.panel import BAR, LINE, ONE_COLUMN, SMALL, Panel, width_of
from crp.visualization.figures.profile_plots import NAME_LENGTH, plain_axes

# A cell shows its number if the concept has at least this share; a column is drawn if one of its cells does.
_SAID = 0.05
# Beyond this fraction of the scale black numbers are hard to read.
_DARK = 0.6


def draw_class_table(
    axes: Axes, statistics: ClassStatistics, class_names: Sequence[str] = (), *, concepts: int = 12
) -> tuple[int, ...]:
    """Mean shares of the strongest concepts for every class with samples, as a coloured table.

    Parameters
    ----------
    axes
        Where to draw.
    statistics
        Of one layer.
    class_names
        Names of the classes; without them their numbers are shown.
    concepts
        How many: those with the largest absolute mean share for any class, in the order of their ids.

    Returns
    -------
    tuple of int
        The concepts drawn.
    """
    shown = np.flatnonzero(statistics.count)
    strength = np.abs(statistics.share[shown]).max(0, initial=0)
    drawn = np.sort(np.argsort(-strength, kind="stable")[:concepts])
    table = statistics.share[np.ix_(shown, drawn)]
    names = [class_name(class_names, target) for target in shown.tolist()]
    draw_shares(axes, table, names, drawn.tolist(), limit=images.colour_limit(table) or 1)
    axes.set_xlabel("concept; numbers are percent of the layer's relevance", fontsize=9, color=SOFT)
    return tuple(drawn.tolist())


def draw_shares(
    axes: Axes, table: np.ndarray, names: Sequence[str], concepts: Sequence[int], *, limit: float, fontsize: float = 9
) -> None:
    """A table of shares [classes, concepts] as colour, full at ±limit, and in percent where they are 5 % or more."""
    axes.imshow(table, cmap=artists.DIVERGING, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    for row, column in np.argwhere(np.abs(table) >= _SAID):
        share = table[row, column]
        text = f"{100 * share:.0f}".replace("-", wording.MINUS)
        colour = "white" if abs(share) > _DARK * limit else INK
        axes.text(column, row, text, ha="center", va="center", fontsize=fontsize - 1, color=colour)
    axes.set_xticks(range(len(concepts)), labels=[str(concept) for concept in concepts])
    axes.set_yticks(range(len(names)), labels=[wording.shortened(name, NAME_LENGTH) for name in names])
    plain_axes(axes, fontsize)


def plot_class_profile(
    statistics: ClassStatistics,
    *,
    class_names: Sequence[str] = (),
    classes: Sequence[int] | None = None,
    concepts: Sequence[int] | None = None,
    ax: Axes | None = None,
    width: float = ONE_COLUMN,
    limit: float | None = None,
) -> Axes:
    """Draw which classes use which concepts of a layer: a table of mean signed shares, as numbers and as colour.

    Parameters
    ----------
    statistics
        `library.statistics(layer)`.
    class_names
        `library.class_names`; by default classes are numbered.
    classes
        Rows; by default all classes that have samples.
    concepts
        Columns; by default those with the largest absolute mean share in one of the classes, as many as are read well,
        and none below 5 %.
    ax, width
        As in `plot_heatmap`.
    limit
        Mean share (0..1) at which colours saturate; by default the largest one in the table.

    Returns
    -------
    Axes
        `ax`, or the new ones.

    Raises
    ------
    InputError
        A class or a concept is not there.
    """
    count, size = statistics.share.shape
    rows = np.flatnonzero(statistics.count).tolist() if classes is None else class_ids(classes, count, "the library")
    label = 1.1
    if concepts is None:
        most = np.abs(statistics.share[rows]).max(axis=0, initial=0)
        fitting = int((width_of(ax, width) - label) / 0.27)
        order = np.argsort(-most, kind="stable")[:fitting]
        concepts = order[most[order] > _SAID].tolist()
    else:
        concepts = concept_ids(concepts, size)
    shares = statistics.share[np.ix_(rows, concepts)]
    limit = float(np.abs(shares).max(initial=0)) if limit is None else limit
    panel = Panel(ax, width, LINE * 1.5 + 0.2 * len(rows) + BAR + LINE, "class profile panel")
    top, height = LINE * 1.5, panel.height - LINE * 2.5 - BAR
    table = panel.place(label, top, panel.width - label, height, "table")
    names = [class_name(class_names, index) for index in rows]
    draw_shares(table, shares, names, concepts, limit=limit or 1, fontsize=SMALL)
    table.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, pad=1)
    panel.write(label - 0.05, LINE / 2, "class", color=SOFT, ha="right")
    panel.write(label, LINE / 2, "concept", color=SOFT)
    bar = panel.place(label, top + height + 0.06, panel.width - label, 0.07, "colour bar")
    artists.draw_colour_bar(bar, limit, fontsize=SMALL, percent=True)
    panel.write(label, panel.height - LINE / 2, "mean share of the layer's absolute relevance, %", color=SOFT)
    return panel.axes
