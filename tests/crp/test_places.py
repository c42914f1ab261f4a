"""Places in the input, and relevance inside and outside of them."""

import math
import re

import numpy as np
import pytest
import torch

from crp.attribution.start_places import place_of
from crp.attribution.starts import Box, ClassInMask, Difference, Logit, Sum
from crp.errors import InputError
from crp.places import ContextUse, Place, box_place, context_use


def test_context_use_by_hand():
    heatmap = np.array([[4.0, -1.0], [1.0, -2.0]])
    place = Place(np.array([[1, 0], [0, 1]]))
    assert place.part == 0.5
    supports, opposes = context_use(heatmap, place), context_use(heatmap, place, -1)
    assert (supports.inside, supports.outside, supports.ratio, supports.context) == (4, 1, 4, 0.2)
    assert (opposes.inside, opposes.outside, opposes.ratio, opposes.context) == (2, 1, 2, 1 / 3)
    assert ContextUse(2.0, 0.0).ratio == math.inf
    assert math.isnan(ContextUse(0.0, 0.0).ratio)
    assert math.isnan(ContextUse(0.0, 0.0).context)


def test_a_box_holds_the_pixels_whose_middle_it_holds():
    place = box_place((0.4, 1.0, 2.5, 3.0), (4, 4))
    expected = np.zeros((4, 4), bool)
    expected[1:3, :2] = True  # columns 0 and 1; the middle of column 2 lies on the edge
    np.testing.assert_array_equal(place.mask, expected)
    assert place.box == (0.4, 1.0, 2.5, 3.0)
    # a box between the middles of pixels, and one beside the picture, have the nearest pixel
    assert np.argwhere(box_place((1.6, 2.6, 1.9, 2.9), (4, 4)).mask).tolist() == [[2, 1]]
    assert np.argwhere(box_place((5.0, 1.0, 9.0, 1.2), (4, 4)).mask).tolist() == [[1, 3]]


def test_a_mask_of_the_output_is_carried_to_the_input():
    output = torch.zeros(1, 2, 2, 3)
    output[0, 1, 0, 2] = 1.0  # class 1 is predicted in the upper right third
    output[0, 0] += 0.5
    expected = np.zeros((4, 9), bool)
    expected[:2, 6:] = True
    np.testing.assert_array_equal(place_of(ClassInMask(1), output, (4, 9)).mask, expected)
    given = ClassInMask(0, [[False, False, True], [False, False, False]])
    np.testing.assert_array_equal(place_of(given, output, (4, 9)).mask, expected)
    # downwards, a position of the input is what its middle is
    wide = ClassInMask(0, np.array([[0, 0, 1, 1, 0, 0]]))
    np.testing.assert_array_equal(place_of(wide, torch.zeros(1, 1, 1, 6), (1, 3)).mask, [[False, True, False]])


def test_starts_have_the_place_that_their_parts_share():
    output = torch.zeros(1, 2, 3)
    first, same = Box(0, 0, "box 0", (0, 0, 2, 2)), Box(1, 1, "box 0", (0, 0, 2, 2))
    other = Box(1, 1, "box 1", (2, 2, 4, 4))
    assert place_of(first, output, (4, 4)).mask.sum() == 4
    assert place_of(Difference(first, same), output, (4, 4)).mask.sum() == 4
    assert place_of(Sum([first, same]), output, (4, 4)).box == (0, 0, 2, 2)
    assert place_of(Difference(first, other), output, (4, 4)) is None
    assert place_of(Difference(first, Logit(0)), output, (4, 4)) is None
    assert place_of(Logit(0), output, (4, 4)) is None
    assert place_of(Box(0, 0), output, (4, 4)) is None


@pytest.mark.parametrize(
    ("mask", "sentence"),
    [
        ([[0, 2]], "A place is a mask of booleans, or 0 and 1; this one has other values (int64)."),
        ([[0, 0]], "The place is empty: no position of the input belongs to it."),
    ],
)
def test_masks_that_are_no_place(mask, sentence):
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}$"):
        Place(np.array(mask))
