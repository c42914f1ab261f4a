import numpy as np
import pytest

from crp.visualization import encoding as images


def test_luminance_of_the_colour_map_falls_with_magnitude_on_both_sides_from_white():
    light = images.luminance(images.DIVERGING)
    middle = images.LEVELS // 2
    assert light[middle] == pytest.approx(1)
    assert (np.diff(light[: middle + 1]) > 0).all()
    assert (np.diff(light[middle:]) < 0).all()


def test_equal_magnitudes_are_about_equally_dark_in_grey():
    grey = images.DIVERGING @ images.LUMINANCE
    assert np.abs(grey - grey[::-1]).max() < 30  # of 255
    assert grey.min() < 60


def dichromat(colours, matrix):
    """Machado, Oliveira and Fernandes 2009, severity 1, in linear light."""
    light = np.where(colours / 255 <= 0.04045, colours / 255 / 12.92, ((colours / 255 + 0.055) / 1.055) ** 2.4)
    return np.clip(light @ np.array(matrix).T, 0, 1)


@pytest.mark.parametrize(
    "matrix",
    [
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],  # protanopia
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],  # deuteranopia
    ],
)
def test_signs_stay_apart_for_the_red_green_blind(matrix):
    light = dichromat(images.DIVERGING.astype(float), matrix)
    blueness = (light[:, 2] - light[:, 0]) / light.sum(axis=1)
    middle, step = images.LEVELS // 2, images.LEVELS // 8
    assert (blueness[: middle - step] > 0.1).all()
    assert (blueness[middle + step :] < -0.1).all()


def test_zero_is_white_and_signs_have_their_side():
    drawn = images.colours(np.array([0.0, 1.0, -1.0, 5.0]), limit=1.0)
    np.testing.assert_array_equal(drawn[0], [255, 255, 255])
    np.testing.assert_array_equal(drawn[1], images.DIVERGING[-1])
    np.testing.assert_array_equal(drawn[2], images.DIVERGING[0])
    np.testing.assert_array_equal(drawn[3], drawn[1])


def test_colours_saturate_beyond_all_but_a_few_values():
    values = np.linspace(-1, 1, 2001)
    assert images.colour_limit(values) == pytest.approx(0.998, abs=1e-3)
    single = np.zeros(10_000)
    single[3] = -7
    assert images.colour_limit(single) == 7
    assert images.colour_limit(np.zeros(4)) == 0
    assert (images.scaled(np.zeros(4)) == 0).all()


def test_an_overlay_shows_the_picture_where_relevance_is_zero_and_colour_where_it_is_full():
    picture = np.full((2, 2, 3), (200, 30, 90), dtype=np.uint8)
    heatmap = np.array([[0.0, 1.0], [-1.0, 0.0]])
    drawn = images.overlay(picture, heatmap, limit=1.0)
    np.testing.assert_array_equal(drawn[0, 0], images.faded(picture)[0, 0])
    assert len(set(drawn[0, 0])) == 1  # grey
    np.testing.assert_array_equal(drawn[0, 1], images.DIVERGING[-1])
    np.testing.assert_array_equal(drawn[1, 0], images.DIVERGING[0])


def test_a_faded_heatmap_is_the_same_heatmap_on_a_wider_scale():
    """What pages rely on: one picture and an opacity are both scales, colour by colour."""
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, size=(40, 40, 3), dtype=np.uint8)
    heatmap = random.uniform(-0.5, 0.5, size=(40, 40))  # nothing beyond its own limit but 0.2 %
    own, limit = images.colour_limit(heatmap), 3.0
    fade = images.fade(own, limit)
    assert fade == pytest.approx((own / 3) ** 0.5)
    shown = fade * images.tinted(picture, heatmap).astype(float) + (1 - fade) * images.faded(picture)
    inside = np.abs(heatmap) <= own
    assert np.abs(shown - images.tinted(picture, heatmap, limit))[inside].max() <= 1.01  # rounding of two pictures
    # beyond its own limit a pixel is drawn as the limit, on both scales
    clipped = images.tinted(picture, np.clip(heatmap, -own, own), limit)
    assert np.abs(shown - clipped).max() <= 1.01
    assert (images.fade(0.0, 0.0), images.fade(0.0, 1.0), images.fade(2.0, 1.0)) == (1, 0, 1)


def test_the_inks_of_a_heatmap_are_those_of_the_signs_and_equally_dark():
    drawn = images.tinted(np.full((1, 3, 3), 255, np.uint8), np.array([[-1.0, 0.0, 1.0]]), 1.0)[0]
    assert drawn.tolist() == [images.AGAINST_INK.tolist(), [255, 255, 255], images.FOR_INK.tolist()]
    assert abs(float(images.luminance(images.FOR_INK) - images.luminance(images.AGAINST_INK))) < 0.05


def test_the_veil_hides_what_has_no_relevance():
    heatmap = np.zeros((40, 60))
    heatmap[:20, :30] = -1
    cover = images.veil(heatmap, side=12)
    assert cover.shape == (12, 12)
    assert cover[0, 0] == 0
    assert cover[-1, -1] == 1
    assert (images.veil(np.zeros((5, 3))) == 0).all()


def test_a_veiled_patch_keeps_what_counts_and_whitens_the_rest():
    heatmap = np.zeros((40, 40))
    heatmap[:20, :20] = 1
    drawn = images.veiled(np.zeros((40, 40, 3), dtype=np.uint8), heatmap, strength=0.5)
    assert drawn[5, 5].max() <= 2
    assert drawn[35, 35].min() >= 126


def test_the_contour_of_one_cell_is_its_four_edges():
    mask = np.zeros((3, 3), dtype=bool)
    mask[1, 1] = True
    edges = {tuple(map(tuple, edge)) for edge in images.contour(mask)}
    assert edges == {((1, 1), (1, 2)), ((2, 1), (2, 2)), ((1, 1), (2, 1)), ((1, 2), (2, 2))}
    assert images.contour(np.zeros((2, 2), dtype=bool)).shape == (0, 2, 2)


@pytest.mark.parametrize("seed", range(5))
def test_a_contour_has_as_many_edges_as_neighbours_differ(seed):
    mask = np.random.default_rng(seed).random((6, 9)) < 0.5
    expected = 0
    for row in range(-1, 7):
        for column in range(-1, 10):
            here, right, below = (
                0 <= r < 6 and 0 <= c < 9 and bool(mask[r, c])
                for r, c in ((row, column), (row, column + 1), (row + 1, column))
            )
            expected += (here != right) + (here != below)
    assert len(images.contour(mask)) == expected


def test_every_piece_of_a_mask_gets_one_label_inside_it():
    mask = np.array([[1, 1, 1, 0], [0, 0, 0, 0], [0, 1, 0, 1]], dtype=bool)
    assert images.label_cells(mask) == [(0, 1), (2, 1), (2, 3)]


def test_fitting_keeps_small_pictures_and_proportions():
    small = np.zeros((10, 20, 3), dtype=np.uint8)
    assert images.fitted(small, 20) is small
    assert images.fitted(np.zeros((400, 3, 3), dtype=np.uint8), 100).shape == (100, 1, 3)


def test_blocks_have_the_mean_of_their_values_and_cover_the_array_exactly():
    values = np.random.default_rng(0).normal(size=(6, 12)).astype(np.float32)
    assert images.block_means(values, 7) is values
    np.testing.assert_allclose(
        images.block_means(values, 4), values.reshape(2, 3, 4, 3).mean(axis=(1, 3)), atol=1e-6
    )
    # 13 columns in four blocks of 3.25, to the next whole column: the last one ends where the array does
    means = images.block_means(np.tile(np.arange(13, dtype=np.float32), (6, 1)), 4)
    np.testing.assert_allclose(means, [[1, 4.5, 8, 11]] * 2, atol=1e-6)
