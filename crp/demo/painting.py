"""How scenes are painted: backgrounds, shapes, textures and light, on canvases of float32 `[H, W, 3]` in 0..1.

Edges are anti-aliased by signed distances in pixels.
"""

from __future__ import annotations

from functools import cache
from types import MappingProxyType
from typing import Protocol

import numpy as np

SIZE = 96
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


class Appearance(Protocol):
    """What `paint_object` needs to know: lengths in pixels, angles in radians."""

    shape: str
    texture: str
    colour: str
    centre: tuple[float, float]
    radius: float
    angle: float
    texture_angle: float
    period: float


def paint_object(canvas: np.ndarray, look: Appearance) -> tuple[np.ndarray, np.ndarray]:
    """Paint an object with its shadow on a canvas, float32 `[H, W, 3]` in 0..1.

    Returns
    -------
    tuple of numpy.ndarray
        The fraction of each pixel that is inside the object, and that its texture's marks cover, float32 `[H, W]`.
    """
    rows, columns = pixel_grid()
    y, x = rows - np.float32(look.centre[0]), columns - np.float32(look.centre[1])
    distance = shape_distance(look.shape, y, x, look.radius, look.angle)
    shadow = shape_distance(look.shape, y - 4, x - 3, look.radius, look.angle)
    blend(canvas, SHADOW_COLOUR, 0.42 * np.square(np.clip(1 - (shadow + 3) / 9, 0, 1)))

    inside = coverage(distance)
    marks = coverage(texture_distance(look.texture, y, x, look.texture_angle, look.period))
    body = np.empty_like(canvas)
    body[:] = COLOURS[look.colour]
    blend(body, MARK_COLOUR, marks)
    # lit from the upper left, with a dark rim of two pixels
    shade = 1 - np.float32(0.17 / look.radius) * (0.8 * y + 0.6 * x) - 0.28 * coverage(-distance - 2)
    body *= shade[..., None]
    canvas += inside[..., None] * (body - canvas)
    return inside, marks


def finished(canvas: np.ndarray, light: float, rng: np.random.Generator) -> np.ndarray:
    """Light a canvas from the middle, add grain, and return the picture, uint8 `[H, W, 3]`."""
    vignette, _ = lens()
    canvas *= (np.float32(light) * vignette)[..., None]
    canvas += rng.standard_normal((SIZE, SIZE, 1), dtype=np.float32) * np.float32(0.012)
    np.clip(canvas, 0, 1, out=canvas)
    return (canvas * 255 + 0.5).astype(np.uint8)


def coverage(distance: np.ndarray) -> np.ndarray:
    """Compute the fraction of a pixel that is inside, from the signed distance to the edge in pixels."""
    return np.clip(0.5 - distance, 0, 1)


def blend(canvas: np.ndarray, colour: tuple[float, float, float], alpha: np.ndarray) -> None:
    """Blend a colour into a canvas, in place; alpha is `[H, W]`, 0..1."""
    canvas += alpha[..., None] * (np.asarray(colour, dtype=np.float32) - canvas)


@cache
def pixel_grid() -> tuple[np.ndarray, np.ndarray]:
    """Return the pixel centres (rows `[H, 1]`, columns `[1, W]`)."""
    centres = np.arange(SIZE, dtype=np.float32) + np.float32(0.5)
    return centres[:, None], centres[None, :]


@cache
def lens() -> tuple[np.ndarray, np.ndarray]:
    """Return the vignette factor `[H, W]` and the offsets from the centre, -0.5..0.5, `[2, H, W]`."""
    rows, columns = pixel_grid()
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


def shape_distance(shape: str, y: np.ndarray, x: np.ndarray, radius: float, angle: float) -> np.ndarray:
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


def texture_distance(kind: str, y: np.ndarray, x: np.ndarray, angle: float, period: float) -> np.ndarray:
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


def background_field(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Draw a background, float32 `[H, W, 3]` in 0..1: a field between 0 and 1 blends two tones."""
    pairs = TONES[kind]
    first, second = np.asarray(pairs[rng.integers(len(pairs))], dtype=np.float32)
    field = _FIELDS[kind](rng).astype(np.float32)
    return first + field[..., None] * (second - first)


def _ramp(rng: np.random.Generator) -> np.ndarray:
    _, (y, x) = lens()
    angle = rng.uniform(-0.6, 0.6)
    return 0.5 + 0.9 * (y * np.float32(np.cos(angle)) + x * np.float32(np.sin(angle)))


def _dusk(rng: np.random.Generator) -> np.ndarray:
    """Draw a sky with two ranges of hills in front of it."""
    rows, columns = pixel_grid()
    field = 0.55 * _ramp(rng)
    for height, darkness in ((0.62, 0.22), (0.80, 0.24)):
        phase, length = rng.uniform(0, 2 * np.pi), rng.uniform(28, 44)
        ridge = SIZE * (height + 0.05 * np.sin(columns / length * 2 * np.pi + phase))
        field = field + darkness * coverage(ridge - rows)
    return field


def _grass(rng: np.random.Generator) -> np.ndarray:
    """Draw vertical streaks: noise averaged over nine rows."""
    total = np.cumsum(rng.standard_normal((SIZE + 9, SIZE), dtype=np.float32), axis=0)
    return np.clip(0.5 * _ramp(rng) + 0.25 + 0.075 * (total[9:] - total[:-9]), 0, 1)


def _tiles(rng: np.random.Generator) -> np.ndarray:
    """Draw square tiles with joints, rotated."""
    rows, columns = pixel_grid()
    angle, period = rng.uniform(0, np.pi / 2), np.float32(rng.uniform(15, 19))
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = columns * cosine + rows * sine, rows * cosine - columns * sine
    parity = (np.floor(u / period + 0.5) + np.floor(v / period + 0.5)) % 2
    joints = period / 2 - np.maximum(_nearest_mark(u, period), _nearest_mark(v, period))
    return 0.30 * _ramp(rng) + 0.30 * parity + 0.5 * coverage(joints - 0.4)


def _waves(rng: np.random.Generator) -> np.ndarray:
    rows, columns = pixel_grid()
    length, phase, period = rng.uniform(24, 36), rng.uniform(0, 2 * np.pi), rng.uniform(12, 16)
    lifted = rows + np.float32(3.2) * np.sin(columns * np.float32(2 * np.pi / length) + np.float32(phase))
    crest = np.mod(lifted / np.float32(period), 1)
    return 0.45 * _ramp(rng) + 0.5 * crest * crest


def _lights(rng: np.random.Generator) -> np.ndarray:
    """Draw lights out of focus."""
    rows, columns = pixel_grid()
    field = 0.35 * _ramp(rng)
    lights = rng.uniform((0, 0, 6, 0.15), (SIZE, SIZE, 15, 0.5), size=(9, 4)).astype(np.float32)
    for top, left, radius, strength in lights:
        away = np.hypot(rows - top, columns - left) - radius
        field = field + strength * np.clip(0.5 - away / 3, 0, 1)
    return field


_FIELDS = {"dusk": _dusk, "grass": _grass, "tiles": _tiles, "waves": _waves, "lights": _lights}
