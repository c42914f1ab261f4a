"""A data set in fixed blocks: sample i is always computed in block `i // B`, at place `i % B`.

The last bits of a sample's relevance depend on the number of samples in its batch, but not on which samples these are.
With fixed blocks, the result of mining does not depend on the number of workers and processes, nor on where a run was
interrupted.

For the same reason, a skipped sample is replaced by a copy of another sample of its block, which is not counted. The
results of the others stay the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from crp.dataset_items import read_item
from crp.errors import CrpError, InputError, SampleError
from crp.library.fingerprints import sample_digest
from crp.mining.durable.spans import Spans
from crp.mining.labels import Label, read_label
from crp.preprocessing import Preprocessing

_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Block:
    """Consecutive samples.

    Attributes
    ----------
    number
        Number `i // B` of the block.
    samples
        Indices in the data set, int64 `[N]`; the index of the substitute at the place of a skipped sample.
    data, labels
        `[N, c, *S]`, and int64 `[N]` (-1 for none); `[N, L]`, padded with -1, if samples have several labels.
    counted
        Places of samples that count, ints; substitutes are at the others.
    skipped
        Index of each skipped sample -> the reason.
    """

    number: int
    samples: Tensor
    data: Tensor
    labels: Tensor
    counted: np.ndarray
    skipped: Mapping[int, str]

    def pin_memory(self) -> Block:
        """Return the block with its data in pinned memory; called by `DataLoader`."""
        return replace(self, data=self.data.pin_memory())

    def without(self, error: SampleError) -> Block:
        """Return the block with a substitute for one more sample."""
        keep = self.counted[self.samples.numpy()[self.counted] != error.sample]
        places = np.arange(len(self.samples))
        if len(keep):
            # if the bad sample is a substitute itself, its copies are replaced too
            places[self.samples.numpy() == error.sample] = keep[0]
        skipped = {**self.skipped, error.sample: error.fact}
        return Block(self.number, self.samples[places], self.data[places], self.labels[places], keep, skipped)


class SampleReader:
    """Reads single samples of a map-style data set; errors name the sample.

    Parameters
    ----------
    dataset
        Has `__len__` and `__getitem__`; an item is what `crp.dataset_items` reads, with a label that
        `crp.mining.labels` reads.
    labelled
        Whether every sample must have a label. If not, it is -1 where there is none.
    skip_bad
        Whether the first samples may be unusable.
    preprocessing
        How pictures become model input, if the items are pictures.
    without_label
        What the caller can do if a sample has no label, for the error.

    Attributes
    ----------
    like
        The first sample; with `skip_bad` the first usable one. All others must have its shape and dtype.
    classes
        Number of the model's classes, for vectors of 0 and 1; None until the model is known.

    Raises
    ------
    InputError
        If the data set is not map-style, or empty.
    SampleError
        If the first sample is unusable; with `skip_bad` if all are.
    """

    def __init__(
        self,
        dataset: object,
        labelled: bool,
        skip_bad: bool = False,
        preprocessing: Preprocessing | None = None,
        without_label: str = "pass targets='prediction' to explain the prediction",
    ) -> None:
        indexed = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
        if isinstance(dataset, IterableDataset) or not indexed:
            raise InputError(
                f"The data set is a {type(dataset).__name__}, whose samples cannot be read by index; "
                "a map-style data set with __len__ and __getitem__ is needed."
            )
        if len(dataset) == 0:
            raise InputError("The data set is empty; at least one sample is needed.")
        self.dataset = dataset
        self.labelled = labelled
        self.without_label = without_label
        self.preprocessing = preprocessing
        self.classes: int | None = None
        self.like: Tensor | None = None
        self.like = self._first(skip_bad)

    def _first(self, skip_bad: bool) -> Tensor:
        failed = None
        for index in range(len(self) if skip_bad else 1):
            try:
                return self[index][0]
            except SampleError as error:
                failed = failed or error
        raise failed

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Label]:
        """Read sample `index` as `(data [c, *S], label)`; the label is a tuple if a sample may have several.

        Raises
        ------
        SampleError
            If reading fails, the sample is not a finite float tensor with the shape and dtype of the first one, or its
            label is missing or invalid. Names the sample.
        """
        try:
            item = self.dataset[index]
        except CrpError as error:
            raise self.failed(index, f"could not be read: {error}") from error
        except Exception as error:
            raise self.failed(index, f"could not be read: {type(error).__name__}: {error}") from error
        try:
            data, label = read_item(item, self.preprocessing)
        except (InputError, ValueError) as error:
            raise self.failed(index, str(error)) from None
        self._check(index, data)
        return data.detach(), self._label(index, label)

    def spread(self, count: int) -> list[int]:
        """List `count` indices, or all if there are fewer, whose beginnings are also spread over the data set.

        They are in the order of the fractional parts of multiples of the golden ratio. So they do not fall in step with
        classes that alternate, as every n-th sample can: of 1,000 samples in ten alternating classes, every second one
        belongs to five of the classes.
        """
        return np.argsort(np.arange(len(self)) * _GOLDEN % 1)[:count].tolist()

    def failed(self, index: int, fact: str) -> SampleError:
        """Make the error for a sample, with its name in the data set if that adds something to index and fact."""
        name = self.dataset.sample_name(index) if hasattr(self.dataset, "sample_name") else ""
        return SampleError(index, fact, "" if name in (f"sample {index}", "") or name in fact else name)

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Add the name that a sample has in the data set to errors that hold its index alone."""
        try:
            yield
        except SampleError as error:
            error.name = self.failed(error.sample, error.fact).name
            raise

    def _check(self, index: int, data: object) -> None:
        if not isinstance(data, Tensor) or not data.is_floating_point():
            kind = f"{data.dtype} tensor" if isinstance(data, Tensor) else type(data).__name__
            raise self.failed(
                index, f"is a {kind}; a float tensor or a picture is needed, alone, with a label, or in a dict."
            )
        if self.like is not None and (data.shape != self.like.shape or data.dtype != self.like.dtype):
            raise self.failed(
                index,
                f"is {data.dtype} of shape {list(data.shape)}, sample 0 is {self.like.dtype} "
                f"of shape {list(self.like.shape)}; all samples must be alike.",
            )
        if data.numel() == 0:
            raise self.failed(index, f"has shape {list(data.shape)} and holds no values.")
        # a sum that is finite has finite terms; one that is not may have overflowed
        if not (data.sum().isfinite() or data.isfinite().all()):
            raise self.failed(index, "holds NaN or infinite values.")

    def _label(self, index: int, label: object) -> Label:
        if label is None and self.labelled:
            raise self.failed(index, f"has no label; {self.without_label}.")
        if label is None:
            return -1
        try:
            return read_label(label, self.classes)
        except InputError as error:
            if self.labelled:
                raise self.failed(index, str(error)) from None
            return -1


def several_labels(reader: SampleReader, limit: int = 32) -> bool:
    """Return whether one of the first `limit` samples has none or several of the classes, as in multi-label data.

    Data whose first usable label is a single class are not read further.
    """
    for index in range(min(limit, len(reader))):
        try:
            label = reader[index][1]
        except SampleError:
            continue
        if not isinstance(label, tuple):
            return False
        if len(label) != 1:
            return True
    return False


def check_repeatable(reader: SampleReader, digests: Mapping[int, str], limit: int = 4) -> None:
    """Read the first `limit` of the fingerprinted samples again and compare.

    Raises
    ------
    InputError
        If the bytes of one differ from the first time.
    """
    for index in list(digests)[:limit]:
        _compare(index, reader[index][0], digests)


def blocks(
    reader: SampleReader,
    size: int,
    workers: int,
    digests: Mapping[int, str],
    *,
    numbers: Spans | None = None,
    skip_bad: bool = False,
    pinned: bool = False,
) -> Iterator[Block]:
    """Yield the samples in order, `size` at a time (the last block may be smaller).

    Parameters
    ----------
    reader
        The data set.
    size
        Block size `B`.
    workers
        Processes that read ahead; 0 to read in this one.
    digests
        Sample index -> digest from when the data set was fingerprinted. The bytes of these samples must be the same.
    numbers
        Which blocks; by default all.
    skip_bad
        Whether to skip unusable samples.
    pinned
        Whether to read data into pinned memory, from which a CUDA device copies asynchronously.

    Raises
    ------
    SampleError
        If a sample cannot be used and `skip_bad` is false; also if a worker process read it.
    InputError
        If a sample has other values than when it was fingerprinted.
    """
    items = _Items(reader, size)
    loader = DataLoader(
        items,
        batch_sampler=_Indices([(0, -(-len(reader) // size))] if numbers is None else numbers, size, len(reader)),
        num_workers=workers,
        collate_fn=items.block,
        pin_memory=pinned,
        generator=torch.Generator(),  # otherwise the loader draws its seed from the caller's random state
    )
    for block, errors in loader:
        for error in errors:
            if not skip_bad:
                raise error
            block = block.without(error)
        for place in block.counted:
            index = int(block.samples[place])
            if index in digests:
                _compare(index, block.data[place], digests)
        yield block


class _Indices:
    """Yields the samples of each block as a range, one at a time: a billion samples are many blocks."""

    def __init__(self, numbers: Spans, size: int, length: int):
        self.numbers, self.size, self.length = numbers, size, length

    def __iter__(self) -> Iterator[range]:
        for start, stop in self.numbers:
            for number in range(start, stop):
                yield range(number * self.size, min((number + 1) * self.size, self.length))


class _Items:
    """Returns errors as values, because a worker process would wrap an exception in its own traceback."""

    def __init__(self, reader: SampleReader, size: int):
        self.reader, self.size = reader, size

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> tuple[int, Tensor, Label, SampleError | None]:
        try:
            return index, *self.reader[index], None
        except SampleError as error:
            return index, torch.zeros_like(self.reader.like), -1, error

    def block(self, items: list) -> tuple[Block, list[SampleError]]:
        """Combine the items of a block; also return the errors of unusable samples."""
        samples, data, labels, errors = zip(*items, strict=True)
        return (
            Block(
                samples[0] // self.size,
                torch.tensor(samples),
                torch.stack(data),
                label_table(labels),
                np.arange(len(samples)),
                {},
            ),
            [error for error in errors if error is not None],
        )


def label_table(labels: Sequence[Label]) -> Tensor:
    """Return the labels of some samples as int64 `[N]`, or `[N, L]` padded with -1 if one of them is a tuple."""
    if all(isinstance(label, int) for label in labels):
        return torch.tensor(labels)
    several = [label if isinstance(label, tuple) else (label,) for label in labels]
    longest = max(1, *map(len, several))
    return torch.tensor([[*label, *[-1] * (longest - len(label))] for label in several])


def _compare(index: int, data: Tensor, digests: Mapping[int, str]) -> None:
    if sample_digest(data) != digests[index]:
        raise InputError(
            f"Sample {index} of the data set has other values when it is read again; mining needs a data set without "
            "random augmentation."
        )
