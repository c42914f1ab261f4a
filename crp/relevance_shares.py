"""Shares: the relevance of each concept divided by the absolute relevance of its layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

# A smaller absolute share is printed as 0.0 %: who has it does not use the concept.
LEAST_SHARE = 0.0005
# zennit-crp's constant (`abs_norm`): a layer without relevance gives 0 instead of NaN.
_STABILIZER = 1e-10


def shares(relevance: np.ndarray) -> np.ndarray:
    """Compute the signed share of each concept, `R_c / sum_c |R_c|`.

    Parameters
    ----------
    relevance
        Relevance of all concepts of a layer, summed over space, `[..., C]`.

    Returns
    -------
    numpy.ndarray
        float64 `[..., C]` in -1..1; the absolute shares of a layer add up to 1. All 0 where no relevance arrives.

    Examples
    --------
    >>> shares(np.array([[1.0, -3.0], [0.0, 0.0]])).tolist()
    [[0.25, -0.75], [0.0, 0.0]]
    """
    relevance = np.asarray(relevance, dtype=np.float64)
    absolute = np.abs(relevance).sum(-1, keepdims=True)
    return np.divide(relevance, absolute, out=np.zeros_like(relevance), where=absolute > 0)


def stabilised_shares(scores: Tensor) -> Tensor:
    """Divide scores `[N, C]` by their absolute sum plus 1e-10, as zennit-crp does; the dtype is kept."""
    return scores / (scores.abs().sum(1, keepdim=True) + _STABILIZER)
