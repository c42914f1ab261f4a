"""Progress bars, with the rate and the remaining time: `progress_bar`, `in_batches`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from torch import Tensor

# Seconds between two updates: where they replace each other, and in a log, which keeps them all.
_IN_PLACE, _IN_A_LOG = 0.1, 30.0


def progress_bar(doing: str, total: int, *, shown: bool, unit: str = "sample") -> tqdm:
    """Open a progress bar on stderr, a context with the method `update(count)`.

    A file or pipe, such as the log of a job on a cluster, gets an update every 30 seconds.

    Parameters
    ----------
    doing
        What is done, in a few words.
    total
        Number of units.
    shown
        Whether to show it.
    unit
        What is counted.
    """
    in_place = sys.stderr.isatty() or "ipykernel" in sys.modules
    seconds = _IN_PLACE if in_place else _IN_A_LOG
    # tqdm's own upper limit of 10 seconds would be below that of a log
    return tqdm(total=total, desc=doing, unit=unit, disable=not shown, mininterval=seconds, maxinterval=_IN_A_LOG)


def in_batches(data: Tensor, size: int, doing: str, *, shown: bool) -> Iterator[tuple[slice, Tensor]]:
    """Yield the rows of each batch of `data` `[N, ...]`, and the batch, with a progress bar of samples."""
    with progress_bar(doing, len(data), shown=shown) as bar:
        for first in range(0, len(data), size):
            batch = data[first : first + size]
            yield slice(first, first + len(batch)), batch
            bar.update(len(batch))
