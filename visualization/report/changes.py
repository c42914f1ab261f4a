"""Classes before and after, and samples whose prediction changed, for the pages of corrections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from crp.class_names import class_name
from crp.correction.compared_predictions import ChangedPredictions
from crp.library import Library
from crp.visualization.number_formats import SPACE, rounded, signed_percent
from crp.visualization.picture_formats import picture_uri

# Changed samples that are shown of each kind, and the side of their pictures in pixels.
_SHOWN, _SIDE, _QUALITY = 10, 112, 70


def change_views(changed: ChangedPredictions, data: Tensor, library: Library) -> dict[str, Any]:
    """Describe what `changes.html` shows; `data` are the samples, `[N, c, *S]`."""
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

    # without labels, right is what the original model says, and every change differs from that
    groups = [("For the better", changed.better), ("For the worse", changed.worse)]
    if not changed.by_labels:
        groups = [("", changed.changes)]
    return {
        "truth": "the label" if changed.by_labels else "the original model's prediction on the unchanged sample",
        "by_labels": changed.by_labels,
        "classes": [
            (named(index), samples, percent(before), percent(after), _points(after - before))
            for index, samples, before, after in changed.classes
        ],
        "changed": len(changed.changes),
        "neither": len(changed.changes) - len(changed.better) - len(changed.worse),
        "groups": [(title, len(changes), shown(changes)) for title, changes in groups],
    }


def _points(difference: float) -> str:
    """Write a difference of shares in points; a dash if there is none."""
    return signed_percent(difference).removesuffix(f"{SPACE}%") if rounded(difference) else "–"


def percent(share: float) -> str:
    """Write a share; a dash if it is not defined."""
    return "–" if share != share else f"{100 * share:.1f}{SPACE}%"
