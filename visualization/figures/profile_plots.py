"""The concepts of a class, or the classes of a concept, as bars of mean shares."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from crp.errors import InputError
from crp.library.usage import ConceptUse
from crp.visualization import wording
from crp.visualization.concept_names import in_sentence
from crp.visualization.figures.artists import AGAINST, AGAINST_TEXT, FOR, FOR_TEXT, INK, SOFT, TILE

# Characters of a class name that fit beside bars or a table.
NAME_LENGTH = 24


def draw_profile(axes: Axes, uses: Sequence[ConceptUse]) -> None:
    """Draw concepts of a class, or classes of a concept, as bars of their mean share, in the order given.

    The line on a bar spans one standard deviation over the samples to both sides; the number beside it is the mean.
    Rows are named after what varies among `uses`, class or concept; the other one is the title.

    Raises
    ------
    InputError
        If `uses` is empty, or both class and concept vary.
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
    names = [
        in_sentence(use.concept, use.concept_name, NAME_LENGTH)
        if of_class
        else wording.shortened(use.target_name, NAME_LENGTH)
        for use in uses
    ]
    axes.set_yticks(range(len(uses)), labels=names)
    axes.axvline(0, color=SOFT, linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xlabel("mean share of the layer's relevance", fontsize=9, color=SOFT)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}".replace("-", wording.MINUS))
    first = uses[0]
    concept = in_sentence(first.concept, first.concept_name, 2 * NAME_LENGTH)
    title = f"{first.target_name}: {first.samples} samples" if of_class else concept
    axes.set_title(wording.shortened(title, 2 * NAME_LENGTH), fontsize=11, loc="left", color=INK).set_parse_math(False)
    plain_axes(axes)


def plain_axes(axes: Axes, fontsize: float = 9) -> None:
    """Remove tick marks and frame, and keep names from being parsed as mathematical text."""
    axes.tick_params(length=0, labelsize=fontsize, colors=INK)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.set_facecolor(TILE)
    for spine in axes.spines.values():
        spine.set_visible(False)
