"""Numbers that compare what a ranking says about concepts with what their removal does, without torch."""

from __future__ import annotations

import numpy as np


def ranks(values: np.ndarray) -> np.ndarray:
    """Rank values along the last axis from 0; equal values share their mean rank.

    Examples
    --------
    >>> ranks(np.array([5.0, 1.0, 5.0, 2.0]))
    array([2.5, 0. , 2.5, 1. ])
    """
    values = np.asarray(values, dtype=np.float64)
    below = (values[..., None, :] < values[..., :, None]).sum(-1)
    equal = (values[..., None, :] == values[..., :, None]).sum(-1)
    return below + (equal - 1) / 2


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Compute Spearman's rank correlation along the last axis, -1..1; NaN where one of the two is constant.

    Examples
    --------
    >>> rank_correlation(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 4.0, 9.0, 0.0])).round(6)
    np.float64(-0.2)
    """
    first, second = (ranked - ranked.mean(-1, keepdims=True) for ranked in (ranks(first), ranks(second)))
    scale = np.sqrt((first**2).sum(-1) * (second**2).sum(-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (first * second).sum(-1) / scale


def sign_agreement(scores: np.ndarray, effects: np.ndarray, smallest: np.ndarray) -> np.ndarray:
    """Compute the share of concepts whose score has the sign of their effect, among those whose effect matters.

    Parameters
    ----------
    scores, effects
        `[N, n]`. A score of 0 has no sign, and counts as wrong.
    smallest
        `[N]`: smaller absolute effects do not count.

    Returns
    -------
    ndarray
        `[N]`, 0..1; NaN for a sample without such a concept.
    """
    counted = np.abs(effects) >= smallest[:, None]
    agree = (np.sign(scores) == np.sign(effects)) & counted
    with np.errstate(invalid="ignore", divide="ignore"):
        return agree.sum(1) / counted.sum(1)


def wrong_support(scores: np.ndarray, effects: np.ndarray, smallest: np.ndarray, first: int = 6) -> np.ndarray:
    """Compute the share of the highest positive scores whose removal raises the output by more than `smallest`.

    Parameters
    ----------
    scores, effects
        `[N, n]`.
    smallest
        `[N]`.
    first
        How many concepts of each sample are looked at.

    Returns
    -------
    ndarray
        `[N]`, 0..1; NaN for a sample without a positive score.
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, :first]
    shown = np.take_along_axis(scores, order, 1) > 0
    wrong = (np.take_along_axis(effects, order, 1) < -smallest[:, None]) & shown
    with np.errstate(invalid="ignore", divide="ignore"):
        return wrong.sum(1) / shown.sum(1)


def area(curves: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Integrate curves `[..., F]` over `fractions` `[F]` by the trapezoidal rule, divided by the width."""
    widths = np.diff(fractions)
    return ((curves[..., 1:] + curves[..., :-1]) / 2 * widths).sum(-1) / (fractions[-1] - fractions[0])


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Return mean and standard error of the values that are not NaN; NaN where they are not defined."""
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return float(values.mean()), error
