"""How long pages take to open from disk in headless Chromium, one after the other."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import crp
from benchmarks import subjects
from benchmarks.environments import TIMES, browsing
from benchmarks.subjects import spread
from crp.preprocessing import Preprocessing
from crp.visualization.site.site_maker import make_site

_MOMENTS = ("load event", "first paint", "answers")


class Pages(subjects.Work):
    """Pages of predictions, standalone and in a site, and pages of concepts.

    The row's `units` is the number of predictions; they are explained with a library mined from its samples.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        folder: Path = arguments[3]
        library = crp.mine(
            self.model,
            self.samples,
            layers=self.layers,
            path=self.scratch / "library",
            class_names=json.loads((folder / "imagenet_class_names.json").read_text()),
            preprocessing=Preprocessing.imagenet(),
            progress=False,
        )
        photos = folder / "imagenet_samples"
        names = [entry["file"] for entry in json.loads((photos / "index.json").read_text())]
        pictures = [photos / names[index] for index in spread(self.row.units, len(names))]
        site, ready = self.scratch / "site", crp.prepared(self.model)
        make_site(ready, pictures, library, site, progress=False)
        (self.scratch / "alone").mkdir(exist_ok=True)
        for picture in pictures:
            crp.atlas(ready, picture, library).save(self.scratch / "alone" / f"{picture.stem}.html")
        concepts = sorted((site / "concepts").glob("*/[0-9]*.html"))
        self.pages = {
            "page by itself": sorted((self.scratch / "alone").glob("*.html")),
            "page in a site": sorted((site / "predictions").glob("*.html")),
            "concept page": [concepts[index] for index in spread(self.row.units, len(concepts))],
            "index": [site / "index.html"],
        }

    def run(self, units: int, batch: int) -> None:
        """Open some pages, so that the browser's files are in the file cache."""
        _opened(self.pages["page by itself"][:units])

    def figures(self, batch: int) -> dict[str, float]:
        """Measure median and worst times in milliseconds, and sizes in kilobytes."""
        figures = {}
        for kind, paths in self.pages.items():
            times = _opened(paths)
            for moment, values in zip(_MOMENTS, zip(*times, strict=True), strict=True):
                figures[f"{kind}, {moment}, median ms"] = statistics.median(values)
                figures[f"{kind}, {moment}, worst ms"] = max(values)
            figures[f"{kind}, median kB"] = statistics.median(path.stat().st_size for path in paths) / 1000
        return figures


def _opened(paths: Sequence[Path]) -> list[list[float]]:
    """Measure the times of each page in a fresh browser, after opening the first page once to warm it up."""
    module = browsing()
    browser = module.Browser(module.find_browser())
    try:
        browser.open(paths[0])
        found = []
        for path in paths:
            browser.open(path)
            found.append(browser.run(TIMES))
        return found
    finally:
        browser.close()
