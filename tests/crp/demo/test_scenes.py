"""The data set: the same scene for the same index, whatever was asked before."""

import pickle
import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from crp.demo.scenes import Scenes
from crp.errors import InputError


def test_what_a_scene_shows_is_object_and_tag() -> None:
    scenes = Scenes("test", 1, tag="always")
    masks = scenes.masks(0)
    assert (scenes.shown(0) == ~masks["background"]).all()
    assert scenes.shown(0)[masks["tag"]].all()
    assert 500 < scenes.shown(0).sum() < 96 * 96 / 2
    assert (scenes.object_mask(0) == (scenes.shown(0) & ~masks["tag"])).all()


def test_scene_depends_on_seed_split_and_index_alone():
    forward = [Scenes("train", 40)[index] for index in range(40)]
    order = list(range(40))
    random.Random(0).shuffle(order)
    longer = Scenes("train", 1000)
    for index in order:
        picture, label = longer[index]
        assert torch.equal(picture, forward[index][0])
        assert label == forward[index][1] == index % 10
    for other in (Scenes("test", 40), Scenes("train", 40, seed=1)):
        assert not torch.equal(other[3][0], forward[3][0])


def test_the_global_random_state_is_neither_used_nor_changed():
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    first = Scenes("train", 20)[9][0]
    assert np.array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])
    np.random.seed(1)  # noqa: NPY002
    assert torch.equal(Scenes("train", 20)[9][0], first)


def test_input_is_the_picture_scaled():
    scenes = Scenes("test", 10)
    tensor, label = scenes[7]
    assert (tensor.dtype, tuple(tensor.shape), type(label)) == (torch.float32, (3, 96, 96), int)
    by_hand = (scenes.picture(7).astype(np.float64) / 255 - 0.5) / 0.25
    assert np.abs(tensor.numpy().transpose(1, 2, 0) - by_hand).max() < 1e-6
    assert np.array_equal(scenes.preprocessing.to_picture(tensor), scenes.picture(7))


def test_tag_modes_are_the_same_scenes():
    always, never = Scenes("test", 60, tag="always"), Scenes("test", 60, tag="never")
    train = Scenes("test", 60)
    for index in range(60):
        assert never.tag_box(index) is None
        top, left, bottom, right = always.tag_box(index)
        assert (bottom - top, right - left) == (18, 18)
        assert np.array_equal(train.with_tag(index), always.picture(index))
        assert np.array_equal(train.without_tag(index), never.picture(index))
        tagged = train.tag_box(index) is not None
        assert np.array_equal(train.picture(index), (always if tagged else never).picture(index))
        assert always.masks(index)["tag"][top:bottom, left:right].sum() == always.masks(index)["tag"].sum() > 200
    assert sum(train.tag_box(index) is not None for index in range(60)) in (5, 6)


def test_workers_give_the_same_scenes():
    scenes = pickle.loads(pickle.dumps(Scenes("test", 12)))
    alone = torch.stack([scenes[index][0] for index in range(12)])
    loaded = torch.cat([batch for batch, _ in DataLoader(scenes, batch_size=5, num_workers=1)])
    assert torch.equal(loaded, alone)


def test_it_ends():
    scenes = Scenes("test", 3)
    assert len(scenes) == len(list(scenes)) == 3
    for index in (-1, 3):
        with pytest.raises(IndexError) as error:
            scenes[index]
        assert str(error.value) == f"There is no scene {index}; there are 3, from 0 to 2."


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"split": "tests", "count": 1}, "There is no split 'tests'; did you mean 'test'?"),
        (
            {"split": "test", "count": 1, "tag": "sometimes"},
            "There is no tag mode 'sometimes'; there are 'train', 'always', 'never'.",
        ),
        ({"split": "test", "count": 0}, "The count of scenes is 0; it must be at least 1."),
        ({"split": "test", "count": 1, "seed": -1}, "The seed of scenes is -1; it must be at least 0."),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(InputError) as error:
        Scenes(**arguments)
    assert str(error.value) == message
