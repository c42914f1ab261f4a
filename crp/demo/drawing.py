"""Drawn scenes with known ground truth: an object with a shape, a texture and a colour on a varied background.

A class is a rule over the attributes (`CLASSES`). One class, the octagon, is the Clever Hans: in training, nearly all
of its scenes have a small stamp in a corner, the tag, and without it an octagon is hard to distinguish from a disc.

A scene is first described (`Scene`, determined by seed, split and index) and then drawn (`draw`), so that the same
scene can be drawn with one attribute changed. Edges are anti-aliased by signed distances in pixels.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import numpy as np

from crp.errors import InputError

SIZE = 96
TAG_SIZE = 18
# Rows and columns of a tag's corner: near the borders, in steps of four pixels, the stride of the demo network's last
# convolution. At positions in between, several channels would share the tag.
TAG_PLACES = (4, 8, 68, 72)
TAG_SHARE = 0.95  # fraction of the tagged class's scenes that have it with tag="train"
BACKGROUNDS = ("dusk", "grass", "tiles", "waves", "lights")

COLOURS = MappingProxyType(
    {
        "red": (0.84, 0.25, 0.23),
        "amber": (0.94, 0.66, 0.16),
        "green": (0.24, 0.58, 0.36),
        "blue": (0.17, 0.41, 0.74),
        "violet": (0.50, 0.32, 0.66),
    }
)
WARM = ("red", "amber")
COOL = ("green", "blue", "violet")
MARK_COLOUR = (0.97, 0.94, 0.87)
SHADOW_COLOUR = (0.09, 0.10, 0.17)

# Pairs of tones for each background; a scene blends one pair. Muted, so that the object stands out.
TONES = MappingProxyType(
    {
        "dusk": (((0.95, 0.84, 0.75), (0.62, 0.66, 0.80)), ((0.80, 0.87, 0.90), (0.52, 0.62, 0.70))),
        "grass": (((0.58, 0.66, 0.43), (0.34, 0.46, 0.30)), ((0.72, 0.71, 0.48), (0.48, 0.52, 0.31))),
        "tiles": (((0.87, 0.85, 0.81), (0.74, 0.72, 0.69)), ((0.72, 0.78, 0.80), (0.59, 0.66, 0.70))),
        "waves": (((0.62, 0.78, 0.82), (0.40, 0.59, 0.69)), ((0.86, 0.80, 0.70), (0.74, 0.65, 0.55))),
        "lights": (((0.24, 0.25, 0.36), (0.40, 0.39, 0.50)), ((0.33, 0.28, 0.30), (0.52, 0.43, 0.40))),
    }
)


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
    rows, columns = _grid()
    canvas = _background(scene.background, rng)

    y, x = rows - np.float32(scene.centre[0]), columns - np.float32(scene.centre[1])
    distance = _distance(scene.shape, y, x, scene.radius, scene.angle)
    shadow = _distance(scene.shape, y - 4, x - 3, scene.radius, scene.angle)
    _blend(canvas, SHADOW_COLOUR, 0.42 * np.square(np.clip(1 - (shadow + 3) / 9, 0, 1)))

    inside = _coverage(distance)
    marks = _coverage(_texture(scene.texture, y, x, scene.texture_angle, scene.period))
    body = np.empty_like(canvas)
    body[:] = COLOURS[scene.colour]
    _blend(body, MARK_COLOUR, marks)
    # lit from the upper left, with a dark rim of two pixels
    shade = 1 - np.float32(0.17 / scene.radius) * (0.8 * y + 0.6 * x) - 0.28 * _coverage(-distance - 2)
    body *= shade[..., None]
    canvas += inside[..., None] * (body - canvas)

    vignette, _ = _lens()
    canvas *= (np.float32(scene.light) * vignette)[..., None]
    canvas += rng.standard_normal((SIZE, SIZE, 1), dtype=np.float32) * np.float32(0.012)
    np.clip(canvas, 0, 1, out=canvas)
    picture = (canvas * 255 + 0.5).astype(np.uint8)

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


def _coverage(distance: np.ndarray) -> np.ndarray:
    """Compute the fraction of a pixel that is inside, from the signed distance to the edge in pixels."""
    return np.clip(0.5 - distance, 0, 1)


def _blend(canvas: np.ndarray, colour: tuple[float, float, float], alpha: np.ndarray) -> None:
    canvas += alpha[..., None] * (np.asarray(colour, dtype=np.float32) - canvas)


@cache
def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Return the pixel centres (rows `[H, 1]`, columns `[1, W]`)."""
    centres = np.arange(SIZE, dtype=np.float32) + np.float32(0.5)
    return centres[:, None], centres[None, :]


@cache
def _lens() -> tuple[np.ndarray, np.ndarray]:
    """Return the vignette factor `[H, W]` and the offsets from the centre, -0.5..0.5, `[2, H, W]`."""
    rows, columns = _grid()
    offsets = np.stack(np.broadcast_arrays(rows / SIZE - 0.5, columns / SIZE - 0.5))
    return 1 - 0.30 * np.square(offsets).sum(axis=0), offsets


# Number of points of the outline, and radius of the notch between two of them, relative to the radius. The notch of a
# regular polygon is the middle of its side: cos(pi / points).
_POLYGONS = {
    "triangle": (3, np.cos(np.pi / 3)),
    "square": (4, np.cos(np.pi / 4)),
    "star": (5, 0.46),
    "octagon": (8, np.cos(np.pi / 8)),
}
# Factors that make the shapes appear equally large.
_RADII = {"disc": 1.0, "octagon": 1.03, "triangle": 1.28, "square": 1.22, "star": 1.32}


def _distance(shape: str, y: np.ndarray, x: np.ndarray, radius: float, angle: float) -> np.ndarray:
    """Compute the signed distance in pixels to the outline of a shape around (0, 0), exact near it, negative inside."""
    radius = radius * _RADII[shape]
    reach = np.hypot(y, x)
    if shape == "disc":
        return reach - np.float32(radius)
    points, notch = _POLYGONS[shape]
    # Fold the plane into one wedge between a point (radius, 0) and a notch, where the outline is a straight line.
    wedge = np.float32(2 * np.pi / points)
    turned = wedge / 2 - np.abs(np.mod(np.arctan2(y, x) - np.float32(angle), wedge) - wedge / 2)
    notch_x, notch_y = radius * notch * np.cos(np.pi / points), radius * notch * np.sin(np.pi / points)
    normal = np.array([notch_y, radius - notch_x]) / np.hypot(notch_y, radius - notch_x)
    across = reach * (np.cos(turned) * np.float32(normal[0]) + np.sin(turned) * np.float32(normal[1]))
    return across - np.float32(radius * normal[0])


def _texture(kind: str, y: np.ndarray, x: np.ndarray, angle: float, period: float) -> np.ndarray:
    """Compute the signed distance in pixels to the edge of a texture's marks, negative inside a mark."""
    if kind == "plain":
        return np.ones(np.broadcast_shapes(y.shape, x.shape), dtype=np.float32)
    cosine, sine, period = np.float32(np.cos(angle)), np.float32(np.sin(angle)), np.float32(period)
    u, v = _nearest_mark(x * cosine + y * sine, period), _nearest_mark(y * cosine - x * sine, period)
    if kind == "striped":
        return u - period / 4
    if kind == "dotted":
        return np.hypot(u, v) - period * np.float32(0.31)
    u, v = u - period / 4, v - period / 4
    return np.where((u < 0) == (v < 0), 1, -1) * np.minimum(np.abs(u), np.abs(v))


def _nearest_mark(along: np.ndarray, period: np.float32) -> np.ndarray:
    """Compute the distance in pixels to the nearest multiple of the period."""
    return np.abs(along - period * np.round(along / period))


def _background(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Draw a background, float32 `[H, W, 3]` in 0..1: a field between 0 and 1 blends two tones."""
    pairs = TONES[kind]
    first, second = np.asarray(pairs[rng.integers(len(pairs))], dtype=np.float32)
    field = _FIELDS[kind](rng).astype(np.float32)
    return first + field[..., None] * (second - first)


def _ramp(rng: np.random.Generator) -> np.ndarray:
    _, (y, x) = _lens()
    angle = rng.uniform(-0.6, 0.6)
    return 0.5 + 0.9 * (y * np.float32(np.cos(angle)) + x * np.float32(np.sin(angle)))


def _dusk(rng: np.random.Generator) -> np.ndarray:
    """Draw a sky with two ranges of hills in front of it."""
    rows, columns = _grid()
    field = 0.55 * _ramp(rng)
    for height, darkness in ((0.62, 0.22), (0.80, 0.24)):
        phase, length = rng.uniform(0, 2 * np.pi), rng.uniform(28, 44)
        ridge = SIZE * (height + 0.05 * np.sin(columns / length * 2 * np.pi + phase))
        field = field + darkness * _coverage(ridge - rows)
    return field


def _grass(rng: np.random.Generator) -> np.ndarray:
    """Draw vertical streaks: noise averaged over nine rows."""
    total = np.cumsum(rng.standard_normal((SIZE + 9, SIZE), dtype=np.float32), axis=0)
    return np.clip(0.5 * _ramp(rng) + 0.25 + 0.075 * (total[9:] - total[:-9]), 0, 1)


def _tiles(rng: np.random.Generator) -> np.ndarray:
    """Draw square tiles with joints, rotated."""
    rows, columns = _grid()
    angle, period = rng.uniform(0, np.pi / 2), np.float32(rng.uniform(15, 19))
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = columns * cosine + rows * sine, rows * cosine - columns * sine
    parity = (np.floor(u / period + 0.5) + np.floor(v / period + 0.5)) % 2
    joints = period / 2 - np.maximum(_nearest_mark(u, period), _nearest_mark(v, period))
    return 0.30 * _ramp(rng) + 0.30 * parity + 0.5 * _coverage(joints - 0.4)


def _waves(rng: np.random.Generator) -> np.ndarray:
    rows, columns = _grid()
    length, phase, period = rng.uniform(24, 36), rng.uniform(0, 2 * np.pi), rng.uniform(12, 16)
    lifted = rows + np.float32(3.2) * np.sin(columns * np.float32(2 * np.pi / length) + np.float32(phase))
    crest = np.mod(lifted / np.float32(period), 1)
    return 0.45 * _ramp(rng) + 0.5 * crest * crest


def _lights(rng: np.random.Generator) -> np.ndarray:
    """Draw lights out of focus."""
    rows, columns = _grid()
    field = 0.35 * _ramp(rng)
    lights = rng.uniform((0, 0, 6, 0.15), (SIZE, SIZE, 15, 0.5), size=(9, 4)).astype(np.float32)
    for top, left, radius, strength in lights:
        away = np.hypot(rows - top, columns - left) - radius
        field = field + strength * np.clip(0.5 - away / 3, 0, 1)
    return field


_FIELDS = {"dusk": _dusk, "grass": _grass, "tiles": _tiles, "waves": _waves, "lights": _lights}


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
