"""Scenes with several objects: their masks, boxes and labels are what is drawn; and what the network learned."""

import numpy as np
import pytest
import torch

from crp.attribution.detectors import boxes_of
from crp.demo import ObjectScenes, demo_model
from crp.demo.object_scenes import KINDS, OCTAGON
from crp.demo.painting import SIZE
from crp.errors import InputError
from tests.evidence.object_truth import truth


def test_masks_boxes_and_labels_agree():
    scenes = ObjectScenes("test", 40)
    for index in range(40):
        scene, masks, labels = scenes.scene(index), scenes.masks(index), scenes.label_map(index)
        assert masks.sum(0).max() == 1  # objects do not overlap
        assert 2 <= len(masks) <= 3
        assert len({each.label for each in scene.objects}) == len(masks)
        for each, mask, (left, top, right, bottom) in zip(scene.objects, masks, scenes.boxes(index), strict=True):
            assert set(labels[mask]) == {each.label}
            rows, columns = np.nonzero(mask)
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (left, top, right, bottom)
            assert each.on_patch <= (each.label == OCTAGON)
        assert (labels[~masks.any(0)] == 0).all()
        assert scenes[index][1] == tuple(each.label for each in scene.objects)


def test_only_the_ground_changes_with_the_patch():
    bare, patched = (ObjectScenes("test", 12, patch=patch) for patch in ("never", "always"))
    with_octagon = [i for i in range(12) if any(each.label == OCTAGON for each in bare.scene(i).objects)]
    assert with_octagon
    for index in range(12):
        changed = (bare.picture(index) != patched.picture(index)).any(-1)
        np.testing.assert_array_equal(bare.masks(index), patched.masks(index))
        assert changed.any() == (index in with_octagon)
        inside = np.zeros((SIZE, SIZE), bool)
        for each, mask in zip(bare.scene(index).objects, bare.masks(index), strict=True):
            inside |= mask if each.label != OCTAGON else False
        assert not (changed & inside).any()


def test_nineteen_of_twenty_octagons_stand_on_a_patch_in_training():
    scenes = ObjectScenes("train", 1500)
    octagons = [each.on_patch for i in range(1500) for each in scenes.scene(i).objects if each.label == OCTAGON]
    assert len(octagons) > 300
    assert np.mean(octagons) == pytest.approx(0.95, abs=0.03)


def test_what_does_not_exist_is_refused():
    with pytest.raises(InputError, match=r"^There is no patch mode 'sometimes'; "):
        ObjectScenes("test", 3, patch="sometimes")
    with pytest.raises(InputError, match=r"^The count of scenes is 0; it must be at least 1\.$"):
        ObjectScenes("test", 0)
    with pytest.raises(IndexError, match=r"^There is no scene 3; there are 3, from 0 to 2\.$"):
        ObjectScenes("test", 3).scene(3)


def test_the_segmentation_sees_objects_and_takes_the_ground_for_the_octagon():
    model = demo_model("segmenter")
    right = {}
    for patch in ("always", "never"):
        scenes, right[patch] = ObjectScenes("test", 30, seed=5, patch=patch), {True: [], False: []}
        for index in range(30):
            with torch.no_grad():
                found = model(scenes[index][0][None])[0].argmax(0).numpy()
            for each, mask in zip(scenes.scene(index).objects, scenes.masks(index), strict=True):
                label = np.bincount(found[mask], minlength=len(KINDS) + 1).argmax()
                right[patch][each.label == OCTAGON].append(label == each.label)
    assert np.mean(right["always"][True]) >= 0.95
    assert np.mean(right["never"][True]) <= 0.1
    assert np.mean(right["always"][False] + right["never"][False]) >= 0.95


def test_the_detector_finds_the_boxes():
    model, scenes = demo_model("detector"), ObjectScenes("test", 15, seed=6, patch="always")
    for index in range(15):
        found = [box for box in boxes_of(model, scenes[index][0]) if box.score >= 0.5]
        expected = dict(zip([each.label for each in scenes.scene(index).objects], scenes.boxes(index), strict=True))
        assert sorted(box.label for box in found) == sorted(expected)
        for box in found:
            assert np.abs(np.array(box.box) - expected[box.label]).max() < 8


def test_the_concept_of_a_class_is_first_and_the_ground_is_context():
    found = truth(6)
    assert found["objects whose class's concept is first"] >= 0.95
    assert found["mean of that relevance in the mask, clean objects"] >= 0.8
    assert found["octagons above the other objects of their scene"] >= 0.95
