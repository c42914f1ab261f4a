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
        ("right, of all", "right"),
        (f"right, of the {figures.having} with the concept", "right_with"),
        (f"right, of the {figures.lacking} without it", "right_without"),
        ("right, of those with the concept, after it was taken out", "right_taken_out"),
        (f"taken for {target}, of the other classes without it, after it was put in", "pulled"),
    ]
    return document(
        "fix.html",
        concept=f"{concept[0]}/{concept[1]}",
        called=library.concept_name(*concept),
        **patch_views(library, *concept),
        method=method,
        rows=[(words, percent(getattr(figures.before, key)), percent(getattr(figures.after, key)))
              for words, key in rows],
        **change_views(figures, data, library),
    )  # fmt: skip
