"""How much two proportions differ at least, as published and as counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crp.correction.proportions import difference_interval, least_difference


@pytest.mark.parametrize(
    ("first", "second", "least"),
    [
        ((56, 70), (48, 80), 0.0524),
        ((9, 10), (3, 10), 0.1705),
        ((6, 7), (2, 7), 0.0582),
        ((10, 10), (0, 20), 0.6791),
        ((10, 10), (0, 10), 0.6075),
        ((5, 56), (0, 29), 0.0),  # published as -0.0381
    ],
)
def test_lower_ends_are_those_of_newcombe_1998(first: tuple[int, int], second: tuple[int, int], least: float) -> None:
    """Table II there, method 10."""
    (a, m), (b, n) = first, second
    assert float(least_difference(a / m, m, b / n, n)) == pytest.approx(least, abs=5e-5)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_intervals_are_those_of_newcombe_1998(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    """Table II there, method 10."""
    (a, m), (b, n) = first, second
    ends = difference_interval(a / m, m, b / n, n)
    assert [float(end) for end in ends] == pytest.approx([low, high], abs=5e-5)


def test_of_three_samples_little_is_known() -> None:
    """3 of 3 against 0 of 3: both of Wilson's ends are 3.8415 / 6.8415 = 0.5615 away, 1 - sqrt(2) 0.5615 = 0.2059."""
    assert float(least_difference(1.0, 3, 0.0, 3)) == pytest.approx(0.2059, abs=5e-5)


@given(st.integers(1, 30), st.integers(1, 30), st.data())
def test_it_is_below_the_difference_and_tends_to_it(m: int, n: int, data: st.DataObject) -> None:
    first, second = data.draw(st.integers(0, m)) / m, data.draw(st.integers(0, n)) / n
    bounds = least_difference(first, m * np.array([1, 10, 10**6]), second, n * np.array([1, 10, 10**6]))
    assert (np.diff(bounds) >= 0).all()
    assert bounds[-1] <= max(first - second, 0)
    assert bounds[-1] == pytest.approx(max(first - second, 0), abs=0.003)
