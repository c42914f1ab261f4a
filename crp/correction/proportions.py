"""How much two proportions differ at least: `least_difference`."""

from __future__ import annotations

import numpy as np

# The 97.5 % quantile of the standard normal distribution: intervals hold 95 %.
_QUANTILE = 1.959963984540054


def least_difference(
    first: np.ndarray | float, first_count: np.ndarray | int, second: np.ndarray | float, second_count: np.ndarray | int
) -> np.ndarray:
    r"""Return by how much the first proportion exceeds the second at least, as far as so few samples can tell.

    It is the lower end of the 95 % interval of Newcombe 1998 ("Interval estimation for the difference between
    independent proportions: comparison of eleven methods", method 10):

    .. math:: p_1 - p_2 - \sqrt{(p_1 - l_1)^2 + (u_2 - p_2)^2}

    :math:`l_1` and :math:`u_2` are ends of the intervals of Wilson 1927 for each proportion. With many samples it tends
    to the difference; where groups are small, it is far below.

    Parameters
    ----------
    first, second
        Proportions, 0 to 1, of any shape.
    first_count, second_count
        Of how many samples each was found.

    Returns
    -------
    numpy.ndarray
        0 to 1; 0 where the lower end is below 0.

    Examples
    --------
    >>> print(least_difference(0.9, 10, 0.3, 10).round(3), least_difference(1.0, 3, 0.0, 3).round(3))
    0.171 0.206
    """
    lower, upper = _end(first, first_count, -1), _end(second, second_count, 1)
    return np.maximum(first - second - np.hypot(first - lower, upper - second), 0.0)


def _end(proportion: np.ndarray | float, count: np.ndarray | int, side: int) -> np.ndarray:
    """Return an end of Wilson's interval: the upper one (side 1) or the lower one (side -1)."""
    square = _QUANTILE**2
    spread = _QUANTILE * np.sqrt(proportion * (1 - proportion) * count + square / 4)
    return (proportion * count + square / 2 + side * spread) / (count + square)
