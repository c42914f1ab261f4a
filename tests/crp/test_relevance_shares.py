"""Shares of a layer's relevance, by hand."""

import numpy as np
import pytest
import torch

from crp.relevance_shares import shares, stabilised_shares


def test_absolute_shares_add_up_and_are_zero_without_relevance():
    found = shares(np.array([[2.0, -3.0, 0.0], [0.0, 0.0, 0.0]], dtype=np.float32))
    np.testing.assert_allclose(found, [[0.4, -0.6, 0.0], [0.0, 0.0, 0.0]], rtol=1e-15)
    assert found.dtype == np.float64


def test_shares_of_one_sample():
    assert shares(np.array([1, -3])).tolist() == [0.25, -0.75]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stabilised_shares_divide_by_the_sum_and_zennit_crps_constant(dtype):
    found = stabilised_shares(torch.tensor([[1e-10, 0.0], [1.0, -3.0]], dtype=dtype))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, [[0.5, 0.0], [0.25, -0.75]], rtol=1e-6)
