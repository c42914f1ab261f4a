"""A data set ready to be mined: read, fingerprinted, and described so that a library can recognise it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crp.errors import SampleError
from crp.library.fingerprints import data_fingerprint, sample_digest, sampled_indices
from crp.models import check_same

from .block_stream import SampleReader, check_repeatable

if TYPE_CHECKING:
    from crp.library import Library


@dataclass(frozen=True)
class DataSubject:
    """A data set ready to be mined: its reader, the digests of some samples, and its description for the manifest."""

    reader: SampleReader
    digests: dict[int, str]
    data: dict[str, Any]


def data_subject(dataset: object, *, labelled: bool, skip_bad: bool = False) -> DataSubject:
    """Check and fingerprint a data set.

    Parameters
    ----------
    dataset
        Map-style.
    labelled
        Whether every sample must have a label.
    skip_bad
        Whether a sample that cannot be used is no error. It has the digest `""` in the fingerprint.

    Raises
    ------
    InputError
        If it is not map-style, empty, or answers differently when asked twice.
    SampleError
        If a sample cannot be used.
    """
    reader = SampleReader(dataset, labelled, skip_bad)
    digests = sampled_digests(reader, len(reader), skip_bad)
    check_repeatable(_unlabelled(reader), {index: digest for index, digest in digests.items() if digest})
    return DataSubject(
        reader,
        digests,
        {
            "length": len(reader),
            "fingerprint": data_fingerprint(len(reader), digests),
            "shape": list(reader.like.shape),
            "dtype": str(reader.like.dtype).removeprefix("torch."),
        },
    )


def sampled_digests(reader: SampleReader, length: int, skip_bad: bool = False) -> dict[int, str]:
    """Digests of the sampled ones among the first `length` samples; `""` for what is to be skipped."""

    def digest(index: int) -> str:
        if not skip_bad:
            return sample_digest(reader[index][0])
        try:
            return sample_digest(_unlabelled(reader)[index][0])
        except SampleError:
            return ""

    return {index: digest(index) for index in sampled_indices(length)}


def _unlabelled(reader: SampleReader) -> SampleReader:
    """The same without a need for labels: with or without them, it is the same data set."""
    reader = copy.copy(reader)
    reader.labelled = False
    return reader


def check_data(library: Library, data: DataSubject) -> None:
    """Refuse a data set that is another one than the library's.

    Raises
    ------
    LibraryError
    """
    keys = ["length", "shape", "dtype", "fingerprint"]
    check_same(library.manifest["data"], data.data, keys, "This is not the data set that was mined")
