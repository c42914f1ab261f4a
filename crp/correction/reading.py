"""What a correction reads: samples of a data set."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crp.errors import InputError
from crp.mining.block_stream import SampleReader
from crp.progress import progress_bar

# One of how many samples is used to measure only.
_MEASURES = 4


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples `[N, c, *S]`; if they are read, their labels, int64 `[N]`; and their indices in the data set."""

    data: Tensor
    labels: Tensor | None
    indices: tuple[int, ...]

    def to(self, device: torch.device) -> Samples:
        """Return the samples on a device."""
        labels = None if self.labels is None else self.labels.to(device)
        return Samples(self.data.to(device), labels, self.indices)

    def joined(self, other: Samples) -> Samples:
        """Return both as one; all have labels, or none."""
        labels = None if self.labels is None else torch.cat([self.labels, other.labels])
        return Samples(torch.cat([self.data, other.data]), labels, self.indices + other.indices)


def read_samples(dataset: object, count: int, *, labelled: bool, progress: bool = True) -> tuple[Samples, Samples]:
    """Read samples that are spread over a data set, and divide them.

    Parameters
    ----------
    dataset
        Map-style.
    count
        At most how many.
    labelled
        Whether to read one label of each.
    progress
        Whether to show a progress bar.

    Returns
    -------
    tuple of two Samples
        Three quarters to correct with, and a quarter to measure with. Both are spread over the data set.

    Raises
    ------
    InputError
        If there are fewer than 40 samples, or a sample has several labels.
    """
    reader = SampleReader(dataset, labelled, without_label="leave the labels out")
    if len(reader) < 10 * _MEASURES:
        raise InputError(f"The data have {len(reader)} samples; a correction needs at least {10 * _MEASURES}.")
    rows = reader.spread(count)
    read = []
    with progress_bar("reading samples", len(rows), shown=progress) as bar:
        for index in rows:
            read.append(reader[index])
            bar.update(1)
    data = torch.stack([inputs for inputs, _ in read])
    if labelled and any(isinstance(label, tuple) for _, label in read):
        raise InputError("Samples with several labels cannot be fitted to; leave the labels out.")
    labels = torch.tensor([label for _, label in read]) if labelled else None
    held = len(read) // _MEASURES

    def those(which: slice) -> Samples:
        return Samples(data[which], None if labels is None else labels[which], tuple(rows[which]))

    return those(slice(held, None)), those(slice(held))
