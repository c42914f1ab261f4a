"""A data set as absolute blocks: sample i is always computed in block `i // B`, at place `i % B`.

The relevance of a sample depends, in its last bits, on how many samples share its batch, but not on which. Absolute
blocks make the result of mining independent of the number of workers and processes and of where a run was interrupted.

For the same reason the place of a sample that is skipped is taken by a copy of another one of its block, of which
nothing is counted: what is computed for the others stays the same to the last bit.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from crp.errors import CrpError, InputError, SampleError, shortened
from crp.library.fingerprints import sample_digest
from crp.mining.durable.spans import Spans


@dataclass(frozen=True)
class Block:
    """Consecutive samples.

    Attributes
    ----------
    number
        Its place `i // B` among the blocks.
    samples
        Indices in the data set, int64 `[N]`; at the place of a skipped sample that of its stand-in.
    data, labels
        `[N, c, *S]`, and int64 `[N]` (-1: none); `[N, L]`, filled up with -1, where samples have several labels.
    counted
        Places that hold samples, ints; at the others are stand-ins.
    skipped
        Sample -> what is wrong with it.
    """

    number: int
    samples: Tensor
    data: Tensor
    labels: Tensor
    counted: np.ndarray
    skipped: Mapping[int, str]

    def pin_memory(self) -> Block:
        """The block with its data in memory that a GPU reads by itself; `DataLoader` asks for it."""
        return replace(self, data=self.data.pin_memory())

    def without(self, error: SampleError) -> Block:
        """The block with a stand-in for one more sample."""
        keep = self.counted[self.samples.numpy()[self.counted] != error.sample]
        places = np.arange(len(self.samples))
        if len(keep):
            # a stand-in that proves bad itself takes its copies with it
            places[self.samples.numpy() == error.sample] = keep[0]
        skipped = {**self.skipped, error.sample: error.fact}
        return Block(self.number, self.samples[places], self.data[places], self.labels[places], keep, skipped)


class SampleReader:
    """Reads single samples of a map-style data set, and says which one when something is wrong with it.

    Parameters
    ----------
    dataset
        Has `__len__` and `__getitem__`; an item is a float tensor, or `(tensor, label)`. A label is a whole number, a
        list of them, or a vector (array, tensor) of 0 and 1, one entry for each class.
    labelled
        Whether every sample must have a label. If not, it is -1 where there is none.
    skip_bad
        Whether the first samples may be such that they cannot be used.

    Attributes
    ----------
    like
        The first sample; with `skip_bad` the first one that can be used. All others must be like it.

    Raises
    ------
    InputError
        If the data set is not map-style, or empty.
    SampleError
        If the first sample cannot be used; with `skip_bad` if none can.
    """

    def __init__(self, dataset: object, labelled: bool, skip_bad: bool = False):
        indexed = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
        if isinstance(dataset, IterableDataset) or not indexed:
            raise InputError(
                f"The data set is a {type(dataset).__name__}, which cannot be asked for sample i; "
                "a map-style data set with __len__ and __getitem__ is needed."
            )
        if len(dataset) == 0:
            raise InputError("The data set is empty; at least one sample is needed.")
        self.dataset = dataset
        self.labelled = labelled
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
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, int | tuple[int, ...]]:
        """Sample `index` as `(data [c, *S], label)`, the label as a tuple where a sample may have several.

        Raises
        ------
        SampleError
            If reading it fails; if it is not a finite float tensor with the shape and dtype of the first sample; if
            its label is missing or none. Names the sample.
        """
        try:
            item = self.dataset[index]
        except CrpError as error:
            raise self.failed(index, f"could not be read: {error}") from error
        except Exception as error:
            raise self.failed(index, f"could not be read: {type(error).__name__}: {error}") from error
        data, label = item if isinstance(item, tuple | list) and len(item) == 2 else (item, None)
        if isinstance(data, tuple | list) and len(data) == 1:  # what TensorDataset makes of a single tensor
            data = data[0]
        self._check(index, data)
        return data.detach(), self._label(index, label)

    def failed(self, index: int, fact: str) -> SampleError:
        """The error for a sample, with what the data set calls it, where that says more than index and fact."""
        name = self.dataset.sample_name(index) if hasattr(self.dataset, "sample_name") else ""
        return SampleError(index, fact, "" if name in (f"sample {index}", "") or name in fact else name)

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Let errors of samples, which know them by their index, say also what the data set calls them."""
        try:
            yield
        except SampleError as error:
            error.name = self.failed(error.sample, error.fact).name
            raise

    def _check(self, index: int, data: object) -> None:
        if not isinstance(data, Tensor) or not data.is_floating_point():
            kind = f"{data.dtype} tensor" if isinstance(data, Tensor) else type(data).__name__
            raise self.failed(index, f"is a {kind}; a float tensor, or (float tensor, label), is needed.")
        if self.like is not None and (data.shape != self.like.shape or data.dtype != self.like.dtype):
            raise self.failed(
                index,
                f"is {data.dtype} of shape {list(data.shape)}, sample 0 is {self.like.dtype} "
                f"of shape {list(self.like.shape)}; all samples must be alike.",
            )
        if data.numel() == 0:
            raise self.failed(index, f"has shape {list(data.shape)} and holds no values.")
        if not data.isfinite().all():
            raise self.failed(index, "holds NaN or infinite values.")

    def _label(self, index: int, label: object) -> int | tuple[int, ...]:
        if label is None and self.labelled:
            raise self.failed(index, "has no label; pass targets='prediction' to explain the prediction.")
        found = _read_label(label)
        if found is None and self.labelled:
            raise self.failed(
                index,
                f"has the label {shortened(label)}, which is not a whole number, a list of them, or a vector of 0 and "
                "1.",
            )
        return -1 if found is None else found


def _read_label(label: object) -> int | tuple[int, ...] | None:
    """A whole number, or the numbers of several classes; None for anything else."""
    try:
        return operator.index(label)
    except (TypeError, RuntimeError, ValueError):
        pass
    try:
        if isinstance(label, list | tuple | set | frozenset):
            return tuple(operator.index(number) for number in label)
        entries = np.asarray(label.detach().cpu() if isinstance(label, Tensor) else label)
        if entries.ndim == 1 and ((entries == 0) | (entries == 1)).all():
            return tuple(np.flatnonzero(entries).tolist())
    except (TypeError, RuntimeError, ValueError):
        pass
    return None


def check_repeatable(reader: SampleReader, digests: Mapping[int, str], limit: int = 4) -> None:
    """Ask for the first `limit` of the fingerprinted samples again.

    Raises
    ------
    InputError
        If one answers with other bytes than before.
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
    """Samples in order, `size` at a time (the last block may be smaller).

    Parameters
    ----------
    reader
        The data set.
    size
        Block size `B`.
    workers
        Processes that read ahead; 0 reads in this one.
    digests
        Sample index -> digest when the data set was fingerprinted; those samples must come with the same bytes.
    numbers
        Which blocks; by default all.
    skip_bad
        Whether samples that cannot be used are skipped.
    pinned
        Whether data are read into pinned memory, from which a CUDA device copies while others are computed.

    Raises
    ------
    SampleError
        If a sample cannot be used, also from a worker; not with `skip_bad`.
    InputError
        If a sample answers differently when asked twice.
    """
    answers = _Answers(reader, size)
    loader = DataLoader(
        answers,
        batch_sampler=_Indices([(0, -(-len(reader) // size))] if numbers is None else numbers, size, len(reader)),
        num_workers=workers,
        collate_fn=answers.block,
        pin_memory=pinned,
        generator=torch.Generator(),  # else the loader draws its seed from the caller's random state
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
    """The samples of each block as a range, made when asked for: a billion samples are many blocks."""

    def __init__(self, numbers: Spans, size: int, length: int):
        self.numbers, self.size, self.length = numbers, size, length

    def __iter__(self) -> Iterator[range]:
        for start, stop in self.numbers:
            for number in range(start, stop):
                yield range(number * self.size, min((number + 1) * self.size, self.length))


class _Answers:
    """Hands errors on as values: a worker would wrap the exception in its own traceback."""

    def __init__(self, reader: SampleReader, size: int):
        self.reader, self.size = reader, size

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> tuple[int, Tensor, int | tuple[int, ...], SampleError | None]:
        try:
            return index, *self.reader[index], None
        except SampleError as error:
            return index, torch.zeros_like(self.reader.like), -1, error

    def block(self, answers: list) -> tuple[Block, list[SampleError]]:
        """The answers of a block together, and what was wrong with some of them."""
        samples, data, labels, errors = zip(*answers, strict=True)
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


def label_table(labels: Sequence[int | tuple[int, ...]]) -> Tensor:
    """Labels of some samples as int64 `[N]`, or `[N, L]` filled up with -1 where one of them is a tuple."""
    if all(isinstance(label, int) for label in labels):
        return torch.tensor(labels)
    several = [label if isinstance(label, tuple) else (label,) for label in labels]
    longest = max(1, *map(len, several))
    return torch.tensor([[*label, *[-1] * (longest - len(label))] for label in several])


def _compare(index: int, data: Tensor, digests: Mapping[int, str]) -> None:
    if sample_digest(data) != digests[index]:
        raise InputError(
            f"Sample {index} of the data set answers differently when asked twice; mining needs a data set without "
            "random augmentation."
        )
