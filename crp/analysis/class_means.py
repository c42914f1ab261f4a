"""How far the concepts of a prediction are from what its class uses on average."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crp.errors import InputError

if TYPE_CHECKING:
    from crp.library import Library

# A mean of fewer samples is no prototype.
FEWEST_SAMPLES = 5


def class_deviation(library: Library, layer: str, shares: np.ndarray, target: int) -> float | None:
    """Compare the shares of a prediction with their mean over the mined samples of a class.

    The mean is the prototype of a mixture of one Gaussian (`prototypes`); it needs no vectors of single samples.

    Parameters
    ----------
    library
        The library.
    layer
        One of its layers.
    shares
        Signed shares of all concepts of the layer, `[C]`; the absolute values add up to 1.
    target
        Index of the class.

    Returns
    -------
    float or None
        `sum_c |shares_c - mean_c| / 2`: 0 where each concept has its mean share, 1 where both have nothing in common.
        None if the class was mined on fewer than five samples.

    Raises
    ------
    InputError
        If there are more or fewer shares than concepts, or there is no such class.
    """
    statistics = library.statistics(layer)
    classes, concepts = statistics.share.shape
    if np.shape(shares) != (concepts,):
        raise InputError(f"{layer!r} has {concepts} concepts, given shares of shape {list(np.shape(shares))}.")
    if not 0 <= target < classes:
        raise InputError(f"There is no class {target}: the library has {classes}.")
    if statistics.count[target] < FEWEST_SAMPLES:
        return None
    return float(np.abs(shares - statistics.share[target]).sum() / 2)
