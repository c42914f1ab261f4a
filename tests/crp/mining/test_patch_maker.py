import itertools
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import nn
from zennit.composites import EpsilonPlusFlat

from crp.attribution import RelevanceFlow, prepare
from crp.attribution.receptive_fields import receptive_boxes
from crp.concepts import ChannelConcept
from crp.library.patches import MODES
from crp.library.references import References
from crp.mining import patch_maker as patches
from crp.mining.block_stream import SampleReader
from crp.mining.patch_maker import PatchMaker, Request, _apart, patch_box, requests, resized

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
    starts = [[Request("2", "relevance", concept, 0, 0, 1.0, 0, at)] for concept, at in enumerate(positions)]
    passes = _apart(starts, fields)
    found = [start for together in passes for start in together]
    assert sorted(found, key=starts.index) == starts
    for together in passes:
        seen = np.zeros((28, 28), dtype=int)
        for (request,) in together:
            top, left, bottom, right = fields[request.position]
            seen[top:bottom, left:right] += 1
        assert seen.max() == 1


def maker(block_size):
    reader = SampleReader(torch.randn(3, 2, 28, 28, generator=torch.Generator().manual_seed(1)), labelled=False)
    fields = {"2": receptive_boxes(MODEL, (2, 28, 28), "2").numpy()}
    picture = lambda data: np.zeros((28, 28, 3), np.uint8)  # noqa: E731
    replica = prepare(MODEL, EpsilonPlusFlat())
    return PatchMaker(replica, None, ChannelConcept(), reader, fields, picture, 28, block_size)


def assert_same_patches(one, other):
    assert one.keys() == other.keys()
    for request, patch in one.items():
        assert patch.box == other[request].box
        np.testing.assert_array_equal(patch.heatmap, other[request].heatmap)


def test_patches_are_the_same_whether_or_not_heatmaps_share_a_pass():
    wanted = [
        Request("2", mode, concept, 0, 1, score, 0, position)
        for mode, score in (("relevance", 1.0), ("negative", -1.0))
        for concept, position in enumerate((0, 11, 78, 143))
    ]
    assert len(_apart([[one] for one in wanted[:4]], maker(1).fields["2"])) == 1
    shared = dict(maker(1).of_group(wanted))
    with mock.patch.object(patches, "_apart", lambda starts, fields: [[start] for start in starts]):
        single = dict(maker(1).of_group(wanted))
    assert shared.keys() == set(wanted)
    assert_same_patches(single, shared)
    assert {np.abs(patch.heatmap).max() for patch in single.values()} == {127}


def test_patches_are_the_same_whether_or_not_samples_share_a_block():
    # the middle sample needs most passes; what relevance starts as is not known from a score below zero
    wanted = [
        Request("2", mode, concept, 0, sample, -1.0, target, 60 + concept)
        for sample, target, concepts in ((0, 1, 1), (1, 0, 4), (2, 1, 2))
        for concept in range(concepts)
        for mode in MODES
    ]
    alone, together = maker(1), maker(2)
    assert [len({one.sample for one in group}) for group in alone.groups(wanted)] == [1, 1, 1]
    assert [sorted({one.sample for one in group}) for group in together.groups(wanted)] == [[0, 2], [1]]
    single = dict(itertools.chain.from_iterable(map(alone.of_group, alone.groups(wanted))))
    assert_same_patches(single, dict(together.of_group(wanted)))
    # some starts are zero, and stay so
    assert {np.abs(patch.heatmap).max() for patch in single.values()} == {0, 127}


def test_heatmaps_by_hand():
    """A heatmap starts with what is at the scoring position, of either sign."""
    makes = maker(3)
    data = torch.stack([makes.reader[sample][0] for sample in range(3)])
    found = set()
    with RelevanceFlow(makes.replica, None, data, ["2"]) as flow:
        arriving = flow.down(flow.output_relevance([1, 0, 1]), to="2")[0]
        for sample, position in itertools.product(range(3), range(0, 144, 13)):
            asked = [Request("2", mode, 3, 0, sample, -1.0, (1, 0, 1)[sample], position) for mode in MODES]
            for request, patch in makes.of_group(asked):
                values = {"relevance": arriving, "activation": flow.activation("2"), "negative": -arriving.abs() - 1}
                start = torch.zeros_like(arriving)
                start[sample, 3].view(-1)[position] = values[request.mode][sample, 3].flatten()[position]
                found.add((request.mode, float(start.sum().sign())))
                heatmap = flow.down(start[None], start="2")[0, sample].sum(0).numpy()
                top, left, bottom, right = patch.box
                heatmap = heatmap[top:bottom, left:right]
                relative = heatmap / (np.abs(heatmap).max() or 1.0)
                np.testing.assert_array_equal(patch.heatmap, np.rint(relative * 127))
    assert found >= {*itertools.product(("relevance", "activation"), (-1.0, 1.0)), ("negative", -1.0)}
