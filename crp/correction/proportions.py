"""How much two proportions differ, and at least: `difference_interval`, `least_difference`."""

from __future__ import annotations

import numpy as np

# The 97.5 % quantile of the standard normal distribution: intervals hold 95 %.
_QUANTILE = 1.959963984540054


def difference_interval(
    first: np.ndarray | float, first_count: np.ndarray | int, second: np.ndarray | float, second_count: np.ndarray | int
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return both ends of the 95 % interval of a difference of proportions.

    It is that of Newcombe 1998 ("Interval estimation for the difference between independent proportions: comparison of
    eleven methods", method 10), with the ends :math:`l` and :math:`u` of Wilson's intervals of 1927:

    .. math::
        p_1 - p_2 - \sqrt{(p_1 - l_1)^2 + (u_2 - p_2)^2}, \quad p_1 - p_2 + \sqrt{(u_1 - p_1)^2 + (p_2 - l_2)^2}

    Parameters
    ----------
    first, second
        Proportions, 0 to 1, of any shape.
    first_count, second_count
        Of how many samples each was found.

    Returns
    -------
    tuple of two numpy.ndarray
        The lower and the upper end, -1 to 1.

    Examples
    --------
    >>> print(*(end.round(3) for end in difference_interval(0.9, 10, 0.3, 10)))
    0.171 0.809
    """
    (first_low, first_high), (second_low, second_high) = (
        [_end(proportion, count, side) for side in (-1, 1)]
        for proportion, count in ((first, first_count), (second, second_count))
    )
    low = first - second - np.hypot(first - first_low, second_high - second)
    return low, first - second + np.hypot(first_high - first, second - second_low)


def least_difference(
    first: np.ndarray | float, first_count: np.ndarray | int, second: np.ndarray | float, second_count: np.ndarray | int
) -> np.ndarray:
    """Return by how much the first proportion exceeds the second at least, as far as so few samples can tell.

    It is the lower end of `difference_interval`, whose parameters it has. With many samples it tends to the difference;
    where groups are small, it is far below.

    Returns
    -------
    numpy.ndarray
        0 to 1; 0 where the lower end is below 0.

    Examples
    --------
    >>> print(least_difference(0.9, 10, 0.3, 10).round(3), least_difference(1.0, 3, 0.0, 3).round(3))
    0.171 0.206
    """
    return np.maximum(difference_interval(first, first_count, second, second_count)[0], 0.0)


def _end(proportion: np.ndarray | float, count: np.ndarray | int, side: int) -> np.ndarray:
    """Return an end of Wilson's interval: the upper one (side 1) or the lower one (side -1)."""
    square = _QUANTILE**2
    spread = _QUANTILE * np.sqrt(proportion * (1 - proportion) * count + square / 4)
    return (proportion * count + square / 2 + side * spread) / (count + square)
