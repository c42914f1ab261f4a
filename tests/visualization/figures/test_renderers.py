"""Inputs that are no images, drawn: artists, texts and data."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from crp.explanations import ConceptMap
from crp.visualization import colours as palette
from crp.visualization import encoding as images
from crp.visualization.figures.artists import draw_colour_bar
from crp.visualization.figures.renderers import (
    ImageRenderer,
    SignalRenderer,
    SpectrogramRenderer,
    VolumeRenderer,
    renderer_for,
)


@pytest.fixture
def axes():
    return Figure(figsize=(4, 3)).add_subplot()


SIGNAL = np.array([[0, 1, 0, -1], [2, 2, 4, 2]], dtype=np.float32)
HEATMAP = np.array([0, 2, -1, 0], dtype=np.float32)


def test_the_number_of_axes_chooses_the_renderer():
    assert renderer_for(SIGNAL) == SignalRenderer()
    assert renderer_for(np.zeros((4, 5, 3), dtype=np.uint8)) == ImageRenderer()
    assert renderer_for(np.zeros((1, 3, 4, 5), dtype=np.float32)) == VolumeRenderer()


# -- images ------------------------------------------------------------------------------------------------------


def outline(axes):
    (found,) = [artist for artist in axes.collections if artist.get_label() == "against"]
    return {tuple(sorted(map(tuple, edge.tolist()))) for edge in found.get_segments()}


def test_what_speaks_against_is_outlined(axes):
    picture = np.zeros((3, 4, 3), dtype=np.uint8)
    heatmap = np.array([[1, 0, 0, 0], [0, -1, -0.5, 0], [0, 0, -0.05, 0]], dtype=np.float32)
    limit = ImageRenderer().draw_heatmap(axes, picture, heatmap, 1.0)
    # around the pixels (1, 1) and (1, 2), whose neighbours are half a pixel away; -0.05 is too weak
    expected = {((0.5, 0.5), (1.5, 0.5)), ((1.5, 0.5), (2.5, 0.5)), ((0.5, 1.5), (1.5, 1.5)), ((1.5, 1.5), (2.5, 1.5))}
    assert outline(axes) == expected | {((0.5, 0.5), (0.5, 1.5)), ((2.5, 0.5), (2.5, 1.5))}
    bar = axes.figure.add_axes((0, 0, 1, 0.05))
    draw_colour_bar(bar, limit, of=axes)
    assert bar.get_xticklabels()[0].get_text() == "−1\nagainst (outlined)"


def test_without_anything_against_there_is_no_outline(axes):
    picture, heatmap = np.zeros((2, 2, 3), dtype=np.uint8), np.array([[1, 0], [0, -0.05]], dtype=np.float32)
    limit = ImageRenderer().draw_heatmap(axes, picture, heatmap, 1.0)
    assert not axes.collections
    bar = axes.figure.add_axes((0, 0, 1, 0.05))
    draw_colour_bar(bar, limit, of=axes)
    assert bar.get_xticklabels()[0].get_text() == "−1\nagainst"
    small = Figure().add_subplot()
    ImageRenderer().draw_heatmap(small, picture, -heatmap, 1.0, small=True)
    assert not small.collections


# -- signals -----------------------------------------------------------------------------------------------------


def areas(axes):
    return [artist for artist in axes.collections if isinstance(artist, PolyCollection)]


def heights(area):
    """Where an area leaves zero along time, from and to, and how high or low it comes there."""
    points = np.concatenate([path.vertices for path in area.get_paths()])
    points = points[np.abs(points[:, 1] - 0.17) > 1e-9]
    (level,) = np.unique(points[:, 1].round(9))
    return points[:, 0].min(), points[:, 0].max(), level


def test_a_trace_runs_through_the_middle_of_its_steps(axes):
    SignalRenderer(rate=2.0).draw_input(axes, SIGNAL, HEATMAP)
    first, second = axes.lines
    # four values at two a second: 0 to 2 seconds
    assert first.get_xdata().tolist() == second.get_xdata().tolist() == [0.25, 0.75, 1.25, 1.75]
    assert axes.get_xlim() == (0, 2)
    # both channels span 2, and are drawn on one scale: nine tenths of the height of 0.96 / 2
    for line, values in ((first, SIGNAL[0]), (second, SIGNAL[1])):
        assert np.diff(line.get_ydata()) == pytest.approx(np.diff(values) / 2 * 0.9 * 0.48)
    assert first.get_ydata().min() > second.get_ydata().max()


def test_relevance_goes_up_for_and_down_against(axes):
    limit = SignalRenderer().draw_heatmap(axes, SIGNAL, HEATMAP, 2.0)
    assert limit == 2.0
    supporting, opposing = areas(axes)
    # the area takes the lowest 0.34 of the axes; its zero is at 0.17
    assert heights(supporting) == pytest.approx((1, 2, 0.34))
    assert heights(opposing) == pytest.approx((2, 3, 0.17 - 0.17 / 2))
    assert to_hex(supporting.get_facecolor()[0]) == palette.FOR
    assert to_hex(opposing.get_facecolor()[0]) == palette.AGAINST
    # in grey: direction, and hatching
    assert supporting.get_hatch() is None
    assert opposing.get_hatch()
    band = axes.images[0]
    assert band.get_extent() == pytest.approx([0, 4, 0.36, 1])
    np.testing.assert_array_equal(band.get_array(), images.colours(np.array([[0, 0.5, -0.25, 0]]), 1.0))


def test_a_power_below_one_lifts_weak_relevance(axes):
    SignalRenderer().draw_heatmap(axes, SIGNAL, HEATMAP, 8.0, 0.5)
    supporting, opposing = areas(axes)
    assert heights(supporting)[2] == pytest.approx(0.17 + 0.17 * 0.5)  # root of 2 / 8
    assert heights(opposing)[2] == pytest.approx(0.17 - 0.17 * (1 / 8) ** 0.5)


def test_the_axis_of_a_signal_is_labelled_where_it_is_large(axes):
    renderer = SignalRenderer(rate=100, time_label="time (s)", channels=("lead I", "$x_{"))
    renderer.draw_heatmap(axes, np.tile(SIGNAL, 50), np.tile(HEATMAP, 50))
    assert axes.get_xlabel() == "time (s)"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "0.4", "0.8", "1.2", "1.6", "2"]
    assert [text.get_text() for text in axes.texts] == [" lead I", " $x_{"]
    assert not any(text.get_parse_math() for text in axes.texts)
    small = Figure().add_subplot()
    renderer.draw_heatmap(small, SIGNAL, HEATMAP, small=True)
    assert not small.axison
    assert not small.texts


def test_the_ink_of_a_window_is_where_its_concept_looks(axes):
    SignalRenderer().draw_patch(axes, (2, 4, 0, 1), SIGNAL, np.array([0, 0.25, 1, -1], dtype=np.float32))
    lines = [artist for artist in axes.collections if isinstance(artist, LineCollection)]
    assert len(lines) == 2
    for line in lines:
        assert line.get_colors()[:, 3] == pytest.approx([0.1, 0.1 + 0.9 * 0.5, 1.0])
        points = np.concatenate(line.get_segments())
        assert points[:, 0].min() == pytest.approx(2.25)
        assert points[:, 0].max() == pytest.approx(3.75)


def test_cells_of_a_signal_stand_side_by_side(axes):
    concept_map = ConceptMap("conv", np.array([[3, -1, 3, 5]]), np.array([[1, 0, 4, 2]]), (1, 4))
    colours = {3: "#e69f00", 5: "#3b6fb6"}
    SignalRenderer(rate=2.0).draw_concept_map(axes, SIGNAL, concept_map, colours)
    cells = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert [(cell.get_x(), cell.get_width(), to_hex(cell.get_facecolor())) for cell in cells] == [
        (0.0, 0.5, "#e69f00"),
        (1.0, 0.5, "#e69f00"),
        (1.5, 0.5, "#3b6fb6"),
    ]
    assert [text.get_text() for text in axes.texts] == ["3", "3", "5"]


# -- spectrograms ------------------------------------------------------------------------------------------------


def test_a_spectrogram_has_labelled_axes_and_low_frequencies_below(axes):
    renderer = SpectrogramRenderer((0, 1.5), (0, 8), time_label="time (s)", frequency_label="frequency (kHz)")
    picture = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    heatmap = np.zeros((4, 6), dtype=np.float32)
    renderer.draw_input(axes, picture, heatmap)
    np.testing.assert_array_equal(axes.images[0].get_array(), picture)
    assert axes.get_ylim() == (-0.5, 3.5)  # row 0, the lowest bin, is the lowest line
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time (s)", "frequency (kHz)")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "0.75", "1.5"]
    assert axes.get_xticks().tolist() == [-0.5, 2.5, 5.5]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "4", "8"]
    small = Figure().add_subplot()
    renderer.draw_heatmap(small, picture, heatmap, small=True)
    assert not small.axison
    assert small.get_ylim() == (-0.5, 3.5)


def test_patches_of_a_spectrogram_stand_as_it_does(axes):
    picture = np.zeros((2, 3, 3), dtype=np.uint8)
    picture[0] = 200
    heatmap = np.ones((2, 3), dtype=np.float32)
    SpectrogramRenderer().draw_patch(axes, (0, 1, 0, 1), picture, heatmap)
    np.testing.assert_array_equal(axes.images[0].get_array(), images.veiled(picture[::-1], heatmap, 0.65))


# -- volumes -----------------------------------------------------------------------------------------------------


def volume():
    heatmap = np.zeros((5, 2, 3), dtype=np.float32)
    heatmap[1, 0, 0], heatmap[3, 1, 2], heatmap[4, 0, 1] = 1.0, -3.0, 2.0
    values = np.arange(30, dtype=np.float32).reshape(1, 5, 2, 3)
    return values, heatmap


def test_slices_of_largest_relevance_are_shown_front_to_back(axes):
    values, heatmap = volume()
    renderer = VolumeRenderer(slices=2)
    assert renderer.chosen(heatmap) == [3, 4]
    renderer.draw_heatmap(axes, values, heatmap, 3.0)
    grey = np.rint(np.arange(30) / 29 * 255).astype(np.uint8).reshape(5, 2, 3)[..., None].repeat(3, -1)
    for image, index in zip(axes.images, (3, 4), strict=True):
        np.testing.assert_array_equal(image.get_array(), images.overlay(grey[index], heatmap[index], 3.0))
    assert [text.get_text() for text in axes.texts] == ["3", "4"]


def test_the_profile_marks_where_the_slices_are(axes):
    values, heatmap = volume()
    VolumeRenderer(slices=2).draw_input(axes, values, heatmap)
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    tallest = max(-bar.get_height() for bar in bars)
    assert [-bar.get_height() / tallest for bar in bars] == pytest.approx([0, 1 / 3, 0, 1, 2 / 3])
    marked = [to_hex(bar.get_facecolor()) == palette.INK for bar in bars]
    assert marked == [False, False, False, True, True]


def test_a_volume_is_cut_along_any_axis(axes):
    values, heatmap = volume()
    renderer = VolumeRenderer(slices=1, axis=2)
    assert renderer.chosen(heatmap) == [2]
    renderer.draw_heatmap(axes, values, heatmap)
    assert axes.images[0].get_array().shape == (5, 2, 3)
    # height 5 and its profile, width 2
    assert renderer.ratio(values) == pytest.approx(2 / (5 * 1.3))
