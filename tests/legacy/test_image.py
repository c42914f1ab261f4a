"""zennit-crp's pictures: equal to what it drew, and right where it was not."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from crp.errors import InputError
from crp.image import get_crop_range, imgify, plot_grid, vis_img_heatmap, vis_opaque_img
from tests.legacy import scripts_mining
from tests.legacy.golden import assert_as_recorded


@pytest.fixture(autouse=True)
def _figures_are_closed():
    yield
    plt.close("all")


def spot(*places, size=(30, 30)):
    heatmap = torch.zeros(size)
    for row, column in places:
        heatmap[row, column] = 1
    return heatmap


def test_pictures_as_recorded():
    assert_as_recorded(scripts_mining.pictures)


def test_bug_crops_left_out_their_last_row_and_column():
    assert get_crop_range(spot((2, 5), (7, 9)), 0.5) == (2, 8, 5, 10)
    data = torch.arange(900.0).reshape(1, 1, 30, 30).repeat(1, 3, 1, 1)
    heatmap = torch.zeros(1, 30, 30)
    heatmap[0, 20:, 20:] = 1
    (picture,), _ = vis_img_heatmap(data, heatmap, rf=True, kernel_size=1)
    assert picture.size == (10, 10)
    assert picture.getpixel((9, 9)) == (255, 255, 255)  # the last pixel of the last row
    (picture,) = vis_opaque_img(data, heatmap, rf=True, kernel_size=1)
    assert picture.size == (10, 10)


def test_bug_a_crop_of_one_row_was_empty():
    row = spot((4, 3), (4, 4), (4, 8))
    assert get_crop_range(row, 0.5) == (4, 5, 3, 9)
    (picture,), (heat,) = vis_img_heatmap(torch.rand(1, 3, 30, 30), row[None], rf=True, kernel_size=1)
    assert picture.size == heat.size == (6, 1)
    assert get_crop_range(spot((4, 3)), 0.5) == (4, 5, 3, 4)


def test_bug_without_relevance_the_last_row_and_column_were_cut():
    assert get_crop_range(torch.zeros(5, 7), 0.1) == (0, 5, 0, 7)
    (picture,), (heat,) = vis_img_heatmap(torch.rand(1, 3, 30, 20), torch.zeros(1, 30, 20), rf=True)
    assert picture.size == heat.size == (20, 30)


def test_bug_a_crop_whose_values_add_up_to_zero_was_not_cropped():
    data = torch.zeros(1, 3, 30, 30)
    data[0, :, 3:5, 3:5] = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    (picture,), _ = vis_img_heatmap(data, spot((3, 3), (4, 4))[None], rf=True, kernel_size=1)
    assert picture.size == (2, 2)


@pytest.mark.parametrize("size", [(9, 9), (3, 12), (2, 2)])
def test_bug_the_blur_failed_on_small_samples(size):
    data, heatmaps = torch.rand(2, 3, *size), torch.rand(2, *size)
    assert [picture.size for picture in vis_opaque_img(data, heatmaps)] == [size[::-1]] * 2
    assert len(vis_img_heatmap(data, heatmaps, rf=True)[0]) == 2


def test_dark_and_light_by_hand():
    data = torch.ones(1, 3, 30, 30)
    (picture,) = vis_opaque_img(data, spot((10, 10))[None], kernel_size=1, alpha=0.25)
    light = np.asarray(picture)[..., 0]
    # zennit stretches what there is to 0 to 255
    assert light[10, 10] == 255
    assert (light == 0).sum() == 899


@pytest.mark.parametrize(
    ("option", "value"), [("alpha", 1.1), ("alpha", -0.1), ("vis_th", 1), ("vis_th", -1), ("crop_th", 1)]
)
def test_a_number_out_of_its_range(option, value):
    with pytest.raises(InputError, match=f"'{option}' must be .*given {value}"):
        vis_opaque_img(torch.rand(1, 3, 30, 30), torch.rand(1, 30, 30), **{option: value})


def test_what_is_no_picture():
    with pytest.raises(TypeError, match="given list"):
        imgify([[1, 2]])


def test_bug_heatmaps_could_not_be_saved_with_pillow_13():
    buffer = io.BytesIO()
    imgify(torch.tensor([[-1.0, 0.0, 1.0]]), symmetric=True).save(buffer, "PNG", optimize=True)
    pixels = np.asarray(Image.open(buffer).convert("RGB"))[0].tolist()
    assert pixels[0] == [0, 0, 255]
    assert min(pixels[1]) >= 253
    assert pixels[2] == [255, 0, 0]


def test_bug_a_heatmap_of_zeros_was_blue():
    for symmetric in (True, False):
        colours = np.asarray(imgify(torch.zeros(4, 4), symmetric=symmetric).convert("RGB"))
        assert colours.min() >= 253
    # a constant that is not zero has a sign to show
    assert imgify(torch.full((2, 2), -3.0), symmetric=True).convert("RGB").getpixel((0, 0)) == (0, 0, 255)
    assert imgify(np.full((2, 2, 3), 40, np.uint8)).getpixel((0, 0)) == (40, 40, 40)


def grid_of(ref_c, **options):
    assert plot_grid(ref_c, **options) is None
    return plt.gcf().axes


def test_a_grid_shows_pictures_above_their_heatmaps():
    data, heatmaps = torch.rand(2, 3, 8, 8), torch.full((2, 8, 8), -1.0)
    axes = grid_of({7: (data, heatmaps), 9: (data, heatmaps)})
    assert len(axes) == 8
    assert [ax.get_ylabel() for ax in axes if ax.get_ylabel()] == ["7", "9"]
    # one coloured blue throughout, transparent nowhere
    assert (axes[2].images[0].get_array()[..., :3] == [0, 0, 255]).all()
    assert len(grid_of({1: list(data)})) == 2
    assert len(grid_of({1: data})) == 2


def test_bug_cmap_dim_0_and_none_were_refused():
    red, value = [255, 0, 0], torch.full((1, 8, 8), 1.0)
    drawn = {dim: [ax.images[0].get_array()[0, 0, :3].tolist() for ax in grid_of({1: (value, value)}, cmap_dim=dim)]
             for dim in (0, 1, None)}  # fmt: skip
    assert [colour == red for colour in drawn[0]] == [True, False]
    assert [colour == red for colour in drawn[1]] == [False, True]
    assert [colour == red for colour in drawn[None]] == [False, False]
    with pytest.raises(InputError, match="0, 1 or None, given 2"):
        plot_grid({1: [value]}, cmap_dim=2)


def test_bug_rows_of_different_length_failed():
    data = list(torch.rand(3, 3, 8, 8))
    assert len(grid_of({1: data, 2: data[:1], 3: (data[:2], data[:2])})) == 8


def test_a_grid_of_nothing():
    with pytest.raises(InputError, match=r"^'ref_c' must map concepts to lists of pictures, or to tuples of lists\.$"):
        plot_grid({})
    with pytest.raises(InputError, match=r"^'ref_c' must map concepts to lists of pictures, or to tuples of lists\.$"):
        plot_grid({1: 5})
