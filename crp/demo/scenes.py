"""The scenes as a data set, with the ground truth of each scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from crp.preprocessing import Preprocessing

from .drawing import CLASSES, TAG_SIZE, Drawing, Scene, describe, draw
from .splits import check_request


class Scenes:
    """Map-style data set: `scenes[i]` is (float32 tensor `[3, 96, 96]` after `preprocessing`, int label).

    A scene depends only on (seed, split, i), and is drawn on access. Scene i has the label i modulo 10.

    Parameters
    ----------
    split
        "train" or "test"; they have no scene in common.
    count
        Number of scenes, at least 1. A shorter data set consists of the first scenes of a longer one.
    seed
        Seed of the scenes, not negative.
    tag
        "train" for a tag in `TAG_SHARE` of the scenes of the tagged class and in no others, "always" for a tag in all
        scenes, "never" for none. The scenes are otherwise the same.

    Raises
    ------
    InputError
        If there is no such split or tag mode, the count is below 1, or the seed is negative.

    Examples
    --------
    >>> scenes = Scenes("test", 20)
    >>> scenes.class_names[scenes.scene(9).label], scenes.picture(9).shape
    ('octagon', (96, 96, 3))
    """

    class_names = tuple(rule.name for rule in CLASSES)
    preprocessing = Preprocessing(mean=0.5, std=0.25)

    def __init__(self, split: str, count: int, *, seed: int = 0, tag: str = "train") -> None:
        check_request("scenes", split, count, seed, ("tag mode", tag))
        self.split = split
        self.count = count
        self.seed = seed
        self.tag = tag

    def __len__(self) -> int:
        """Return the number of scenes."""
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Return input and label of scene `index`."""
        scene = self.scene(index)
        return self.preprocessing.to_input(draw(scene).picture), scene.label

    def scene(self, index: int) -> Scene:
        """Describe scene `index`: shape, texture, colour, background, positions and angles."""
        if not 0 <= index < self.count:
            # an IndexError, because it ends Python's loops over a map-style data set
            raise IndexError(f"There is no scene {index}; there are {self.count}, from 0 to {self.count - 1}.")
        return describe(self.seed, self.split, index, self.tag)

    def drawing(self, index: int) -> Drawing:
        """Draw scene `index`: picture and masks."""
        return draw(self.scene(index))

    def picture(self, index: int) -> np.ndarray:
        """Draw scene `index` as uint8 `[H, W, 3]`."""
        return self.drawing(index).picture

    def masks(self, index: int) -> dict[str, np.ndarray]:
        """Return where each attribute is visible, name -> bool `[H, W]`; see `Drawing`."""
        return self.drawing(index).masks

    def attributes(self) -> dict[str, list[str | bool]]:
        """Return what is known of all scenes, as columns: shape, texture, colour, background, and whether tagged."""
        scenes = [self.scene(index) for index in range(self.count)]
        names = ("shape", "texture", "colour", "background", "tagged")
        return {name: [getattr(scene, name) for scene in scenes] for name in names}

    def shown(self, index: int) -> np.ndarray:
        """Return where the object or the tag is visible, bool `[H, W]`."""
        masks = self.masks(index)
        return masks["shape"] | masks["tag"]

    def object_mask(self, index: int) -> np.ndarray:
        """Return where the object that the label names is visible, bool `[H, W]`: the shape alone, without the tag."""
        return self.masks(index)["shape"]

    def tag_box(self, index: int) -> tuple[int, int, int, int] | None:
        """Return (top, left, bottom, right) of the tag in pixels, the last two exclusive; None without a tag."""
        scene = self.scene(index)
        if not scene.tagged:
            return None
        top, left = scene.tag_corner
        return top, left, top + TAG_SIZE, left + TAG_SIZE

    def with_tag(self, index: int) -> np.ndarray:
        """Draw scene `index` with its tag, uint8 `[H, W, 3]`, even if the data set shows it without."""
        return draw(replace(self.scene(index), tagged=True)).picture

    def without_tag(self, index: int) -> np.ndarray:
        """Draw scene `index` without a tag, uint8 `[H, W, 3]`; all other pixels are identical."""
        return draw(replace(self.scene(index), tagged=False)).picture
