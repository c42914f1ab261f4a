"""A data set prepared for mining: checked, fingerprinted, and described so that a library can recognise it."""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crp.errors import LibraryError, SampleError
from crp.library.fingerprints import data_fingerprint, sample_digest, sampled_indices
from crp.models import check_same
from crp.preprocessing import Preprocessing

from .block_stream import SampleReader, check_repeatable

if TYPE_CHECKING:
    from crp.library import Library


@dataclass(frozen=True)
class DataSubject:
    """A data set prepared for mining: its reader, digests of some samples, and its description for the manifest."""

    reader: SampleReader
    digests: dict[int, str]
    data: dict[str, Any]


def data_subject(
    dataset: object, *, labelled: bool, skip_bad: bool = False, preprocessing: Preprocessing | None = None
) -> DataSubject:
    """Check and fingerprint a data set.

    Parameters
    ----------
    dataset
        Map-style.
    labelled
        Whether every sample must have a label.
    skip_bad
        Whether to accept unusable samples. Their digest in the fingerprint is `""`.
    preprocessing
        How pictures become model input, if the data set has pictures.

    Raises
    ------
    InputError
        If it is not map-style, is empty, or returns different values when a sample is read twice.
    SampleError
        If a sample cannot be used and `skip_bad` is false.
    """
    reader = SampleReader(dataset, labelled, skip_bad, preprocessing)
    digests, labels = _sampled(reader, len(reader), skip_bad)
    check_repeatable(_unlabelled(reader), {index: digest for index, digest in digests.items() if digest})
    return DataSubject(
        reader,
        digests,
        {
            "length": len(reader),
            "fingerprint": data_fingerprint(len(reader), digests),
            **({"labels": data_fingerprint(len(reader), labels)} if labelled else {}),
            "shape": list(reader.like.shape),
            "dtype": str(reader.like.dtype).removeprefix("torch."),
        },
    )


def _sampled(reader: SampleReader, length: int, skip_bad: bool = False) -> tuple[dict[int, str], dict[int, str]]:
    """Read a selection of the first `length` samples: their digests and labels; with `skip_bad`, `""` if unusable."""

    def read(index: int) -> tuple[str, str]:
        data, label = reader[index]
        return sample_digest(data), str(label)

    def usable(index: int) -> tuple[str, str]:
        with suppress(SampleError):
            return read(index)
        with suppress(SampleError):  # without a label
            return sample_digest(_unlabelled(reader)[index][0]), ""
        return "", ""

    indices = sampled_indices(length)
    digests, labels = zip(*map(usable if skip_bad else read, indices), strict=True)
    return dict(zip(indices, digests, strict=True)), dict(zip(indices, labels, strict=True))


def _unlabelled(reader: SampleReader) -> SampleReader:
    """Copy a reader without the requirement that samples have labels, which the fingerprint does not include."""
    reader = copy.copy(reader)
    reader.labelled = False
    return reader


def check_data(library: Library, data: DataSubject) -> None:
    """Raise an error if a data set is not the one that a library was mined from.

    Raises
    ------
    LibraryError
    """
    keys = ["length", "shape", "dtype", "fingerprint"]
    check_same(library.manifest["data"], data.data, keys, "This is not the data set that was mined")
    if len({held["labels"] for held in (library.manifest["data"], data.data) if "labels" in held}) > 1:
        raise LibraryError("The labels of the data set are not those that were mined.")


def check_first_samples(library: Library, reader: SampleReader, fact: str, *, skip_bad: bool) -> None:
    """Raise an error unless the first samples of a data set are those that a library was mined from.

    Reads those that `sampled_indices` lists. Labels count if the reader needs them, and they were mined.

    Raises
    ------
    LibraryError
        Begins with `fact`.
    """
    length, fingerprint = (library.manifest["data"][key] for key in ("length", "fingerprint"))
    if length > len(reader):
        raise LibraryError(f"{fact}: {length} samples were mined, and there are {len(reader)}.")
    digests, labels = _sampled(reader, length, skip_bad)
    if data_fingerprint(length, digests) != fingerprint:
        raise LibraryError(f"{fact}: its first {length} samples are not those that were mined.")
    mined = library.manifest["data"].get("labels")
    if reader.labelled and mined not in (None, data_fingerprint(length, labels)):
        raise LibraryError(f"{fact}: the labels of its first {length} samples are not those that were mined.")
