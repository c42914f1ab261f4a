"""What a correction changed, as one HTML file that opens offline."""

from __future__ import annotations

from torch import Tensor

from crp.class_names import class_name
from crp.correction.figures_of_a_fix import FixFigures
from crp.library import Library
from crp.visualization.report.changes import change_views, percent
from crp.visualization.report.concept_patches import patch_views
from crp.visualization.report.documents import document


def fix_report(
    figures: FixFigures, method: str, concept: tuple[str, int], data: Tensor, library: Library
) -> str:
    """Write the page.

    Parameters
    ----------
    figures
        What was measured.
    method
        What was done, in words.
    concept
        Layer and id of the concept.
    data
        The samples that were measured, `[N, c, *S]`.
    library
        The library, with class names, preprocessing and patches.

    Returns
    -------
    str
        HTML.
    """
    target = class_name(library.class_names, figures.target, library.manifest["classes"])
    rows = [
        ("all samples: right", "right"),
        (f"the {figures.having} samples with the concept: right", "right_with"),
        (f"the same {figures.having} with the concept removed: right", "right_taken_out"),
        (f"the {figures.lacking} samples without the concept: right", "right_without"),
        (f"samples of other classes without the concept, with it put in: taken for {target}", "pulled"),
    ]
    return document(
        "fix.html",
        concept=f"{concept[0]}/{concept[1]}",
        called=library.concept_name(*concept),
        **patch_views(library, *concept),
        method=method,
        reading=figures.reading(target),
        rows=[(words, [_amount(getattr(one, key)) for one in (figures.before, figures.after)]) for words, key in rows],
        **change_views(figures, data, library),
    )  # fmt: skip


def _amount(share: float) -> tuple[str, str]:
    """Return a share in words, and the width of its bar in percent; a share that is not defined has no bar."""
    return percent(share), f"{100 * share:.1f}" if share == share else "0"
