"""The table of a layer's means."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from crp.errors import InputError
from crp.values import ConceptMeans

from .tables import damaged, open_table


def read_means(path: Path, layer: str, count: int | None) -> ConceptMeans:
    """Read a layer's means.

    Parameters
    ----------
    path
        The file.
    layer
        Name of the layer, for messages.
    count
        How many numbers there are; 0 if they were too many to keep, None if the library keeps none.

    Raises
    ------
    InputError
        If there are none.
    LibraryError
        If the file is missing or damaged.
    """
    if count is None:
        raise InputError(
            f"The library holds no means of layer {layer!r}: an earlier version mined it, or it was converted. Mine it "
            "again to put means in the place of concepts."
        )
    if not count:
        raise InputError(
            f"The library holds no means of layer {layer!r}: its kind of concept has a mean for each channel at each "
            "position, which are too many to keep."
        )
    with open_table(path) as table:
        numbers = table.array("numbers", np.float64, (count,))
        samples = int(table.array("samples", np.int64, (1,))[0])
    try:
        return ConceptMeans(numbers, samples)
    except InputError as error:
        raise damaged(path, str(error)) from error
