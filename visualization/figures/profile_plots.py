"""Class-wise truth as plots: the concepts of a class, the classes of a concept, and both as one table.

Each function draws into the Axes it is given. Values come from `Library.concepts_of`, `Library.classes_of` and
`Library.statistics`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from crp.class_names import class_name
from crp.errors import InputError
from crp.library.references import ClassStatistics
from crp.library.usage import ConceptUse
from crp.visualization import encoding as images
from crp.visualization import wording
from crp.visualization.figures.artists import AGAINST, AGAINST_TEXT, DIVERGING, FOR, FOR_TEXT, INK, SOFT, TILE

# Characters of a class name that fit beside the bars.
_NAME = 24
# A cell of the table says its number where its concept has at least that part of the relevance.
_SAID = 0.05
# Beyond this part of the scale black figures are hard to read.
_DARK = 0.6


def draw_profile(axes: Axes, uses: Sequence[ConceptUse]) -> None:
    """Concepts of a class, or classes of a concept, as bars of their mean share, in the order given.

    The line on a bar spans one standard deviation of the samples to both sides; the number beside it is the mean. What
    varies among `uses`, class or concept, names the rows, and what does not is the title.

    Raises
    ------
    InputError
        If there is nothing to draw, or both class and concept vary.
    """
    targets, concepts = {use.target for use in uses}, {use.concept for use in uses}
    if not uses or min(len(targets), len(concepts)) > 1:
        raise InputError(f"A profile is of one class or one concept, given {len(targets)} and {len(concepts)}.")
    of_class = len(targets) == 1
    for row, use in enumerate(uses):
        opposing = {"facecolor": AGAINST, "edgecolor": AGAINST_TEXT, "hatch": "////", "linewidth": 0}
        axes.barh(row, use.share, height=0.62, **({"color": FOR} if use.share >= 0 else opposing))
        spread = use.share_variance**0.5
        axes.plot([use.share - spread, use.share + spread], [row, row], color=INK, linewidth=1, solid_capstyle="butt")
        axes.annotate(
            wording.signed_percent(use.share),
            (1.0, row),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=FOR_TEXT if use.share >= 0 else AGAINST_TEXT,
        )
    names = [f"concept {use.concept}" if of_class else use.target_name for use in uses]
    axes.set_yticks(range(len(uses)), labels=[wording.shortened(name, _NAME) for name in names])
    axes.axvline(0, color=SOFT, linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xlabel("mean share of the layer's relevance", fontsize=9, color=SOFT)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}".replace("-", wording.MINUS))
    title = f"{uses[0].target_name}: {uses[0].samples} samples" if of_class else f"concept {uses[0].concept}"
    axes.set_title(wording.shortened(title, 2 * _NAME), fontsize=11, loc="left", color=INK).set_parse_math(False)
    _plain(axes)


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
    axes.imshow(table, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    for row, column in np.argwhere(np.abs(table) >= _SAID):
        share = table[row, column]
        text = f"{100 * share:.0f}".replace("-", wording.MINUS)
        colour = "white" if abs(share) > _DARK * limit else INK
        axes.text(column, row, text, ha="center", va="center", fontsize=fontsize - 1, color=colour)
    axes.set_xticks(range(len(concepts)), labels=[str(concept) for concept in concepts])
    axes.set_yticks(range(len(names)), labels=[wording.shortened(name, _NAME) for name in names])
    _plain(axes, fontsize)


def _plain(axes: Axes, fontsize: float = 9) -> None:
    """Ticks without marks, no frame, names that are never read as mathematical text."""
    axes.tick_params(length=0, labelsize=fontsize, colors=INK)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.set_facecolor(TILE)
    for spine in axes.spines.values():
        spine.set_visible(False)
