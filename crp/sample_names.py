"""Names of samples in the data set that they come from, such as names of files."""

from __future__ import annotations

import re
from typing import Any


def sample_name(data: Any, index: int) -> str:
    """Return what a data set calls a sample, `data.sample_name(index)`; empty if that only counts, or there is none.

    Parameters
    ----------
    data
        A data set, or None.
    index
        The sample.

    Examples
    --------
    >>> class Files:
    ...     def sample_name(self, index):
    ...         return ("zebra/a.jpg", "image 1")[index]
    >>> sample_name(Files(), 0), sample_name(Files(), 1), sample_name([], 0)
    ('zebra/a.jpg', '', '')
    """
    name = str(data.sample_name(index)) if hasattr(data, "sample_name") else ""
    return "" if re.fullmatch(rf"\w+ {index}", name) else name


def sample_words(index: int, name: str) -> str:
    """Tell a sample by its name, if it has one, and its number.

    >>> sample_words(133, "zebra.jpg"), sample_words(133, "")
    ('zebra.jpg, sample 133', 'sample 133')
    """
    return f"{name}, sample {index}" if name else f"sample {index}"
