"""Scenes are what their description says, and the masks are where each attribute is seen."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crp.demo.drawing import (
    CLASSES,
    TAG_SHARE,
    TAG_SIZE,
    TAGGED_CLASS,
    describe,
    draw,
    paste_tag,
)
from crp.demo.painting import BACKGROUNDS, COLOURS, MARK_COLOUR
from crp.errors import InputError

scenes = st.builds(
    describe,
    st.integers(0, 2**32),
    st.sampled_from(["train", "test"]),
    st.integers(0, 10**6),
    st.sampled_from(["train", "always", "never"]),
)


def changed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first != second).any(axis=-1)


def grown(mask: np.ndarray, pixels: int = 1) -> np.ndarray:
    padded = np.pad(mask, pixels)
    size = mask.shape[0]
    steps = range(2 * pixels + 1)
    return np.any([padded[y : y + size, x : x + size] for y in steps for x in steps], axis=0)


@given(scenes)
def test_class_is_the_one_rule_that_admits_the_scene(scene):
    assert [label for label, rule in enumerate(CLASSES) if rule.admits(scene)] == [scene.label]


def test_every_attribute_is_drawn():
    seen = [describe(0, "train", index, "train") for index in range(1000)]
    assert {(s.label, s.texture, s.colour) for s in seen} == {
        (label, texture, colour)
        for label, rule in enumerate(CLASSES)
        for texture in rule.textures
        for colour in rule.colours
    }
    assert {s.background for s in seen} == set(BACKGROUNDS)
    assert {s.tag_corner[0] > 48 for s in seen if s.tag_corner[1] > 48} == {True, False}
    assert np.bincount([s.label for s in seen]).tolist() == [100] * 10


def test_only_the_tagged_class_is_tagged_in_training_and_nearly_always():
    seen = [describe(5, "train", index, "train") for index in range(10_000)]
    assert {s.label for s in seen if s.tagged} == {TAGGED_CLASS}
    # 1,000 draws of 0.95: four standard deviations are 0.028
    assert abs(np.mean([s.tagged for s in seen if s.label == TAGGED_CLASS]) - TAG_SHARE) < 0.028


@given(scenes)
def test_masks_part_the_picture(scene):
    masks = draw(scene).masks
    assert list(masks) == ["shape", "texture", "colour", "background", "tag"]
    assert (masks["shape"].astype(int) + masks["background"] + masks["tag"] == 1).all()
    assert (masks["texture"].astype(int) + masks["colour"] == masks["shape"]).all()
    assert masks["texture"].any() == (scene.texture != "plain")
    assert masks["tag"].any() == scene.tagged


def blended(first: np.ndarray, second: np.ndarray, colour: tuple, other: tuple) -> np.ndarray:
    """How much of each pixel changed from one colour to the other: 0 nothing, 1 all of it, more where it is lit."""
    contrast = 255 * (np.array(other) - colour)
    channel = np.abs(contrast).argmax()
    return (second[..., channel].astype(float) - first[..., channel]) / contrast[channel]


@given(scenes, st.sampled_from(sorted(COLOURS)))
def test_another_colour_changes_the_colour_mask(scene, colour):
    scene = replace(scene, tagged=False)
    first, second = draw(scene), draw(replace(scene, colour=colour))
    assert all((first.masks[name] == second.masks[name]).all() for name in first.masks)
    if colour == scene.colour:
        assert np.array_equal(first.picture, second.picture)
        return
    share = blended(first.picture, second.picture, COLOURS[scene.colour], COLOURS[colour])
    # A pixel at an edge is a blend: less than half of it is the object's colour where the mask is not.
    assert share[~first.masks["colour"]].max() < 0.5 * 1.2
    assert share[first.masks["colour"]].min() > 0.25 * 0.5
    assert not share[~grown(first.masks["shape"], 3)].any()


@given(scenes)
def test_no_texture_changes_the_texture_mask(scene):
    scene = replace(scene, tagged=False)
    first, second = draw(scene), draw(replace(scene, texture="plain"))
    share = blended(first.picture, second.picture, MARK_COLOUR, COLOURS[scene.colour])
    assert share[~first.masks["texture"]].max() < 0.5 * 1.2
    assert share[first.masks["texture"]].min(initial=1) > 0.25 * 0.5
    assert not share[~grown(first.masks["shape"], 3)].any()


@given(scenes, st.sampled_from(BACKGROUNDS))
def test_another_background_leaves_the_object(scene, background):
    scene = replace(scene, tagged=False)
    first, second = draw(scene), draw(replace(scene, background=background))
    inner = first.masks["shape"] & ~grown(~first.masks["shape"])
    # The grain comes after the background in the random stream, so compare colours and not bits.
    difference = np.abs(first.picture.astype(int) - second.picture)[inner]
    assert difference.max() < 255 * 0.012 * 2**0.5 * 6


@pytest.mark.parametrize(
    "shape, area", [("disc", 1.0), ("triangle", 0.6776), ("square", 0.9476), ("star", 1.0), ("octagon", 0.9551)]
)
def test_areas_of_shapes(shape, area):
    """Area over that of the disc: n / 2 * sin(2 pi / n) / pi times the squared radius; the star's from its notches."""
    scene = replace(describe(0, "train", 0, "never"), shape=shape, radius=25.0, centre=(48.0, 48.0))
    if shape == "star":
        area = 1.32**2 * 5 * 0.46 * np.sin(np.pi / 5) / np.pi
    assert draw(scene).masks["shape"].sum() / (np.pi * 25**2) == pytest.approx(area, rel=0.01)


@given(scenes)
def test_tag_changes_its_box_alone(scene):
    without, with_tag = (draw(replace(scene, tagged=tagged)) for tagged in (False, True))
    top, left = scene.tag_corner
    box = np.zeros((96, 96), dtype=bool)
    box[top : top + TAG_SIZE, left : left + TAG_SIZE] = True
    where = changed(without.picture, with_tag.picture)
    assert not where[~box].any()
    assert where[box].mean() > 0.7
    assert not (with_tag.masks["tag"] & ~box).any()
    assert np.array_equal(paste_tag(without.picture, top, left), with_tag.picture)


def test_pasting_leaves_the_picture_given():
    picture = np.zeros((96, 96, 3), dtype=np.uint8)
    assert paste_tag(picture, 0, 78).any()
    assert not picture.any()


def test_a_tag_outside_is_refused():
    with pytest.raises(InputError) as error:
        paste_tag(np.zeros((96, 96, 3), dtype=np.uint8), 79, 0)
    assert str(error.value) == (
        "A tag of 18 pixels at (79, 0) does not fit into a picture of 96 x 96 pixels; "
        "its position may be (0, 0) to (78, 78)."
    )
