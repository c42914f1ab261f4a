"""The one comparator of relevances."""

from __future__ import annotations

import numpy as np
import torch


def assert_relevance_close(actual: object, expected: object, tolerance: float) -> None:
    """Raise unless `actual` equals `expected` within `tolerance` times the largest absolute expected value.

    Where all that is expected is zero, all must be zero.

    Parameters
    ----------
    actual, expected
        Tensors or arrays of one shape.
    tolerance
        Relative, in the max-norm.

    Raises
    ------
    AssertionError
        With the worst index and both values there.
    """
    actual, expected = (
        np.asarray(item.detach().cpu() if isinstance(item, torch.Tensor) else item, np.float64)
        for item in (actual, expected)
    )
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    assert expected.size, "nothing to compare"
    assert np.isfinite(expected).all(), "expected values are not finite"
    scale = np.abs(expected).max()
    deviation = np.abs(actual - expected)
    # not a number compares as the worst
    worst = np.unravel_index(np.argmax(np.where(np.isnan(deviation), np.inf, deviation)), deviation.shape)
    if not deviation[worst] <= tolerance * scale:
        index = tuple(int(axis) for axis in worst)
        raise AssertionError(
            f"at {index} {actual[worst]!r} instead of {expected[worst]!r}: off by {deviation[worst]:.3g}, "
            f"allowed {tolerance:.1g} of {scale:.3g}"
        )
