"""Max pooling without a gradient, and with one, is torch's, bit for bit."""

import re

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from crp.attribution.pooling import PoolRule

SIDES = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(
    kernel=SIDES,
    stride=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padded=st.booleans(),
    ceil=st.booleans(),
    space=st.tuples(st.integers(1, 19), st.integers(1, 19)),
    gradient=st.booleans(),
)
@example((2, 3), (4, 5), (1, 1), True, False, (1, 5), False)
@example((2, 3), (4, 5), (3, 3), True, False, (1, 1), False)
@example((2, 2), (1, 1), (1, 1), False, False, (1, 5), False)
def test_pooling_is_that_of_torch(kernel, stride, dilation, padded, ceil, space, gradient):
    """Also where windows hold nothing but padding; and what is too small for torch is too small here."""
    padding = tuple(size // 2 if padded else 0 for size in kernel)
    module = nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=ceil)
    data = torch.randn(2, 3, *space, generator=torch.Generator().manual_seed(sum(space)))
    try:
        expected = module(data)
    except RuntimeError as error:
        with pytest.raises(RuntimeError, match=re.escape(str(error).split(". ")[-1])):
            PoolRule(module).forward(data.requires_grad_(gradient))
        return
    assert torch.equal(PoolRule(module).forward(data.requires_grad_(gradient)), expected)


@pytest.mark.parametrize("settings", [{"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": 2}])
def test_many_planes_are_pooled_in_groups(settings):
    module = nn.MaxPool2d(**settings)
    data = torch.randn(2, 40, 150, 151, generator=torch.Generator().manual_seed(0))
    data[0, 0, 0, 0], data[1, 39, 149, 149] = torch.nan, torch.inf
    expected = module(data)
    for gradient in (False, True):
        found = PoolRule(module).forward(data.requires_grad_(gradient)).detach()
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
