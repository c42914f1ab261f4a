"""What a correction changed, as one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from crp.class_names import class_name
from crp.correction.figures_of_a_fix import FixFigures
from crp.library import Library
from crp.visualization.number_formats import SPACE
from crp.visualization.package_files import template_files
from crp.visualization.page.explanation_page import environment
from crp.visualization.picture_formats import picture_uri
from crp.visualization.report.concept_patches import patch_views

# Changed samples that are shown of each kind, and the side of their pictures in pixels.
_SHOWN, _SIDE, _QUALITY = 10, 112, 70


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
    count = library.manifest["classes"]

    def named(index: int) -> str:
        return class_name(library.class_names, index, count)

    def shown(changes: Sequence[tuple[int, int, int, int]]) -> list[dict[str, Any]]:
        pictures = library.preprocessing
        return [
            {
                "picture": pictures and picture_uri(pictures.to_picture(data[row]), side=_SIDE, quality=_QUALITY),
                "right": named(right),
                "words": f"{named(before)} → {named(after)}",
            }
            for row, right, before, after in changes[:_SHOWN]
        ]

    rows = [
        ("right, of all", "right"),
        (f"right, of the {figures.having} with the concept", "right_with"),
        (f"right, of the {figures.lacking} without it", "right_without"),
        ("right, of those with the concept, after it was taken out", "right_taken_out"),
        (f"taken for {named(figures.target)}, of the other classes without it, after it was put in", "pulled"),
    ]
    neither = len(figures.changes) - len(figures.better) - len(figures.worse)
    return (
        environment()
        .get_template("fix.html")
        .render(
            concept=f"{concept[0]}/{concept[1]}",
            called=library.concept_name(*concept),
            **patch_views(library, *concept),
            method=method,
            truth="the label" if figures.by_labels else "the original model's prediction on the unchanged sample",
            by_labels=figures.by_labels,
            style=template_files()["style.css"].decode(),
            rows=[(words, _percent(getattr(figures.before, key)), _percent(getattr(figures.after, key)))
                  for words, key in rows],
            classes=[(named(index), samples, _percent(before), _percent(after))
                     for index, samples, before, after in figures.classes],
            changed=len(figures.changes),
            neither=neither,
            groups=[("For the better", len(figures.better), shown(figures.better)),
                    ("For the worse", len(figures.worse), shown(figures.worse))],
        )
    )  # fmt: skip


def _percent(share: float) -> str:
    return "–" if share != share else f"{100 * share:.1f}{SPACE}%"
