"""All mined samples that use a concept (reverse search), for the pages of concepts.

assets/samples.js       names, classes and labels of the samples, and where their pictures are; read on demand
concepts/LAYER/37.html  holds the samples that use the concept, and its shares, as pairs of numbers
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from crp.analysis.searching import search
from crp.class_names import class_name
from crp.explanations.entries import UNIT
from crp.library import Library
from crp.relevance_shares import LEAST_SHARE
from crp.visualization.page_files import write_changed
from crp.visualization.picture_formats import SUFFIX

# Samples that a page lists, those with the largest absolute shares.
LISTED = 500


class SampleUses:
    """The samples of a library and the concepts that they use.

    Parameters
    ----------
    library
        The library; without concept vectors, no sample is listed. Its `samples` have a `path` if their names are those
        of files below it.
    pages
        By path of a picture, the page of the site that explains it.
    """

    def __init__(self, library: Library, pages: Mapping[Path, str]) -> None:
        self._library = library
        self._data = library.samples if hasattr(library.samples, "sample_name") else None
        self._pages = {path.resolve(): page for path, page in pages.items()}

    @property
    def known(self) -> bool:
        """Whether the library holds the vectors."""
        return bool(self._library.manifest["settings"]["vectors"])

    @cached_property
    def files(self) -> tuple[str, ...]:
        """Names of the samples; empty if the mined data are not at hand."""
        if self._data is None or len(self._data) < (self._library.manifest["data"].get("length") or 0):
            return ()
        return tuple(str(self._data.sample_name(index)) for index in range(len(self._data)))

    def root(self, folder: Path) -> str:
        """Return where the samples' files are, relative to the site's folder; empty if they are no files.

        A relative address holds no path of the machine.
        """
        base = getattr(self._data, "path", None)
        if base is None or not self.files or not (Path(base) / self.files[0]).is_file():
            return ""
        try:
            return quote(Path(os.path.relpath(base, folder)).as_posix()) + "/"
        except ValueError:  # another drive
            return ""

    def of(self, layer: str, concept: int) -> dict[str, Any] | None:
        """Return the samples that use a concept; None if the library holds no vectors.

        Returns
        -------
        dict or None
            `pairs`: samples and shares (multiples of 1 / UNIT) in turn, largest share first. `count`: how many samples
            use the concept, of which the `LISTED` strongest are in `pairs`; `mined`: of how many.
        """
        if not self.known:
            return None
        vectors = self._vectors(layer)
        hits = search(vectors, concept, count=None)
        used = np.flatnonzero(np.abs(hits.value) >= LEAST_SHARE)
        strongest = used[np.argsort(-np.abs(hits.value[used]), kind="stable")[:LISTED]]
        kept = np.sort(strongest)  # places in the order of the hits: largest share first
        pairs = [number for at in kept for number in (int(hits.sample[at]), int(float(hits.value[at]) * UNIT))]
        return {"pairs": pairs, "count": len(used), "mined": len(hits.sample)}

    def _vectors(self, layer: str) -> Any:
        if layer not in self._opened:
            self._opened[layer] = self._library.vectors(layer)
        return self._opened[layer]

    @cached_property
    def _opened(self) -> dict[str, Any]:
        return {}

    def write(self, folder: Path) -> None:
        """Write what pages of concepts read about the samples, if the library holds vectors."""
        if not self.known:
            return
        vectors = self._vectors(self._library.layers[0])
        names: dict[str, int] = {}
        known = self._library.class_names

        def numbered(classes: np.ndarray) -> list[int]:
            return [-1 if c < 0 else names.setdefault(class_name(known, int(c)), len(names)) for c in classes]

        content = {
            "unit": UNIT,
            "suffix": SUFFIX,
            **{key: numbered(getattr(vectors, key)) for key in ("target", "prediction", "label")},
            "right": [
                None if label < 0 or best < 0 else int(label == best)
                for label, best in zip(vectors.label, vectors.prediction, strict=True)
            ],
            **self._places(folder),
        }
        content["names"] = list(names)
        text = json.dumps(content, separators=(",", ":"))
        write_changed(folder / "assets" / "samples.js", f"window.minedSamples = {text};\n".encode("ascii"))

    def _places(self, folder: Path) -> dict[str, Any]:
        """Return name, source file and page of every sample, as far as they are known."""
        root = self.root(folder)
        paths = [(Path(self._data.path) / file).resolve() for file in self.files] if root else []
        pages = {index: self._pages[path] for index, path in enumerate(paths) if path in self._pages}
        return {"files": self.files or None, "root": root, "pages": pages}
