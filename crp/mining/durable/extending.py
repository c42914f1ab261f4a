"""Extending a library to a longer data set, whose first samples are not computed again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crp.errors import LibraryError
from crp.library.store import open_library
from crp.mining.block_stream import SampleReader
from crp.mining.dataset import check_first_samples

from .stages import STATE
from .work import difference_of

# What may differ for a longer data set.
_MAY_DIFFER = (
    "data.length", "data.fingerprint", "data.labels", "source", "skipped", "conservation", "format", "schema",
)  # fmt: skip


def check_extends(
    extended: str | os.PathLike[str], manifest: Mapping[str, Any], reader: SampleReader, skip_bad: bool
) -> Path:
    """Check that a library was mined with the same settings, from the first samples of a data set.

    Parameters
    ----------
    extended
        The library to extend.
    manifest
        Manifest of the new library.
    reader
        The longer data set.
    skip_bad
        Whether to skip unusable samples.

    Returns
    -------
    Path
        The file with the tally of its complete blocks, from which mining continues.

    Raises
    ------
    LibraryError
        If it was not; names the first difference.
    """
    library = open_library(extended)
    fact = f"The library '{library.path}' cannot be extended to this data set"
    if not (library.path / STATE).is_file():
        raise LibraryError(f"The library '{library.path}' cannot be extended: it holds no {STATE}.")
    if any("means" not in layer for layer in library.manifest["layers"]):
        raise LibraryError(f"{fact}: it holds no means, because an earlier version mined it. Mine it again.")
    if difference := difference_of(library.manifest, manifest, _MAY_DIFFER):
        raise LibraryError(f"{fact}: {difference}.")
    check_first_samples(library, reader, fact, skip_bad=skip_bad)
    return library.path / STATE
