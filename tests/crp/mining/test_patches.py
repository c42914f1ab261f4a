from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import nn
from zennit.composites import EpsilonPlusFlat

from crp.attribution import prepare
from crp.attribution.layers import receptive_boxes
from crp.concepts import ChannelConcept
from crp.library.patches import MODES
from crp.library.references import References
from crp.mining import patches
from crp.mining.blocks import SampleReader
from crp.mining.patches import PatchMaker, Request, _apart, patch_box, requests, resized

torch.manual_seed(0)
MODEL = nn.Sequential(
    nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 4, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(576, 2)
)


def test_box_by_hand():
    heatmap = np.zeros((6, 8))
    heatmap[2, 3], heatmap[4, 5], heatmap[1, 7], heatmap[0, 0] = 1.0, 0.11, 0.09, -5.0
    assert patch_box(heatmap, (0, 0, 6, 8)) == (2, 3, 5, 6)
    assert patch_box(heatmap, (0, 0, 4, 8)) == (2, 3, 3, 4)
    assert patch_box(-heatmap, (1, 1, 5, 7)) == (1, 1, 5, 7)  # nothing positive there: the receptive field


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


def test_requests_skip_places_never_filled():
    filled = References(
        sample=np.array([[4, -1], [2, 3]]),
        score=np.array([[0.5, -np.inf], [0.25, 0.125]], dtype=np.float32),
        target=np.array([[1, -1], [0, 2]]),
        position=np.array([[7, 0], [8, 9]]),
    )
    found = requests({("a", mode): filled for mode in MODES}, {"a": [1, 0]}, 2)
    assert [(one.mode, one.concept, one.rank, one.sample, one.position) for one in found] == [
        (mode, *rest) for mode in MODES for rest in [(1, 0, 2, 8), (1, 1, 3, 9), (0, 0, 4, 7)]
    ]


@given(positions=st.lists(st.integers(0, 143), min_size=1, max_size=12))
def test_starts_go_down_together_only_where_they_see_no_common_pixel(positions):
    fields = receptive_boxes(MODEL, (2, 28, 28), "2").numpy()
    starts = [(concept, position, 1.0, False) for concept, position in enumerate(positions)]
    passes = _apart(starts, fields)
    assert sorted(start for together in passes for start in together) == sorted(starts)
    for together in passes:
        seen = np.zeros((28, 28), dtype=int)
        for _, position, _, _ in together:
            top, left, bottom, right = fields[position]
            seen[top:bottom, left:right] += 1
        assert seen.max() == 1


def test_patches_are_the_same_whether_or_not_heatmaps_share_a_pass():
    reader = SampleReader(torch.randn(3, 2, 28, 28, generator=torch.Generator().manual_seed(1)), labelled=False)
    fields = {"2": receptive_boxes(MODEL, (2, 28, 28), "2").numpy()}
    picture = lambda data: np.zeros((28, 28, 3), np.uint8)  # noqa: E731
    maker = PatchMaker(prepare(MODEL, EpsilonPlusFlat()), None, ChannelConcept(), reader, fields, picture, 28)
    wanted = [
        Request("2", mode, concept, 0, 1, score, 0, position)
        for mode, score in (("relevance", 1.0), ("negative", -1.0))
        for concept, position in enumerate((0, 11, 78, 143))
    ]
    assert len(_apart([(0, one.position, 1.0, False) for one in wanted[:4]], fields["2"])) == 1
    shared = dict(maker.of_group(wanted))
    with mock.patch.object(patches, "_apart", lambda starts, fields: [[start] for start in starts]):
        single = dict(maker.of_group(wanted))
    assert shared.keys() == single.keys() == set(wanted)
    for request, patch in single.items():
        assert patch.box == shared[request].box
        np.testing.assert_array_equal(patch.heatmap, shared[request].heatmap)
        assert np.abs(patch.heatmap).max() == 127
