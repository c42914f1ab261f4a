"""Boxes and sizes of crops, worked out by hand or by a loop over all pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from crp.mining.crops import patch_box, resized


def test_box_by_hand():
    heatmap = np.zeros((6, 8))
    heatmap[2, 3], heatmap[4, 5], heatmap[1, 7], heatmap[0, 0] = 1.0, 0.11, 0.09, -5.0
    assert patch_box(heatmap, (0, 0, 6, 8)) == (2, 3, 5, 6)
    assert patch_box(heatmap, (0, 0, 4, 8)) == (2, 3, 3, 4)
    assert patch_box(-heatmap, (1, 1, 5, 7)) == (1, 1, 5, 7)  # nothing positive inside: the receptive field


@given(
    heatmap=arrays.arrays(np.float32, (5, 7), elements=st.floats(-4, 4, width=32)),
    rows=st.tuples(st.integers(0, 4), st.integers(1, 5)).filter(lambda pair: pair[0] < pair[1]),
    columns=st.tuples(st.integers(0, 6), st.integers(1, 7)).filter(lambda pair: pair[0] < pair[1]),
)
def test_box_is_the_smallest_that_holds_all_bright_pixels(heatmap, rows, columns):
    field = (rows[0], columns[0], rows[1], columns[1])
    box = patch_box(heatmap, field)
    inside = [(row, column) for row in range(*rows) for column in range(*columns)]
    brightest = max(heatmap[pixel] for pixel in inside)
    bright = [pixel for pixel in inside if brightest > 0 and heatmap[pixel] > np.float32(0.1 * brightest)]
    if not bright:
        assert box == field
    else:
        assert box == (
            min(row for row, _ in bright),
            min(column for _, column in bright),
            max(row for row, _ in bright) + 1,
            max(column for _, column in bright) + 1,
        )


@pytest.mark.parametrize(
    ("shape", "expected"), [((4, 8), (2, 4)), ((3, 4), (3, 4)), ((100, 1), (4, 1)), ((5, 4), (4, 3))]
)
def test_longest_side(shape, expected):
    assert resized(np.zeros(shape, np.float32), 4).shape == expected
    assert resized(np.zeros((*shape, 3), np.uint8), 4).shape == (*expected, 3)


def test_shrinking_averages_by_area():
    image = np.array([[1.0, 3.0, 0.0, -8.0], [5.0, 7.0, 4.0, 0.0]], dtype=np.float32)
    assert resized(image, 2).tolist() == [[4.0, -1.0]]
