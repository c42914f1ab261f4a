"""The files of a prediction in a site's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crp.explanations import Explanation
from crp.explanations.entries import Entry, entry_from, entry_numbers
from crp.visualization import triage_wording
from crp.visualization.inputs import page_renderer_for
from crp.visualization.page.explanation_page import render
from crp.visualization.page.packing import packed_json, unpacked_json
from crp.visualization.page_files import write_changed, write_page
from crp.visualization.picture_formats import SUFFIX, photo
from crp.visualization.site.pictures import small_picture
from crp.visualization.site.shared import Shared


class PredictionFiles(NamedTuple):
    """Paths: the data that others need of a prediction, its thumbnail, page and, if that shows it reduced, picture."""

    data: Path
    thumbnail: Path
    page: Path
    whole: Path


def paths_of(shared: Shared, place: str) -> PredictionFiles:
    """Return the paths of a prediction's files; `place` is the name of its page."""
    folder = shared.folder / "predictions"
    paths = (folder / f"{place}{suffix}" for suffix in (".json", SUFFIX, ".html"))
    return PredictionFiles(*paths, shared.whole_picture(place))


def stored_entry(stored: Mapping[str, Any]) -> Entry:
    """Read the entry in the data of a prediction."""
    return entry_from({**stored, "uses": unpacked_json(stored["uses"])})


def write_thumbnail(picture: np.ndarray, path: Path) -> None:
    """Write a picture, uint8 [h, w, 3], as the index shows it."""
    write_changed(path, photo(small_picture(picture), quality=62))


def write_prediction(explanation: Explanation, entry: Entry, shared: Shared, *, title: str, key: str) -> None:
    """Write the files of a prediction, its data last.

    Parameters
    ----------
    explanation
        What its page shows.
    entry
        What others need of it.
    shared
        Files of the site.
    title
        Of the site.
    key
        A fingerprint of all that these files depend on.
    """
    files = paths_of(shared, entry.page)
    site = {"title": title, "place": entry.page, "label": triage_wording.label(entry)}
    write_page(files.page, render(explanation, shared, site=site))
    write_thumbnail(page_renderer_for(explanation).picture(explanation.picture), files.thumbnail)
    content = {"key": key, "whole": files.whole.exists(), **entry_numbers(entry)}
    content["uses"] = packed_json(content["uses"])  # most of it
    write_changed(files.data, json.dumps(content, allow_nan=False, separators=(",", ":")).encode())
