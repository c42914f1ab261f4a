"""The scenes as a data set, with the truth about each of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from crp.errors import InputError, nearest
from crp.preprocessing import Preprocessing

from .drawing import CLASSES, TAG_SIZE, Drawing, Scene, describe, draw

SPLITS = ("train", "test")
TAG_MODES = ("train", "always", "never")


class Scenes:
    """Map-style data set: `scenes[i]` is (float32 tensor [3, 96, 96] after `preprocessing`, int label).

    A scene depends on (seed, split, i) alone and is drawn when asked for; nothing is kept. Labels go round the classes:
    scene i is of class i modulo 10.

    Parameters
    ----------
    split
        "train" or "test"; the two share no scene.
    count
        How many scenes, at least 1. The first scenes of a longer data set are those of a shorter one.
    seed
        Another seed, other scenes; not negative.
    tag
        "train": the tagged class carries its tag in `TAG_SHARE` of its scenes, and no other class does; "always": every
        scene does; "never": none does. The scenes are otherwise the same.

    Raises
    ------
    InputError
        When the split or the tag mode is not one of these, the count is below 1 or the seed negative.

    Examples
    --------
    >>> scenes = Scenes("test", 20)
    >>> scenes.class_names[scenes.scene(9).label], scenes.picture(9).shape
    ('octagon', (96, 96, 3))
    """

    class_names = tuple(rule.name for rule in CLASSES)
    preprocessing = Preprocessing(mean=0.5, std=0.25)

    def __init__(self, split: str, count: int, *, seed: int = 0, tag: str = "train") -> None:
        for what, value, allowed in (("split", split, SPLITS), ("tag mode", tag, TAG_MODES)):
            if value not in allowed:
                raise InputError(f"There is no {what} {value!r}; {nearest(str(value), allowed)}")
        for what, value, least in (("count", count, 1), ("seed", seed, 0)):
            if value < least:
                raise InputError(f"The {what} of scenes is {value}; it must be at least {least}.")
        self.split = split
        self.count = count
        self.seed = seed
        self.tag = tag

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        scene = self.scene(index)
        return self.preprocessing.to_input(draw(scene).picture), scene.label

    def scene(self, index: int) -> Scene:
        """What is drawn: shape, texture, colour, background, places and angles."""
        if not 0 <= index < self.count:
            # IndexError and no other, because Python's own loops over a map-style data set end by it.
            raise IndexError(f"There is no scene {index}; there are {self.count}, from 0 to {self.count - 1}.")
        return describe(self.seed, self.split, index, self.tag)

    def drawing(self, index: int) -> Drawing:
        """The picture and the masks together."""
        return draw(self.scene(index))

    def picture(self, index: int) -> np.ndarray:
        """The scene as uint8 [H, W, 3]."""
        return self.drawing(index).picture

    def masks(self, index: int) -> dict[str, np.ndarray]:
        """Where each attribute is to be seen, name -> bool [H, W]; see `Drawing`."""
        return self.drawing(index).masks

    def tag_box(self, index: int) -> tuple[int, int, int, int] | None:
        """(top, left, bottom, right) of the tag in pixels, the last two exclusive; None without a tag."""
        scene = self.scene(index)
        if not scene.tagged:
            return None
        top, left = scene.tag_corner
        return top, left, top + TAG_SIZE, left + TAG_SIZE

    def with_tag(self, index: int) -> np.ndarray:
        """The picture of the scene with its tag, uint8 [H, W, 3], whether or not the data set shows it with one."""
        return draw(replace(self.scene(index), tagged=True)).picture

    def without_tag(self, index: int) -> np.ndarray:
        """The picture of the same scene without a tag, uint8 [H, W, 3]; other pixels are the same to the bit."""
        return draw(replace(self.scene(index), tagged=False)).picture
