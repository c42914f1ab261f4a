"""Makes patches that are missing, and adds them to a library at regular intervals."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from crp.attribution.memory import memory_kept
from crp.library.patch_files import PatchFiles
from crp.library.patch_segments import PatchKey
from crp.progress import progress_bar

from .patch_maker import PatchMaker
from .patch_requests import Request, requests


def fill(
    maker: PatchMaker,
    files: Mapping[str, PatchFiles],
    wanted: Mapping[str, Iterable[PatchKey]],
    *,
    chosen: Callable[[list[list[Request]]], list[list[Request]]],
    every: float,
    progress: bool,
) -> None:
    """Make those of some patches that are missing. After an interruption, those that were made are stored.

    Parameters
    ----------
    maker
        Makes the patches.
    files
        The patches of each layer on disk.
    wanted
        Patches by layer.
    chosen
        Returns the groups of patches that this process makes, in its order.
    every
        Seconds between writes.
    progress
        Whether to show a progress bar.
    """
    missing = {layer: files[layer].missing(keys) for layer, keys in wanted.items()}
    asked = requests(missing, {layer: files[layer].references for layer, keys in missing.items() if keys})
    groups = chosen(maker.groups(asked))
    made: dict[str, dict] = defaultdict(dict)

    def write() -> None:
        for layer in list(made):
            files[layer].add(made.pop(layer))

    total, written = sum(map(len, groups)), time.monotonic()
    with memory_kept(), progress_bar("patches", total, shown=progress and bool(groups), unit="patch") as bar:
        try:
            for group in groups:
                for request, patch in maker.of_group(_still_missing(group, files)):
                    made[request.layer][request.key] = patch
                bar.update(len(group))
                if time.monotonic() - written >= every:
                    write()
                    written = time.monotonic()
        finally:
            write()


def _still_missing(group: list[Request], files: Mapping[str, PatchFiles]) -> list[Request]:
    """Leave out what another process has made in the meantime."""
    missing = {
        layer: set(files[layer].missing(request.key for request in group if request.layer == layer))
        for layer in {request.layer for request in group}
    }
    return [request for request in group if request.key in missing[request.layer]]
