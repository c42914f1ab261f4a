"""Values that a library hands out: references, class statistics and dead concepts of one layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class References:
    """The `k` best samples of each of a layer's `C` concepts, best first; equal scores by sample index.

    In mode `"negative"` the best are the most negative ones, and only samples with a negative score count.

    Attributes
    ----------
    sample
        Index in the data set, int64 `[C, k]`; -1 where there are fewer than `k` samples.
    score
        What the sample counts, float32 `[C, k]`; -inf where there is no sample (+inf in mode `"negative"`).
    target
        Class that was explained, int64 `[C, k]`.
    position
        Where the concept's largest signed value stood (in mode `"negative"` the smallest), counted along the flattened
        space, int64 `[C, k]`.
    """

    sample: np.ndarray
    score: np.ndarray
    target: np.ndarray
    position: np.ndarray


@dataclass(frozen=True, eq=False)
class ClassStatistics:
    """How much each class uses each concept of a layer, over all samples that were explained for the class.

    Everything is zero for classes without samples. Variances are those of the samples (divided by their number).

    Attributes
    ----------
    share, share_variance
        Mean and variance of the concept's signed share `R_c / sum_c |R_c|`, float64 `[classes, C]`.
    activation, activation_variance
        Mean and variance of the activation score, float64 `[classes, C]`.
    among_top
        On how many of the samples the concept had one of the layer's largest shares, and a positive one
        (`settings.top` of the library says how many are meant), int64 `[classes, C]`.
    count
        Number of samples, int64 `[classes]`.
    """

    share: np.ndarray
    share_variance: np.ndarray
    activation: np.ndarray
    activation_variance: np.ndarray
    among_top: np.ndarray
    count: np.ndarray


@dataclass(frozen=True, eq=False)
class DeadConcepts:
    """Concepts of a layer that no sample of the data set used.

    Attributes
    ----------
    never_active
        Ids of concepts whose activation score was above zero on no sample, in increasing order, int64.
    never_relevant
        Ids of concepts whose relevance score was neither above nor below zero on any sample, likewise. A concept may
        be active and yet never relevant: what comes after the layer makes nothing of it for any explained class.
    """

    never_active: np.ndarray
    never_relevant: np.ndarray
