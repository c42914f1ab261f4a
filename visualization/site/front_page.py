"""The first page of a site: all predictions, to be searched and filtered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from crp.explanations import StartScore
from crp.explanations.entries import Entry
from crp.visualization import concept_names, wording
from crp.visualization.page.explanation_page import environment
from crp.visualization.site.concept_page import glimpse_style, sprites
from crp.visualization.site.shared import Shared

# Characters of a concept's name.
NAME_LENGTH = 16
# Number of concepts shown with a prediction, all of its first layer.
TOP = 4


def index_page(
    entries: Sequence[Entry], shared: Shared, site: Mapping[str, Any], provenance: Sequence[tuple[str, str]]
) -> str:
    """Write the first page.

    Parameters
    ----------
    entries
        All predictions, in the order shown.
    shared
        Files of the site.
    site
        What pages say about their site: its `title`, the `layers` with their pages, the `command`.
    provenance
        What the library holds, as pairs of a name and a value.
    """
    classes = Counter(wording.class_name(entry.target) for entry in entries)
    numbers = {name: number for number, name in enumerate(sorted(classes, key=str.lower))}
    return (
        environment()
        .get_template("index.html")
        .render(
            site=site,
            up="",
            title=site["title"],
            items=[_item(entry, shared, numbers) for entry in entries],
            classes=[{"number": number, "name": name, "count": classes[name]} for name, number in numbers.items()],
            sprites=sprites(shared, list(shared.places), ""),
            provenance=provenance,
            layer_names=list(dict.fromkeys(layer for entry in entries for layer in list(entry.shares)[:1])),
            layer_share_means=wording.LAYER_SHARE_MEANS,
            **_shown(entries),
        )
    )


def _shown(entries: Sequence[Entry]) -> dict[str, Any]:
    """Say what stands below each picture: a class with its probability, the only output, or another start."""
    if any(isinstance(entry.target, StartScore) for entry in entries):
        return {"of_classes": False, "shown_with": "what is explained, its value,"}
    one_output = any(wording.is_number(entry.target) for entry in entries)
    shown_with = "the model’s output" if one_output else "the class that is explained, the class’s probability,"
    return {"of_classes": True, "shown_with": shown_with}


def _item(entry: Entry, shared: Shared, numbers: Mapping[str, int]) -> dict[str, Any]:
    best, target = next(iter(entry.classes), entry.target), entry.target
    layer, shares = next(iter(entry.shares.items()), ("", ()))
    return {
        "name": entry.name,
        "page": f"predictions/{entry.page}.html",
        "picture": f"predictions/{entry.page}.jpg",
        "class": wording.class_name(target),
        "class_number": numbers[wording.class_name(target)],
        "probability": wording.class_value(target, best),
        # The class that is explained need not be the predicted one.
        "seen": "" if best == target else wording.class_name(best),
        "layer": layer,
        "concepts": [
            {
                "of": f"{layer}/{concept}",
                "length": NAME_LENGTH,
                "name": concept_names.label(concept, shared.library.concept_name(layer, concept), NAME_LENGTH),
                "full": concept_names.full(layer, concept, shared.library.concept_name(layer, concept)),
                "page": shared.page(layer, concept),
                "glimpse": glimpse_style(shared, layer, concept),
                "share": wording.signed_percent(share),
                "side": "supports" if share > 0 else "opposes",
            }
            for concept, share in shares[:TOP]
        ],
        "text": " ".join(
            [entry.name, *(wording.class_name(score) for score in dict.fromkeys([target, best]))]
            + [
                f"{name}/{concept} {shared.library.concept_name(name, concept)}"
                for name, ranked in entry.shares.items()
                for concept, _ in ranked
            ]
        ).lower(),
    }
