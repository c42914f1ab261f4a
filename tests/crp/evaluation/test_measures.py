"""Numbers that compare rankings with effects, on cases counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crp.evaluation.measures import area, mean_and_error, rank_correlation, sign_agreement, wrong_support


def test_rank_correlation_counted_by_hand() -> None:
    # ranks 0 1 2 3 and 1 3 0 2: sum of squared differences 1 + 4 + 4 + 1 = 10, 1 - 6 * 10 / (4 * 15)
    assert rank_correlation(np.array([1.0, 2, 3, 4]), np.array([5.0, 9, -1, 7])) == pytest.approx(0.0)
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([0.1, 10, 1000])) == pytest.approx(1.0)
    # ties share a rank: 0 1.5 1.5 against 0 1 2
    assert rank_correlation(np.array([1.0, 2, 2]), np.array([1.0, 2, 3])) == pytest.approx(np.sqrt(3) / 2)
    assert np.isnan(rank_correlation(np.array([1.0, 1]), np.array([1.0, 2])))


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=30))
def test_rank_correlation_does_not_depend_on_scale_or_order(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs, dtype=float).T
    found = rank_correlation(first, second)
    np.testing.assert_allclose(rank_correlation(np.exp(first), second * 3 - 1), found)
    np.testing.assert_allclose(rank_correlation(first[::-1], second[::-1]), found)
    np.testing.assert_allclose(rank_correlation(first, -second), -found)


def test_signs_of_concepts_that_matter() -> None:
    scores, effects = np.array([[1.0, -1, 2, 0, 5]]), np.array([[0.5, 0.5, -0.001, 0.5, 0.01]])
    # the third does not matter; the fourth has no sign
    assert sign_agreement(scores, effects, np.array([0.01])) == pytest.approx([2 / 4])
    assert np.isnan(sign_agreement(scores, effects, np.array([1.0])))[0]


def test_support_that_is_wrong() -> None:
    scores, effects = np.array([[5.0, 4, 3, 2, -9]]), np.array([[1.0, -0.5, -0.001, -2, -3]])
    assert wrong_support(scores, effects, np.array([0.01])) == pytest.approx([2 / 4])
    assert wrong_support(scores, effects, np.array([0.01]), first=3) == pytest.approx([1 / 3])
    assert np.isnan(wrong_support(-np.abs(scores), effects, np.array([0.01])))[0]


def test_area_of_uneven_steps() -> None:
    assert area(np.array([0.0, 1, 1]), np.array([0.0, 0.1, 0.5])) == pytest.approx((0.05 + 0.4) / 0.5)


def test_mean_and_error_leave_out_what_is_not_defined() -> None:
    assert mean_and_error(np.array([1.0, np.nan, 3])) == pytest.approx((2.0, 1.0))
    assert np.isnan(mean_and_error(np.array([1.0]))[1])
    assert all(np.isnan(mean_and_error(np.array([np.nan]))))
