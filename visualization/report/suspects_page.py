"""Suspicious concepts as one HTML file, with their patches, the evidence, and the editor of names and verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crp.correction.suspicion import STATED, Candidate
from crp.library import Library
from crp.library.given_names import GivenName
from crp.visualization.number_formats import SPACE, signed_percent
from crp.visualization.page.explanation_page import script_json
from crp.visualization.report.concept_patches import patch_views
from crp.visualization.report.documents import document

LIKELY = "likely a Clever Hans"


def suspects_report(found: Sequence[Candidate], library: Library) -> str:
    """Write the page.

    Parameters
    ----------
    found
        The concepts, in their order.
    library
        The library, with patches and what people said about its concepts.

    Returns
    -------
    str
        HTML.
    """
    naming = {layer: library.naming(layer) for layer in dict.fromkeys(one.layer for one in found)}
    rows = [_row(rank, one, library, naming[one.layer].of(one.concept)) for rank, one in enumerate(found, 1)]
    return document(
        "suspects.html",
        name=library.path.name,
        stated=STATED,
        groups=_groups(rows),
        placed=any(one.place is not None for one in found),
        outside=any(one.outside is not None for one in found),
        naming=script_json([{"layer": layer, **one.to_json()} for layer, one in naming.items()]),
    )


def _groups(rows: list[dict[str, Any]]) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Divide rows: title, what they are, and the rows; one group without a title if nothing was measured."""
    likely = [row for row in rows if row["likely"]]
    if not any(row["measured"] for row in rows):
        return [("", "", rows)]
    measured, others = ([row for row in rows if row["measured"] == one and not row["likely"]] for one in (True, False))
    alone = "Ordered by the evidence of the library alone. They are not less suspicious than the rows above."
    both = "Ordered by the evidence of the library and by what was measured."
    first = "They are above one of the thresholds below."
    return [("Likely", first, likely), ("Measured", both, measured), ("Not measured", alone, others)]


def _row(rank: int, one: Candidate, library: Library, given: GivenName) -> dict[str, Any]:
    return {
        "rank": rank,
        "name": one.name,
        "called": library.concept_name(one.layer, one.concept),
        "target": one.target_name,
        "likely": LIKELY if one.likely else "",
        "rare": f"few samples use it: {one.having} of {one.having + one.lacking}" if one.rare else "",
        "score": f"{one.score:.2f}",
        "measured": one.decides is not None,
        "evidence": _evidence(one),
        "fix": "reactive --usual-place" if one.fixed else "refit",
        "given": given,
        **patch_views(library, one.layer, one.concept),
    }


def _evidence(one: Candidate) -> list[tuple[str, str, str]]:
    """Return rows of a table: what, how much of it (percent for the width of a bar, empty if not measured), words."""
    not_measured = "not measured: needs --data, and of 300 samples ten that have the concept and ten that lack it"
    rows = [
        ("exclusive", one.exclusive,
         f"{signed_percent(one.mean)} of the class’s relevance, at most {signed_percent(one.elsewhere)} of another’s"),
        ("gap", one.gap,
         f"{one.having} samples use it ({signed_percent(one.share)} of their relevance), {one.lacking} do not "
         f"({signed_percent(one.share_lacking)})"),
        ("errors", None if one.right is None else one.errors,
         "the library has no labels" if one.right is None
         else f"{_percent(one.right)} of those that use it are right, {_percent(one.right_lacking)} of the others"
         f"{_difference(one)}"),
        ("decides", one.decides,
         not_measured if one.decides is None
         else f"taken out, {_percent(one.kept)} are still recognised; put into others, {_percent(one.pulled)} are "
         f"taken for {one.target_name}"),
    ]  # fmt: skip
    if one.place is not None:
        words = "how much of it is the same content at the same place of the input, as a watermark is"
        rows.append(("place", one.place, words))
    if one.outside is not None:
        rows.append(("outside", one.outside, f"{_percent(one.outside)} of its relevance lies outside the object"))
    return [
        (what, "" if value is None else f"{100 * min(1.0, max(0.0, value)):.1f}", words) for what, value, words in rows
    ]


def _difference(one: Candidate) -> str:
    if one.errors:
        return f": at least {100 * one.errors:.0f} points fewer, as far as so many samples can tell"
    return ": too few samples to tell them apart" if one.right > one.right_lacking else ""


def _percent(share: float) -> str:
    return f"{100 * share:.0f}{SPACE}%"
