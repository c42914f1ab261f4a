"""The first page of a site: all predictions, to be searched, filtered and sorted.

The page holds no row of its own: its script draws the predictions that are asked for from the site's index
(`prediction_data.py`). Without scripts, it is a plain list of links.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from crp.analysis.class_means import FEWEST_SAMPLES
from crp.explanations.entries import Entry
from crp.visualization import triage_wording, wording
from crp.visualization.page.explanation_page import environment
from crp.visualization.page_files import write_page
from crp.visualization.site.concept_page import sprites
from crp.visualization.site.prediction_data import of_starts, write_index
from crp.visualization.site.shared import Shared


def write_front(
    entries: Sequence[Entry], shared: Shared, site: Mapping[str, Any], provenance: Sequence[tuple[str, str]]
) -> None:
    """Write the first page and the comparison, with the data of all predictions; parameters as of `index_page`."""
    write_page(shared.folder / "index.html", index_page(entries, shared, site, provenance))
    write_page(shared.folder / "compare.html", compare_page(site, shared, entries))
    write_index(entries, shared)
    shared.write_order([(entry.page, entry.name) for entry in entries])


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
        What pages say about their site: its `title`, the `layers` with their pages, the `command`, and where `labels`
        come from.
    provenance
        What the library holds, as pairs of a name and a value.
    """
    explained = Counter(wording.class_name(entry.target) for entry in entries)
    labelled = Counter(entry.label[1] for entry in entries if entry.label is not None)
    return (
        environment()
        .get_template("index.html")
        .render(
            site=site,
            up="",
            title=site["title"],
            items=[_plain(entry) for entry in entries],
            explained=_counted(explained),
            labelled=_counted(labelled),
            with_probabilities=any(entry.classes and entry.classes[0].probability is not None for entry in entries),
            with_deviations=any(entry.deviations for entry in entries),
            deviation_means=triage_wording.deviation_means(next(iter(shared.places), ""), FEWEST_SAMPLES),
            uncertain=triage_wording.UNCERTAIN,
            accuracy=triage_wording.accuracy(entries),
            sprites=sprites(shared, list(shared.places), ""),
            provenance=provenance,
            layer_names=list(dict.fromkeys(layer for entry in entries for layer in list(entry.shares)[:1])),
            layer_share_means=wording.LAYER_SHARE_MEANS,
            **_shown(entries),
        )
    )


def compare_page(site: Mapping[str, Any], shared: Shared, entries: Sequence[Entry]) -> str:
    """Write the page that shows two predictions or concepts side by side."""
    return (
        environment()
        .get_template("compare.html")
        .render(
            site=site,
            up="",
            title="Side by side",
            sprites=sprites(shared, list(shared.places), ""),
            layer_share_means=wording.LAYER_SHARE_MEANS,
            of_classes=not of_starts(entries),
        )
    )


def _counted(names: Counter[str]) -> list[dict[str, Any]]:
    return [{"name": name, "count": names[name]} for name in sorted(names, key=str.lower)]


def _shown(entries: Sequence[Entry]) -> dict[str, Any]:
    """Say what stands below each picture: a class with its probability, the only output, or another start."""
    if of_starts(entries):
        return {"of_classes": False, "shown_with": "what is explained, its value,"}
    one_output = any(wording.is_number(entry.target) for entry in entries)
    shown_with = "the model’s output" if one_output else "the class that is explained, the class’s probability,"
    return {"of_classes": True, "shown_with": shown_with}


def _plain(entry: Entry) -> dict[str, str]:
    best = next(iter(entry.classes), entry.target)
    return {
        "name": entry.name,
        "page": f"predictions/{entry.page}.html",
        "class": wording.class_name(entry.target),
        "value": wording.class_value(entry.target, best),
        "label": triage_wording.label(entry),
    }
