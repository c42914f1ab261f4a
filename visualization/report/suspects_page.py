"""Suspicious concepts as one HTML file, with their patches, the evidence, and the editor of names and verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crp.correction.suspicion import EFFECTS, STATED, Candidate
from crp.library import Library
from crp.library.given_names import GivenName
from crp.visualization.number_formats import SPACE, percent
from crp.visualization.page.explanation_page import script_json
from crp.visualization.report.concept_patches import patch_views
from crp.visualization.report.documents import document

LIKELY = "likely a Clever Hans"
_TRIED = (
    f"Not measured: only the first rows are (--measured). Of up to {EFFECTS} samples, at least ten must have the "
    "concept, ten must lack it, and one that has it must be predicted as the class."
)


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
    tried = any(one.place is not None or one.decides is not None for one in found)
    missing = _TRIED if tried else "Not measured: give --data."
    rows = [_row(rank, one, library, naming[one.layer].of(one.concept), missing) for rank, one in enumerate(found, 1)]
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
    alone = "Ordered by the evidence in the library alone. They are no less suspicious than the rows above."
    both = "Ordered by the evidence in the library and by what was measured."
    first = "They meet the criteria at the foot of the page."
    return [("Likely", first, likely), ("Measured", both, measured), ("Not measured", alone, others)]


def _row(rank: int, one: Candidate, library: Library, given: GivenName, missing: str) -> dict[str, Any]:
    return {
        "rank": rank,
        "name": one.name,
        "called": library.concept_name(one.layer, one.concept),
        "target": one.target_name,
        "likely": LIKELY if one.likely else "",
        "rare": f"few samples use it: {one.having} of {one.having + one.lacking}" if one.rare else "",
        "score": f"{one.score:.2f}",
        "measured": one.decides is not None,
        "evidence": _evidence(one, missing),
        "fix": "reactive --usual-place" if one.fixed else "refit",
        "given": given,
        **patch_views(library, one.layer, one.concept),
    }


def _evidence(one: Candidate, missing: str) -> list[tuple[str, str, str, str]]:
    """Return rows of a table: what, how much of it as the width of a bar and in percent, and words.

    Both amounts are empty for what was not measured; `missing` says why effects were not.
    """
    rows = [
        ("exclusive", one.exclusive,
         f"It holds {percent(one.mean)} of the class’s relevance on average, and at most {percent(one.elsewhere)} of "
         "another’s."),
        ("gap", one.gap,
         f"In {one.having} samples it holds {percent(one.share)} of the relevance on average; in the other "
         f"{one.lacking}, {percent(one.share_lacking)}."),
        ("errors", None if one.right is None else one.errors, _errors(one)),
        ("decides", one.decides,
         missing
         if one.decides is None
         else f"With it taken out, {_percent(one.kept)} are still recognised; with it put into others, "
         f"{_percent(one.pulled)} are taken for {one.target_name}."),
    ]  # fmt: skip
    if one.place is not None:
        rows.append(
            ("place", one.place,
             f"{_percent(one.place)} of it is the same content at a fixed place, as a watermark would be.")
        )  # fmt: skip
    if one.outside is not None:
        rows.append(
            ("outside", one.outside,
             f"{_percent(one.relevance_outside)} of its relevance and {_percent(one.area_outside)} of the input lie "
             "outside the object.")
        )  # fmt: skip
    return [
        (what, "", "", words) if value is None
        else (what, f"{100 * min(1.0, max(0.0, value)):.1f}", _percent(value), words)
        for what, value, words in rows
    ]  # fmt: skip


def _errors(one: Candidate) -> str:
    if one.right is None:
        return "The library has no labels."
    both = f"{_percent(one.right)} of those that use it more are right, {_percent(one.right_lacking)} of the others"
    if one.right <= one.right_lacking:
        return f"{both}."
    found = f"{both}. The lower end of the 95{SPACE}% interval of the difference is "
    return found + (f"{100 * one.errors:.0f} points." if one.errors else "0: too few samples to tell the two apart.")


def _percent(share: float) -> str:
    return f"{100 * share:.0f}{SPACE}%"
