"""Scenes with two or three objects, for segmentation and detection, with the ground truth of each object.

Every object has a class, a silhouette and a box. One class, the octagon, stands on a hatched patch of ground in nearly
all of its training scenes, and nothing else does. Without its patch an octagon is hard to tell from a dotted disc, so a
model learns the ground beside the object: a shortcut that lies outside of the mask.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import torch

from crp.preprocessing import Preprocessing

from .painting import (
    BACKGROUNDS,
    SIZE,
    background_field,
    blend,
    coverage,
    finished,
    paint_object,
    pixel_grid,
    texture_distance,
)
from .splits import check_request

PATCH_SHARE = 0.95  # fraction of the octagons that stand on a patch with patch="train"
PATCH_RADIUS = 22  # half the side of a patch, in pixels
_PATCH_TONES = ((0.13, 0.14, 0.17), (0.93, 0.90, 0.80))
_PATCH_PERIOD = 5.0
# Objects stand in different quarters of the picture, so that they and their patches do not overlap.
_QUARTERS = ((24, 24), (24, 72), (72, 24), (72, 72))

_ANY = ("amber", "green", "blue", "violet")


@dataclass(frozen=True)
class Kind:
    """A class of objects: its shape, texture and colours."""

    name: str
    shape: str
    texture: str
    colours: tuple[str, ...]


# The class of an object is its place here plus 1; class 0 is the background.
KINDS = (
    Kind("striped disc", "disc", "striped", _ANY),
    Kind("dotted disc", "disc", "dotted", _ANY),
    Kind("checked square", "square", "checked", _ANY),
    Kind("red disc", "disc", "plain", ("red",)),
    Kind("blue square", "square", "plain", ("blue",)),
    Kind("octagon", "octagon", "dotted", _ANY),
)
OCTAGON = 6


@dataclass(frozen=True)
class SceneObject:
    """One object of a scene; `centre`, `radius` and `period` are in pixels, angles in radians."""

    label: int
    shape: str
    texture: str
    colour: str
    centre: tuple[float, float]
    radius: float
    angle: float
    texture_angle: float
    period: float
    on_patch: bool


@dataclass(frozen=True)
class ObjectScene:
    """The description of a scene with several objects. `noise` is the seed of background and grain."""

    objects: tuple[SceneObject, ...]
    background: str
    light: float
    noise: tuple[int, ...]


class ObjectScenes:
    """Map-style data set: `scenes[i]` is (float32 tensor `[3, 96, 96]` after `preprocessing`, classes of its objects).

    A scene depends only on (seed, split, i), and is drawn on access. Its objects have different classes.

    Parameters
    ----------
    split
        "train" or "test"; they have no scene in common.
    count
        Number of scenes, at least 1.
    seed
        Seed of the scenes, not negative.
    patch
        "train" for a patch below `PATCH_SHARE` of the octagons, "always" below all of them, "never" below none. The
        scenes are otherwise the same.

    Raises
    ------
    InputError
        If there is no such split or patch mode, the count is below 1, or the seed is negative.

    Examples
    --------
    >>> scenes = ObjectScenes("test", 3)
    >>> [scenes.class_names[each.label] for each in scenes.scene(0).objects]
    ['blue square', 'striped disc']
    >>> scenes.masks(0).shape, scenes.boxes(0)[0]
    ((2, 96, 96), (57, 9, 85, 37))
    """

    class_names = ("background", *(kind.name for kind in KINDS))
    preprocessing = Preprocessing(mean=0.5, std=0.25)

    def __init__(self, split: str, count: int, *, seed: int = 0, patch: str = "train") -> None:
        check_request("scenes", split, count, seed, ("patch mode", patch))
        self.split = split
        self.count = count
        self.seed = seed
        self.patch = patch

    def __len__(self) -> int:
        """Return the number of scenes."""
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, tuple[int, ...]]:
        """Return the input of scene `index` and the classes of its objects."""
        scene = self.scene(index)
        return self.preprocessing.to_input(_drawn(scene)[0]), tuple(each.label for each in scene.objects)

    def scene(self, index: int) -> ObjectScene:
        """Describe scene `index`."""
        if not 0 <= index < self.count:
            # an IndexError, because it ends Python's loops over a map-style data set
            raise IndexError(f"There is no scene {index}; there are {self.count}, from 0 to {self.count - 1}.")
        return _described(self.seed, self.split, index, self.patch)

    def picture(self, index: int) -> np.ndarray:
        """Draw scene `index` as uint8 `[H, W, 3]`."""
        return _drawn(self.scene(index))[0]

    def masks(self, index: int) -> np.ndarray:
        """Return the silhouette of each object of scene `index`, without its patch, bool `[objects, H, W]`."""
        return _drawn(self.scene(index))[1]

    def label_map(self, index: int) -> np.ndarray:
        """Return the class of each pixel of scene `index`, int64 `[H, W]`; 0 is the background."""
        labels = np.zeros((SIZE, SIZE), dtype=np.int64)
        for each, mask in zip(self.scene(index).objects, self.masks(index), strict=True):
            labels[mask] = each.label
        return labels

    def boxes(self, index: int) -> list[tuple[int, int, int, int]]:
        """Return (left, top, right, bottom) of each object of scene `index`, the last two exclusive, in pixels."""
        found = []
        for mask in self.masks(index):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            found.append((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
        return found

    def sample_name(self, index: int) -> str:
        """Return the name of a sample."""
        return f"scene {index}"


def _described(seed: int, split: str, index: int, patch: str) -> ObjectScene:
    """Describe a scene; only `on_patch` depends on `patch`."""
    noise = (seed, zlib.crc32(split.encode()), index, 2)
    rng = np.random.default_rng(noise)
    count = int(rng.integers(2, 4))
    # Octagons are twice as frequent as other objects: with a patch and, to be told apart by it, without.
    first = OCTAGON if rng.random() < 0.3 else int(rng.integers(1, len(KINDS) + 1))
    others = [label for label in rng.permutation(len(KINDS)) + 1 if label != first]
    quarters = rng.permutation(len(_QUARTERS))
    objects = []
    for label, quarter in zip([first, *others[: count - 1]], quarters, strict=False):
        kind = KINDS[int(label) - 1]
        centre = np.array(_QUARTERS[quarter]) + rng.uniform(-2, 2, size=2)
        usual = label == OCTAGON and rng.random() < PATCH_SHARE
        objects.append(
            SceneObject(
                label=int(label),
                shape=kind.shape,
                texture=kind.texture,
                colour=kind.colours[rng.integers(len(kind.colours))],
                centre=(float(centre[0]), float(centre[1])),
                radius=float(rng.uniform(12.5, 14.5)),
                angle=float(rng.uniform(0, 2 * np.pi)),
                texture_angle=float(rng.uniform(0, np.pi)),
                period=float(rng.uniform(6, 7)),
                on_patch={"train": bool(usual), "always": label == OCTAGON, "never": False}[patch],
            )
        )
    background = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    return ObjectScene(tuple(objects), background, float(rng.uniform(0.9, 1.06)), noise)


def _drawn(scene: ObjectScene) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene: its picture, uint8 `[H, W, 3]`, and the silhouettes of its objects, bool `[objects, H, W]`."""
    rng = np.random.default_rng((*scene.noise, 1))
    canvas = background_field(scene.background, rng)
    masks = []
    for each in scene.objects:
        if each.on_patch:
            _paint_patch(canvas, each)
        inside, _ = paint_object(canvas, each)
        masks.append(inside >= 0.5)
    return finished(canvas, scene.light, rng), np.stack(masks)


def _paint_patch(canvas: np.ndarray, each: SceneObject) -> None:
    """Paint a hatched square below an object."""
    rows, columns = pixel_grid()
    y, x = rows - np.float32(each.centre[0]), columns - np.float32(each.centre[1])
    inside = coverage(np.maximum(np.abs(y), np.abs(x)) - PATCH_RADIUS)
    dark, light = _PATCH_TONES
    blend(canvas, dark, inside)
    blend(canvas, light, inside * coverage(texture_distance("striped", y, x, np.pi / 4, _PATCH_PERIOD)))
