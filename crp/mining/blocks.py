"""A data set as absolute blocks: sample i is always computed in block `i // B`, at place `i % B`.

The relevance of a sample depends, in its last bits, on how many samples share its batch, but not on which. Absolute
blocks make the result of mining independent of the number of workers and of where a run was interrupted.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from crp.errors import CrpError, InputError, SampleError, shortened
from crp.library.fingerprints import sample_digest


@dataclass(frozen=True)
class Block:
    """Consecutive samples: `samples` int64 `[N]`, `data` `[N, c, *S]`, `labels` int64 `[N]` (-1: none).

    Where samples have several labels, or none of several, `labels` is `[N, L]`, filled up with -1.
    """

    samples: Tensor
    data: Tensor
    labels: Tensor


class SampleReader:
    """Reads single samples of a map-style data set, and says which one when something is wrong with it.

    Parameters
    ----------
    dataset
        Has `__len__` and `__getitem__`; an item is a float tensor, or `(tensor, label)`. A label is a whole number, a
        list of them, or a vector (array, tensor) of 0 and 1, one entry for each class.
    labelled
        Whether every sample must have a label. If not, it is -1 where there is none.

    Raises
    ------
    InputError
        If the data set is not map-style, or empty.
    SampleError
        If the first sample cannot be used.
    """

    def __init__(self, dataset: object, labelled: bool):
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
        self.like = self[0][0]

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
            raise SampleError(f"Sample {index} could not be read: {error}") from error
        except Exception as error:
            raise SampleError(f"Sample {index} could not be read: {type(error).__name__}: {error}") from error
        data, label = item if isinstance(item, tuple | list) and len(item) == 2 else (item, None)
        if isinstance(data, tuple | list) and len(data) == 1:  # what TensorDataset makes of a single tensor
            data = data[0]
        self._check(index, data)
        return data.detach(), self._label(index, label)

    def _check(self, index: int, data: object) -> None:
        if not isinstance(data, Tensor) or not data.is_floating_point():
            kind = f"{data.dtype} tensor" if isinstance(data, Tensor) else type(data).__name__
            raise SampleError(f"Sample {index} is a {kind}; a float tensor, or (float tensor, label), is needed.")
        if self.like is not None and (data.shape != self.like.shape or data.dtype != self.like.dtype):
            raise SampleError(
                f"Sample {index} is {data.dtype} of shape {list(data.shape)}, sample 0 is {self.like.dtype} "
                f"of shape {list(self.like.shape)}; all samples must be alike."
            )
        if data.numel() == 0:
            raise SampleError(f"Sample {index} has shape {list(data.shape)} and holds no values.")
        if not data.isfinite().all():
            raise SampleError(f"Sample {index} holds NaN or infinite values.")

    def _label(self, index: int, label: object) -> int | tuple[int, ...]:
        if label is None and self.labelled:
            raise SampleError(f"Sample {index} has no label; pass targets='prediction' to explain the prediction.")
        found = _read_label(label)
        if found is None and self.labelled:
            raise SampleError(
                f"Sample {index} has the label {shortened(label)}, which is not a whole number, a list of them, or a "
                "vector of 0 and 1."
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


def blocks(reader: SampleReader, size: int, workers: int, digests: Mapping[int, str]) -> Iterator[Block]:
    """All samples, in order, `size` at a time (the last block may be smaller).

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

    Raises
    ------
    SampleError
        If a sample cannot be used, also from a worker.
    InputError
        If a sample answers differently when asked twice.
    """
    indices = [range(start, min(start + size, len(reader))) for start in range(0, len(reader), size)]
    loader = DataLoader(
        _Answers(reader),
        batch_sampler=indices,
        num_workers=workers,
        collate_fn=_collate,
        generator=torch.Generator(),  # else the loader draws its seed from the caller's random state
    )
    for answer in loader:
        if isinstance(answer, str):
            raise SampleError(answer)
        for index, data in zip(answer.samples.tolist(), answer.data, strict=True):
            if index in digests:
                _compare(index, data, digests)
        yield answer


class _Answers:
    """Hands a SampleError's sentence on as a value: a worker would wrap the exception in its own traceback."""

    def __init__(self, reader: SampleReader):
        self.reader = reader

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> tuple[int, Tensor, int | tuple[int, ...]] | str:
        try:
            return index, *self.reader[index]
        except SampleError as error:
            return str(error)


def _collate(answers: list) -> Block | str:
    for answer in answers:
        if isinstance(answer, str):
            return answer
    samples, data, labels = zip(*answers, strict=True)
    return Block(torch.tensor(samples), torch.stack(data), label_table(labels))


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
