"""Which classes use which concepts of a layer, as a table of mean shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from crp.class_names import class_name
from crp.errors import InputError
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
    """Draw the mean shares of the strongest concepts for every class with samples, as a coloured table.

    Parameters
    ----------
    axes
        Where to draw.
    statistics
        Class statistics of one layer.
    class_names
        Names of the classes; by default classes are numbered.
    concepts
        Number of concepts, those with the largest absolute mean share for any class, in the order of their ids.

    Returns
    -------
    tuple of int
        The concepts drawn.
    """
    shown = np.flatnonzero(statistics.count)
    strength = np.abs(statistics.share[shown]).max(0, initial=0)
    drawn = np.sort(np.argsort(-strength, kind="stable")[:concepts])
    table = statistics.share[np.ix_(shown, drawn)]
    names = [class_name(class_names, target, len(statistics.count)) for target in shown.tolist()]
    draw_shares(axes, table, names, drawn.tolist(), limit=images.colour_limit(table) or 1)
    axes.set_xlabel("concept; numbers are percent of the layer's relevance", fontsize=9, color=SOFT)
    return tuple(drawn.tolist())


def draw_shares(
    axes: Axes, table: np.ndarray, names: Sequence[str], concepts: Sequence[int], *, limit: float, fontsize: float = 9
) -> None:
    """Draw shares `[classes, concepts]` as colours, saturated at ±limit, and those of at least 5 % as numbers."""
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
    most: int = 12,
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
        Rows; by default all classes that have samples. If there are more than twice `most`, the table shows only
        the `most` classes with the largest share of a drawn concept and the `most` with the lowest largest share.
    concepts
        Columns; by default those with the largest absolute mean share in one of the classes, as many as fit, and none
        below 5 %.
    most
        How many classes to show at the top and at the bottom.
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
        If there is no such class or concept, or `most` is below 1.
    """
    if most < 1:
        raise InputError(f"most is {most}; at least 1 class must be shown.")
    count, size = statistics.share.shape
    rows = np.flatnonzero(statistics.count).tolist() if classes is None else class_ids(classes, count, "the library")
    label = 1.1
    if concepts is None:
        largest = np.abs(statistics.share[rows]).max(axis=0, initial=0)
        fitting = int((width_of(ax, width) - label) / 0.27)
        order = np.argsort(-largest, kind="stable")[:fitting]
        concepts = order[largest[order] > _SAID].tolist()
    else:
        concepts = concept_ids(concepts, size)
    left_out = 0
    if classes is None and len(rows) > 2 * most:
        strongest = statistics.share[np.ix_(rows, concepts)].max(1, initial=-1)
        order = np.argsort(-strongest, kind="stable")
        left_out = len(rows) - 2 * most
        rows = [rows[place] for place in (*order[:most], *order[-most:])]
    shares = statistics.share[np.ix_(rows, concepts)]
    limit = float(np.abs(shares).max(initial=0)) if limit is None else limit
    notes = 2 if left_out else 1
    panel = Panel(ax, width, LINE * 1.5 + 0.2 * len(rows) + BAR + notes * LINE, "class profile panel")
    top, height = LINE * 1.5, panel.height - LINE * (1.5 + notes) - BAR
    table = panel.place(label, top, panel.width - label, height, "table")
    names = []
    for index in rows:
        samples = f" · {statistics.count[index]}"
        names.append(wording.shortened(class_name(class_names, index, count), 21 - len(samples)) + samples)
    draw_shares(table, shares, names, concepts, limit=limit or 1, fontsize=SMALL)
    table.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, pad=1)
    panel.write(label - 0.05, LINE / 2, "class · samples", color=SOFT, ha="right")
    panel.write(label, LINE / 2, "concept", color=SOFT)
    bar = panel.place(label, top + height + 0.06, panel.width - label, 0.07, "colour bar")
    artists.draw_colour_bar(bar, limit, fontsize=SMALL, percent=True)
    if left_out:
        axis = table.get_ylim()
        table.plot([0, 1], [most - 0.5] * 2, color=SOFT, linewidth=0.8, transform=table.get_yaxis_transform())
        table.set_ylim(axis)
        note = f"top {most} and bottom {most} classes; {left_out:,} left out".replace(",", "\N{NARROW NO-BREAK SPACE}")
        panel.write(label, panel.height - 1.5 * LINE, note, color=SOFT)
    panel.write(label, panel.height - LINE / 2, "mean share of the layer's absolute relevance, %", color=SOFT)
    return panel.axes
