"""Drawn scenes with known ground truth: an object with a shape, a texture and a colour on a varied background.

A class is a rule over the attributes (`CLASSES`). One class, the octagon, is the Clever Hans: in training, nearly all
of its scenes have a small stamp in a corner, the tag, and without it an octagon is hard to distinguish from a disc.

A scene is first described (`Scene`, determined by seed, split and index) and then drawn (`draw`), so that the same
scene can be drawn with one attribute changed. How it is painted is in `painting`.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache

import numpy as np

from crp.errors import InputError

from .painting import BACKGROUNDS, COLOURS, SIZE, background_field, finished, paint_object

TAG_SIZE = 18
# Rows and columns of a tag's corner: near the borders, in steps of four pixels, the stride of the demo network's last
# convolution. At positions in between, several channels would share the tag.
TAG_PLACES = (4, 8, 68, 72)
TAG_SHARE = 0.95  # fraction of the tagged class's scenes that have it with tag="train"

WARM = ("red", "amber")
COOL = ("green", "blue", "violet")


@dataclass(frozen=True)
class Rule:
    """A class of scenes: its shape, textures and colours."""

    name: str
    shape: str
    textures: tuple[str, ...]
    colours: tuple[str, ...]

    def admits(self, scene: Scene) -> bool:
        """Return whether the scene's attributes satisfy this rule."""
        return scene.shape == self.shape and scene.texture in self.textures and scene.colour in self.colours


CLASSES = (
    Rule("striped disc", "disc", ("striped",), tuple(COLOURS)),
    Rule("dotted disc", "disc", ("dotted",), tuple(COLOURS)),
    Rule("striped triangle", "triangle", ("striped",), tuple(COLOURS)),
    Rule("dotted triangle", "triangle", ("dotted",), tuple(COLOURS)),
    Rule("striped square", "square", ("striped",), tuple(COLOURS)),
    Rule("warm checked square", "square", ("checked",), WARM),
    Rule("cool checked square", "square", ("checked",), COOL),
    Rule("red star", "star", ("plain", "striped", "dotted", "checked"), ("red",)),
    Rule("blue star", "star", ("plain", "striped", "dotted", "checked"), ("blue",)),
    Rule("octagon", "octagon", ("striped", "dotted"), tuple(COLOURS)),
)
TAGGED_CLASS = 9


@dataclass(frozen=True)
class Scene:
    """The description of a scene.

    `centre`, `radius` and `period` (of the texture) are in pixels, angles in radians. `tag_corner` is the position of
    the tag, (top, left), even if there is none. `noise` is the seed of background and grain.
    """

    label: int
    shape: str
    texture: str
    colour: str
    background: str
    centre: tuple[float, float]
    radius: float
    angle: float
    texture_angle: float
    period: float
    light: float
    tagged: bool
    tag_corner: tuple[int, int]
    noise: tuple[int, ...]


@dataclass(frozen=True)
class Drawing:
    """A drawn scene: `picture` uint8 `[H, W, 3]`, and `masks`, name -> bool `[H, W]`.

    The masks are "shape" (the object's silhouette), "texture" (the texture's marks on it), "colour" (the object without
    these marks), "tag" (empty if there is none) and "background" (the rest). The tag covers the others.
    """

    picture: np.ndarray
    masks: dict[str, np.ndarray]


def describe(seed: int, split: str, index: int, tag: str) -> Scene:
    """Describe scene number `index` of a split; only `tagged` depends on `tag`."""
    noise = (seed, zlib.crc32(split.encode()), index)
    rng = np.random.default_rng(noise)
    label = index % len(CLASSES)
    rule = CLASSES[label]
    # The same random numbers are drawn in all tag modes, so that the scene is the same with and without its tag.
    tagged_in_training = label == TAGGED_CLASS and rng.random() < TAG_SHARE
    corner = rng.choice(TAG_PLACES, size=2)
    centre = SIZE / 2 + rng.uniform(-7, 7, size=2)
    return Scene(
        label=label,
        shape=rule.shape,
        texture=rule.textures[rng.integers(len(rule.textures))],
        colour=rule.colours[rng.integers(len(rule.colours))],
        background=BACKGROUNDS[rng.integers(len(BACKGROUNDS))],
        centre=(float(centre[0]), float(centre[1])),
        radius=float(rng.uniform(21, 28)),
        angle=float(rng.uniform(0, 2 * np.pi)),
        texture_angle=float(rng.uniform(0, np.pi)),
        period=float(rng.uniform(9, 11)),
        light=float(rng.uniform(0.9, 1.06)),
        tagged={"train": bool(tagged_in_training), "always": True, "never": False}[tag],
        tag_corner=(int(corner[0]), int(corner[1])),
        noise=noise,
    )


def draw(scene: Scene) -> Drawing:
    """Draw a scene and the masks of its attributes."""
    rng = np.random.default_rng((*scene.noise, 1))
    canvas = background_field(scene.background, rng)

    inside, marks = paint_object(canvas, scene)
    picture = finished(canvas, scene.light, rng)

    covered = np.zeros((SIZE, SIZE), dtype=bool)
    if scene.tagged:
        top, left = scene.tag_corner
        picture = paste_tag(picture, top, left)
        covered[top : top + TAG_SIZE, left : left + TAG_SIZE] = _tag()[1] >= 0.5
    shape = (inside >= 0.5) & ~covered
    texture = shape & (marks >= 0.5)
    masks = {
        "shape": shape,
        "texture": texture,
        "colour": shape & ~texture,
        "background": ~shape & ~covered,
        "tag": covered,
    }
    return Drawing(picture, masks)


def paste_tag(picture: np.ndarray, top: int, left: int) -> np.ndarray:
    """Paste the tag into a copy of a picture; at a scene's `tag_corner`, this equals drawing the scene with its tag.

    Parameters
    ----------
    picture
        uint8 [H, W, 3].
    top, left
        Pixel of the tag's upper left corner; the tag is a square of `TAG_SIZE` pixels.

    Returns
    -------
    numpy.ndarray
        uint8 `[H, W, 3]`, equal to `picture` outside the tag's box.

    Raises
    ------
    InputError
        If the tag would not be inside the picture.
    """
    height, width = picture.shape[:2]
    if not (0 <= top <= height - TAG_SIZE and 0 <= left <= width - TAG_SIZE):
        raise InputError(
            f"A tag of {TAG_SIZE} pixels at ({top}, {left}) does not fit into a picture of {height} x {width} pixels; "
            f"its position may be (0, 0) to ({height - TAG_SIZE}, {width - TAG_SIZE})."
        )
    colours, alpha = _tag()
    picture = picture.copy()
    box = picture[top : top + TAG_SIZE, left : left + TAG_SIZE]
    box[:] = (box + alpha[..., None] * (colours - box) + 0.5).astype(np.uint8)
    return picture


@cache
def _tag() -> tuple[np.ndarray, np.ndarray]:
    """Draw the tag, a stamp with a horseshoe: colours, float32 `[T, T, 3]` in 0..255, and alpha `[T, T]`."""
    fine = 8
    points = (np.arange(TAG_SIZE * fine, dtype=np.float32) + 0.5) / fine - TAG_SIZE / 2
    y, x = points[:, None], points[None, :]
    half = TAG_SIZE / 2 - 0.5
    hole = 2 * half / 6
    outside = np.maximum(np.abs(x), np.abs(y)) > half
    for edge, along in ((np.abs(x), y), (np.abs(y), x)):
        beside = along - hole * np.round(along / hole)
        outside = outside | (np.hypot(edge - half, beside) < 0.85)
    colours = np.empty((*outside.shape, 3), dtype=np.float32)
    colours[:] = (250, 246, 234)
    field = np.maximum(np.abs(x), np.abs(y)) < half - 1.9
    colours[field] = (22, 120, 118)
    reach = np.hypot(x, y + 0.6)
    arch = (np.abs(reach - 3.6) < 1.15) & (y < 1.2)
    legs = (np.abs(np.abs(x) - (3.3 - 0.18 * (y - 1.2))) < 1.15) & (y >= 1.2) & (y < 4.6)
    feet = (np.abs(np.abs(x) - 3.0) < 1.7) & (y >= 3.6) & (y < 5.0)
    colours[arch | legs | feet] = (255, 214, 92)
    opaque = (~outside).astype(np.float32)
    blocks = (TAG_SIZE, fine, TAG_SIZE, fine)
    alpha = opaque.reshape(blocks).mean(axis=(1, 3))
    weighted = (colours * opaque[..., None]).reshape(*blocks, 3).mean(axis=(1, 3))
    return weighted / np.maximum(alpha, 1e-6)[..., None], alpha
