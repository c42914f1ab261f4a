"""Progress bars, with the rate and the remaining time: `progress_bar`, `in_batches`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from torch import Tensor


def progress_bar(doing: str, total: int, *, shown: bool, unit: str = "sample") -> tqdm:
    """Open a progress bar, a context with the method `update(count)`.

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
    return tqdm(total=total, desc=doing, unit=unit, disable=not shown)


def in_batches(data: Tensor, size: int, doing: str, *, shown: bool) -> Iterator[tuple[slice, Tensor]]:
    """Yield the rows of each batch of `data` `[N, ...]`, and the batch, with a progress bar of samples."""
    with progress_bar(doing, len(data), shown=shown) as bar:
        for first in range(0, len(data), size):
            batch = data[first : first + size]
            yield slice(first, first + len(batch)), batch
            bar.update(len(batch))
