"""What the index and the comparison of a site read: one small JSON about all predictions, and one for each layer.

Both are stored as scripts, because a page that is opened from a disk cannot read other files. Shares are whole numbers,
cut off and not rounded, so that rounding them to a tenth of a percent gives what every other page prints.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crp.explanations.entries import UNIT, Entry, in_units
from crp.values import ClassScore, StartScore
from crp.visualization import wording
from crp.visualization.page_files import write_changed
from crp.visualization.picture_formats import SUFFIX
from crp.visualization.site.shared import Shared


def index_data(entries: Sequence[Entry], shared: Shared) -> dict[str, Any]:
    """Collect what the index says about predictions, in as few characters as possible.

    Returns
    -------
    dict
        `predictions`: a list for each, in the order of `FIELDS`. `names`: the names of classes and starts that these
        refer to. `layers`: name, folder, number and names of concepts, and where their patches lie.
    """
    names: dict[str, int] = {}

    def numbered(name: str) -> int:
        return names.setdefault(name, len(names))

    layers = list(shared.places)
    rows = [_row(entry, layers, numbered) for entry in entries]
    return {
        "unit": UNIT,
        "suffix": SUFFIX,
        "fields": list(FIELDS),
        "names": list(names),
        "layers": [_layer(shared, layer) for layer in layers],
        "predictions": rows,
    }


FIELDS = ("page", "name", "target", "value", "best", "probability", "label", "right", "deviation", "shares")


def _row(entry: Entry, layers: Sequence[str], numbered: Any) -> list[Any]:
    best = next(iter(entry.classes), None)
    shown = best or entry.target
    probability = best.probability if isinstance(best, ClassScore) else None
    label = entry.label
    right = None if label is None or best is None else int(best.index == label[0])
    return [
        entry.page,
        entry.name,
        numbered(wording.class_name(entry.target)),
        wording.class_value(entry.target, shown),
        -1 if best is None else numbered(wording.class_name(best)),
        None if probability is None else round(probability, 4),
        -1 if label is None else numbered(label[1]),
        right,
        next((round(value, 4) for value in entry.deviations.values()), None),
        [[number for concept, share in entry.shares.get(layer, ()) for number in (concept, in_units(share))]
         for layer in layers],
    ]  # fmt: skip


def _layer(shared: Shared, layer: str) -> dict[str, Any]:
    glimpses = shared.glimpses(layer)
    size = shared.library.limits(layer).concepts
    named = {concept: name for concept in range(size) if (name := shared.library.concept_name(layer, concept))}
    return {
        "name": layer,
        "place": shared.places[layer],
        "size": size,
        "names": named,
        "glimpses": {"uri": shared.glimpse_uri(layer, ""), **glimpses.numbers(size)},
    }


def layer_shares(entries: Sequence[Entry], layer: str) -> dict[str, Any]:
    """Collect the predictions that use each concept of a layer.

    Returns
    -------
    dict
        By concept, places of predictions and shares in turn, in the order of the index.
    """
    uses: dict[int, list[int]] = {}
    for place, entry in enumerate(entries):
        for concept, share in entry.uses.get(layer, ()):
            uses.setdefault(concept, []).extend((place, in_units(share)))
    return {str(concept): uses[concept] for concept in sorted(uses)}


def write_index(entries: Sequence[Entry], shared: Shared) -> None:
    """Write `index_data`, and `layer_shares` of every layer, as scripts that set properties of the window."""
    _write(shared.folder / "assets" / "predictions.js", "window.siteIndex", index_data(entries, shared))
    for layer, place in shared.places.items():
        name = f"(window.layerShares ??= {{}})[{json.dumps(layer)}]"
        _write(shared.folder / place / "shares.js", name, layer_shares(entries, layer))


def _write(path: Path, name: str, content: Any) -> None:
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    write_changed(path, f"{name} = {text};\n".encode("ascii"))


def of_starts(entries: Sequence[Entry]) -> bool:
    """Whether something else than classes is explained."""
    return any(isinstance(entry.target, StartScore) for entry in entries)
