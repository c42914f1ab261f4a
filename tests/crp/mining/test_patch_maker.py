"""Patches do not depend on what shares a pass or a block, and heatmaps are those of a naive pass."""

import itertools
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from zennit.composites import EpsilonPlusFlat

from crp.attribution import RelevanceFlow, prepare
from crp.attribution.receptive_fields import receptive_boxes
from crp.concepts import ChannelConcept, Layout
from crp.library.patches import MODES
from crp.mining import patch_requests
from crp.mining.block_stream import SampleReader
from crp.mining.crop_maker import CropMaker
from crp.mining.input_boxes import positions_of
from crp.mining.patch_maker import PatchMaker
from crp.mining.patch_requests import Request, passes_of
from crp.mining.windows import windows_of

torch.manual_seed(0)
MODEL = nn.Sequential(
    nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 4, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(576, 2)
)


def maker(samples, *, crops=False):
    reader = SampleReader(torch.randn(3, 2, 28, 28, generator=torch.Generator().manual_seed(1)), labelled=False)
    layouts = {"2": Layout((4, 12, 12))}
    positions = positions_of(MODEL, reader.like, layouts)
    picture = lambda data: np.zeros((28, 28, 3), np.uint8)  # noqa: E731
    replica = prepare(MODEL, EpsilonPlusFlat())
    made = PatchMaker(replica, None, ChannelConcept(), reader, layouts, positions, picture, 28, samples)
    if not crops:
        made._crops["2"] = None
    return made


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
    assert len(passes_of(wanted[:4], "2", maker(1).positions["2"].fields, linear=True, unit=True)) == 1
    shared = dict(maker(1).of_group(wanted))
    with mock.patch.object(patch_requests, "_disjoint", lambda origins, fields: [[origin] for origin in origins]):
        single = dict(maker(1).of_group(wanted))
    assert shared.keys() == set(wanted)
    assert_same_patches(single, shared)
    assert {np.abs(patch.heatmap).max() for patch in single.values()} == {127}


def test_patches_are_the_same_whether_or_not_samples_share_a_block():
    # the middle sample needs most passes; a negative score does not determine the sign of the start
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
    # some starts are zero, and so are their heatmaps
    assert {np.abs(patch.heatmap).max() for patch in single.values()} == {0, 127}


def test_heatmaps_by_hand():
    """A heatmap starts from the value at the scoring position, of either sign."""
    makes = maker(3)
    data = torch.stack([makes.reader[sample][0] for sample in range(3)])
    found = set()
    with RelevanceFlow(makes.replica, None, data, ["2"]) as flow:
        arriving = flow.down(flow.output_relevance([1, 0, 1]), to="2")[0]
        for sample, position in itertools.product(range(3), range(0, 144, 13)):
            wanted = [Request("2", mode, 3, 0, sample, -1.0, (1, 0, 1)[sample], position) for mode in MODES]
            for request, patch in makes.of_group(wanted):
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


@pytest.mark.parametrize("seed", range(3))
def test_patches_from_crops_are_those_of_whole_samples(seed):
    chance = np.random.default_rng(seed)
    wanted = [
        Request("2", mode, int(chance.integers(4)), rank, int(chance.integers(3)), score, 0, int(position))
        for mode, score in (("relevance", 1.0), ("negative", -1.0), ("activation", 1.0))
        for rank, position in enumerate([0, 11, 132, 143, *chance.integers(0, 144, 10)])
    ]
    whole, crops = maker(8), maker(8, crops=True)
    expected, cropped = (
        dict(itertools.chain.from_iterable(map(made.of_group, made.groups(wanted)))) for made in (whole, crops)
    )
    assert crops._crops["2"].windows.size == (8, 8)
    assert {np.abs(patch.heatmap).max() for patch in cropped.values()} == {127}
    assert expected.keys() == cropped.keys() == set(wanted)
    for request, patch in expected.items():
        assert patch.box == cropped[request].box
        assert np.abs(patch.heatmap.astype(int) - cropped[request].heatmap).max() <= 1


@pytest.mark.parametrize("crops", [False, True])
def test_a_patch_is_the_same_bytes_whatever_is_made_with_it(crops):
    """With crops or not; alone, only those that start from relevance of unknown sign run the model's upper part."""
    makes = maker(4, crops=crops)
    wanted = [
        Request("2", mode, concept, 0, sample, score, 0, 60 + 7 * concept)
        for mode, score in (("relevance", 1.0), ("relevance", -1.0), ("activation", 1.0))
        for concept in range(4)
        for sample in range(3)
    ]
    together = dict(itertools.chain.from_iterable(map(makes.of_group, makes.groups(wanted))))
    for request in wanted:
        ((_, alone),) = [pair for group in makes.groups([request]) for pair in makes.of_group(group)]
        np.testing.assert_array_equal(alone.heatmap, together[request].heatmap)
        assert (alone.box, alone.picture) == (together[request].box, together[request].picture)


class Coordinates(nn.Module):
    """Adds its place to each pixel: nothing of it can be computed from a crop."""

    def forward(self, data):
        return data + torch.linspace(0, 1, data.shape[-1])


@pytest.mark.parametrize(("first", "exact"), [(nn.Identity(), True), (Coordinates(), False)])
def test_crops_are_used_only_where_they_give_what_the_sample_gives(first, exact):
    model = nn.Sequential(first, *MODEL)
    fields = receptive_boxes(model, (2, 28, 28), "3").numpy()
    windows = windows_of(fields, (12, 12), (28, 28))
    sample = torch.randn(2, 28, 28, generator=torch.Generator().manual_seed(2))
    assert CropMaker(prepare(model, EpsilonPlusFlat()), "3", windows).exact(sample) is exact


class Brightest(nn.Module):
    """Divides by the largest value of a sample, which dark samples have in no place."""

    def forward(self, data):
        return data / data.amax((1, 2, 3), keepdim=True).clamp(min=1)


class Refusing(nn.Module):
    """Accepts whole samples of values in range only, and has no other fault."""

    def forward(self, data):
        if data.shape[-1] == 28 and (data < 0).any():
            raise ValueError("negative")
        return data


@pytest.mark.parametrize(("first", "exact"), [(Brightest(), False), (Refusing(), True)])
def test_what_has_no_effect_on_a_sample_is_seen_on_others(first, exact):
    model = nn.Sequential(first, *MODEL)
    windows = windows_of(receptive_boxes(MODEL, (2, 28, 28), "2").numpy(), (12, 12), (28, 28))
    dark = torch.full((2, 28, 28), 0.01)
    made = CropMaker(prepare(model, EpsilonPlusFlat()), "3", windows)
    assert made._agrees(dark)
    assert made.exact(dark) is exact


@given(
    kernels=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2)), min_size=1, max_size=3),
    size=st.integers(30, 40),
)
def test_a_window_holds_the_field_is_aligned_and_ends_where_the_sample_does(kernels, size):
    model = nn.Sequential(*[nn.Conv1d(1, 1, k, stride=s, padding=min(p, k // 2)) for k, s, p in kernels])
    layer = str(len(kernels) - 1)
    fields = receptive_boxes(model, (1, size), layer).numpy()
    windows = windows_of(fields, (len(fields),), (size,))
    if windows is None:
        return
    stride = int(np.prod([s for _, s, _ in kernels]))
    assert windows.strides == (stride,)
    for position, (first, last) in enumerate(fields):
        ((start,), (length,)) = windows.starts[position], windows.size
        assert start % stride == 0
        assert (size - length) % stride == 0
        assert start <= first < last <= start + length <= size
        assert start == 0 or first > 0
        assert start + length == size or last <= size - stride
