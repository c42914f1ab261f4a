"""The concepts of an explanation as rows of a table."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from typing import TextIO

from crp.explanations.explanation import ConceptPart, Explanation, LayerExplanation

COLUMNS = (
    *("explained", "against", "layer", "concept", "name", "relevance", "share", "value", "value_without"),
    *("inside", "outside", "inside_by_outside", "context"),
)


def concept_rows(explanation: Explanation, **first: str | int | float) -> list[dict[str, str | int | float]]:
    """Return a row for each concept with a card, of what is explained and of what is explained beside it.

    Parameters
    ----------
    explanation
        The explanation.
    first
        More columns, before the others.

    Returns
    -------
    list of dict
        The columns are `COLUMNS`: what is explained, and against what; the layer, the concept and its name; relevance
        and share of the layer; the explained value, and what it becomes without the concept; and, if what is explained
        is a mask or a box, the relevance of the concept's sign inside and outside of it, their ratio, and the part that
        is outside. What is not known, or not a finite number, is an empty string.
    """
    return [
        {**first, **_row(each, layer, part)}
        for each in (explanation, *explanation.beside)
        for layer in each.layers
        for part in layer.ranked
    ]


def write_rows(rows: list[dict[str, str | int | float]], file: TextIO) -> None:
    """Write rows that have the same columns as CSV, with a line of headings."""
    writer = csv.DictWriter(file, list(rows[0]) if rows else list(COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _row(explanation: Explanation, layer: LayerExplanation, part: ConceptPart) -> Mapping[str, str | int | float]:
    effect, use = part.effect, explanation.context_of(part)
    measured = ("", "") if effect is None else (effect.before, effect.after)
    context = ("",) * 4 if use is None else tuple(map(_finite, (use.inside, use.outside, use.ratio, use.context)))
    against = "" if explanation.against is None else explanation.against.name
    row = (explanation.target.name, against, layer.layer, part.concept, layer.name_of(part.concept))
    return dict(zip(COLUMNS, (*row, part.relevance, part.share, *measured, *context), strict=True))


def _finite(value: float) -> float | str:
    return value if math.isfinite(value) else ""
