"""Finished patches on disk until all are finished: files with some patches each, by the number of their request."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from crp.errors import LibraryError
from crp.library.patches import StoredPatch
from crp.library.tables import open_table, write_table
from crp.mining.patch_requests import Request

logger = logging.getLogger(__name__)


class SegmentWriter:
    """Collects the patches that one process makes, and writes them at regular intervals.

    Parameters
    ----------
    folder
        Folder of the segments.
    owner
        Beginning of the files' names.
    every
        Seconds between writes.
    """

    def __init__(self, folder: Path, owner: str, every: float):
        self._folder, self._owner, self._every = folder, owner, every
        self._number = max((int(file.name.split(".")[1]) for file in folder.glob(f"{owner}.*.safetensors")), default=0)
        self._waiting: list[tuple[int, StoredPatch]] = []
        self._written = time.monotonic()

    def add(self, made: Iterable[tuple[int, StoredPatch]]) -> None:
        """Add finished patches, each with the number of its request."""
        self._waiting += made
        if time.monotonic() - self._written >= self._every:
            self.write()

    def write(self) -> None:
        """Write the patches added since the last write."""
        if self._waiting:
            self._number += 1
            numbers, patches = zip(*self._waiting, strict=True)
            pictures = [np.frombuffer(patch.picture, dtype=np.uint8) for patch in patches]
            heatmaps = [patch.heatmap.view(np.uint8).reshape(-1) for patch in patches]
            write_table(
                self._folder / f"{self._owner}.{self._number}.safetensors",
                {
                    "request": np.array(numbers, dtype=np.int64),
                    "box": np.array([patch.box for patch in patches], dtype=np.int64),
                    "size": np.array([patch.heatmap.shape for patch in patches], dtype=np.int64),
                    "picture_start": np.cumsum([0, *map(len, pictures)], dtype=np.int64),
                    "picture": np.concatenate(pictures),
                    "heatmap_start": np.cumsum([0, *map(len, heatmaps)], dtype=np.int64),
                    "heatmap": np.concatenate(heatmaps),
                },
            )
            self._waiting = []
        self._written = time.monotonic()


def finished(folder: Path) -> dict[int, Path]:
    """Find the file of each finished request, by its number. A damaged file is reported and ignored."""
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with open_table(file) as table:
                found |= dict.fromkeys(table.array("request", np.int64, (None,)).tolist(), file)
        except LibraryError:
            logger.warning("The file '%s' of finished patches is damaged: they are made again.", file)
    return found


def read_finished(
    found: dict[int, Path], requests: Sequence[Request], numbers: Iterable[int]
) -> dict[int, StoredPatch]:
    """Read the finished patches of some requests.

    Parameters
    ----------
    found
        Result of `finished`.
    requests
        All requests.
    numbers
        Numbers of the requests to read.

    Raises
    ------
    LibraryError
        If a file is damaged.
    """
    by_file: dict[Path, list[int]] = {}
    for number in numbers:
        by_file.setdefault(found[number], []).append(number)
    return {
        number: patch for file, some in by_file.items() for number, patch in _patches(file, requests, some).items()
    }


def _patches(file: Path, requests: Sequence[Request], numbers: Iterable[int]) -> dict[int, StoredPatch]:
    with open_table(file) as table:
        rows = {number: row for row, number in enumerate(table.array("request", np.int64, (None,)).tolist())}
        size = table.array("size", np.int64, (len(rows), None))
        box = table.array("box", np.int64, (len(rows), 2 * size.shape[1]))
        starts = {name: table.array(f"{name}_start", np.int64, (len(rows) + 1,)) for name in ("picture", "heatmap")}
        patches = {}
        for number in numbers:
            row, request = rows[number], requests[number]
            picture, heatmap = (
                table.piece(name, np.uint8, int(start[row]), int(start[row + 1])) for name, start in starts.items()
            )
            patches[number] = StoredPatch(
                request.sample,
                request.score,
                request.target,
                request.position,
                tuple(box[row].tolist()),
                picture.tobytes(),
                heatmap.view(np.int8).reshape(size[row]),
            )
    return patches
