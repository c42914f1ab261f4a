"""Largest and smallest values of channels, compared with numpy."""

from unittest import mock

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crp.concepts import ChannelConcept, extremes


@given(
    values=arrays(np.float32, (2, 3, 4, 5), elements=st.integers(-2, 2).map(float)),
    layout=st.sampled_from([torch.contiguous_format, torch.channels_last]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    line=st.sampled_from([1, 5, 8]),
)
def test_the_first_of_equal_values_is_found_in_any_layout_and_size(values, layout, dtype, line):
    given_values, flat = torch.from_numpy(values).to(dtype).contiguous(memory_format=layout), values.reshape(2, 3, 20)
    # lines of 1 value are too short to be used; then lines of 5 and of 4 values
    with mock.patch.multiple(extremes, _SMALL_PLANE=0, _SHORT_LINE=4, _LONG_LINE=line):
        highest, high = ChannelConcept().peak(given_values)
        lowest, low = ChannelConcept().trough(given_values)
    np.testing.assert_array_equal(highest.float().numpy(), flat.max(-1))
    np.testing.assert_array_equal(high.numpy(), flat.argmax(-1))
    np.testing.assert_array_equal(lowest.float().numpy(), flat.min(-1))
    np.testing.assert_array_equal(low.numpy(), flat.argmin(-1))
