"""Signed data as colour, and pictures cut and fitted.

The colour map is zero-centred: white is zero, orange to brown is positive, blue is negative. Luminance falls strictly
with magnitude on both sides, so that magnitude survives a grey print and hue (blue against orange, apart for every
common colour blindness) carries the sign; pages and figures repeat the sign in words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

# sRGB at -1, -0.75 ... 1. Both ends are equally dark: neither sign looks stronger than the other.
_ANCHORS = (
    "#08306b", "#2166ac", "#5a9bd0", "#b3d2ea", "#ffffff", "#fdd3ad", "#f3924f", "#c9500f", "#6e2500",
)  # fmt: skip
LEVELS = 255
# A few extreme pixels would leave the rest of a heatmap white; what is beyond is drawn in the last colour and said to
# be.
CLIPPED_FRACTION = 0.002
# Inputs up to this side are shown pixel by pixel.
SMALL_SIDE = 96
# The power of a scale that heatmaps of different concepts share: a concept of a hundredth of the strongest one's
# relevance has a tenth of its colour.
ROOT = 0.5
# Weight of red, green and blue in the light of an sRGB colour (ITU-R BT.709).
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


def _table() -> np.ndarray:
    anchors = np.array([[int(code[i : i + 2], 16) for i in (1, 3, 5)] for code in _ANCHORS], dtype=np.float64)
    at = np.linspace(0, LEVELS - 1, len(anchors))
    table = np.stack([np.interp(np.arange(LEVELS), at, channel) for channel in anchors.T], axis=1)
    return table.round().astype(np.uint8)


DIVERGING = _table()
DIVERGING.flags.writeable = False
# What heatmaps on pages are drawn with: the same two hues, equally dark.
AGAINST_INK, FOR_INK = DIVERGING[round(0.09 * LEVELS)], DIVERGING[-1 - round(0.09 * LEVELS)]
_INKS = np.stack([FOR_INK, AGAINST_INK])


def luminance(colours: np.ndarray) -> np.ndarray:
    """Relative luminance (WCAG 2) of sRGB colours: uint8 [..., 3] -> float64 [...] in 0..1."""
    encoded = np.asarray(colours) / 255
    light = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return light @ LUMINANCE


def colour_limit(values: np.ndarray) -> float:
    """Find the magnitude at which colours saturate: all but `CLIPPED_FRACTION` of the values lie below it.

    Where that leaves nothing (nearly all values are zero), the largest magnitude; 0 for an all-zero array.
    """
    magnitude = np.abs(values)
    return float(np.quantile(magnitude, 1 - CLIPPED_FRACTION)) or float(magnitude.max())


def shared_limit(heatmaps: Sequence[np.ndarray]) -> float:
    """Find where the colours of heatmaps on one scale saturate: the largest `colour_limit`; 0 for none."""
    return max((colour_limit(heatmap) for heatmap in heatmaps), default=0.0)


def scaled(values: np.ndarray, limit: float | None = None, power: float = 1.0) -> np.ndarray:
    """Divide by `limit` (default: `colour_limit`) and clip: float [...] -> float64 [...] in -1..1, zero stays zero.

    Magnitudes are raised to `power`: `ROOT` lets strong and weak heatmaps share a scale and both be seen.
    """
    limit = colour_limit(values) if limit is None else limit
    if limit == 0:
        return np.zeros(np.shape(values))
    linear = np.clip(np.asarray(values, dtype=np.float64) / limit, -1, 1)
    return linear if power == 1 else np.sign(linear) * np.abs(linear) ** power


def colours(values: np.ndarray, limit: float | None = None, power: float = 1.0) -> np.ndarray:
    """Signed values as colour: float [...] -> uint8 [..., 3]; zero is white."""
    index = np.rint((scaled(values, limit, power) + 1) / 2 * (LEVELS - 1)).astype(np.intp)
    return DIVERGING[index]


def grey(values: np.ndarray) -> np.ndarray:
    """Values as grey, the smallest black and the largest white: float [c, *S] (mean over c) -> uint8 [*S, 3]."""
    mean = values.mean(axis=0, dtype=np.float64)
    low, high = mean.min(), mean.max()
    level = np.rint((mean - low) / (high - low or 1) * 255).astype(np.uint8)
    return np.broadcast_to(level[..., None], (*level.shape, 3))


def against(heatmap: np.ndarray, limit: float, side: int = 24) -> np.ndarray:
    """Where a heatmap speaks against what it explains, coarsely: for an outline, which says it in a grey print.

    heatmap: float [h, w]. Result: bool [rows, columns], at most `side` cells a side; true where the mean of a cell is
    below a twelfth of -`limit`: single grains are not meant.
    """
    rows, columns = (min(side, length) for length in heatmap.shape)
    coarse = Image.fromarray(heatmap.astype(np.float32)).resize((columns, rows), Image.Resampling.BOX)
    return np.asarray(coarse) < -limit / 12


def faded(picture: np.ndarray) -> np.ndarray:
    """Draw the picture in light grey, 130 to 255, as a ground for colour: uint8 [h, w, 3] -> uint8 [h, w, 3]."""
    grey = (picture @ LUMINANCE)[..., None]
    return np.broadcast_to(130 + grey * (125 / 255), picture.shape).round().astype(np.uint8)


def overlay(picture: np.ndarray, heatmap: np.ndarray, limit: float | None = None, power: float = 1.0) -> np.ndarray:
    """Draw a heatmap over the faded picture: where it is zero the picture shows, where it saturates the colour does.

    picture: uint8 [h, w, 3]; heatmap: float [h, w]; result: uint8 [h, w, 3].
    """
    # The square root keeps weak relevance visible over the grey; the colour itself has no more than its own power.
    opacity = np.sqrt(np.abs(scaled(heatmap, limit, power)))[..., None]
    return (faded(picture) * (1 - opacity) + colours(heatmap, limit, power) * opacity).round().astype(np.uint8)


def tinted(picture: np.ndarray, heatmap: np.ndarray, limit: float | None = None) -> np.ndarray:
    """Draw a heatmap in two inks over the faded picture, as opaque as the root of its magnitude.

    Magnitude is opacity alone, so a heatmap drawn up to its own limit and shown at an opacity of `fade(own, limit)` is
    the same heatmap drawn up to `limit`: pages switch between scales without a second picture.

    Parameters
    ----------
    picture
        uint8 [H, W, 3].
    heatmap
        float [H, W].
    limit
        Magnitude at which the ink is opaque, by default `colour_limit(heatmap)`.

    Returns
    -------
    ndarray
        uint8 [H, W, 3].
    """
    values = scaled(heatmap, limit, ROOT)[..., None]
    opacity = np.abs(values)
    return (faded(picture) * (1 - opacity) + inks(np.sign(values[..., 0])) * opacity).round().astype(np.uint8)


def fade(own: float, limit: float) -> float:
    """Opacity, 0..1, at which a heatmap tinted up to `own` shows what it holds on a scale that ends at `limit`."""
    return min(1.0, own / limit) ** ROOT if limit else 1.0


def inks(signs: np.ndarray) -> np.ndarray:
    """Return the colour of each sign: float [...] -> uint8 [..., 3]; that of positive values for zero."""
    return _INKS.take((signs < 0).astype(np.intp), axis=0)


def veil(heatmap: np.ndarray, side: int = 10) -> np.ndarray:
    """How much of a patch to hide: 1 where its concept has no relevance, 0 where it has much.

    heatmap: float [h, w] in -1..1. The magnitude is averaged over a coarse grid of at most `side` cells a side, because
    relevance at single pixels is grainy. Result: float64 [rows, columns] in 0..1, to be drawn smoothly over the patch.
    """
    rows, columns = (min(side, length) for length in heatmap.shape)
    coarse = Image.fromarray(np.abs(heatmap).astype(np.float32)).resize((columns, rows), Image.Resampling.BOX)
    # Half a cell of blur joins grains that belong together.
    strength = _blurred(np.asarray(coarse, dtype=np.float64))
    ceiling = float(np.quantile(strength, 0.9)) or float(strength.max())
    if ceiling == 0:
        return np.zeros_like(strength)
    return 1 - np.sqrt(np.clip(strength / ceiling, 0, 1))


def _blurred(values: np.ndarray) -> np.ndarray:
    for axis in (0, 1):
        padded = np.pad(values, [(1, 1) if axis == i else (0, 0) for i in (0, 1)], mode="edge")
        length = values.shape[axis]
        left, middle, right = (np.take(padded, range(i, i + length), axis=axis) for i in (0, 1, 2))
        values = (left + 2 * middle + right) / 4
    return values


def veiled(picture: np.ndarray, heatmap: np.ndarray, strength: float = 0.8) -> np.ndarray:
    """Wash out what the concept of a patch gives no relevance: uint8 [h, w, 3], float [h, w] -> uint8 [h, w, 3]."""
    height, width = heatmap.shape
    cover = Image.fromarray(veil(heatmap).astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    cover = np.clip(np.asarray(cover), 0, 1)[..., None] * strength
    return (picture * (1 - cover) + 255 * cover).round().astype(np.uint8)


def contour(mask: np.ndarray) -> np.ndarray:
    """Find the edges between cells that are in the mask and cells that are not, the border of the array included.

    mask: bool [rows, columns]. Result: int64 [edges, 2, 2], each edge as ((row, column), (row, column)) of its corners.
    """
    padded = np.pad(np.asarray(mask, dtype=bool), 1)
    edges = []
    for row, column in np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1]):
        edges.append(((row, column), (row, column + 1)))
    for row, column in np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1]):
        edges.append(((row, column), (row + 1, column)))
    return np.array(edges, dtype=np.int64).reshape(-1, 2, 2)


def label_cells(mask: np.ndarray) -> list[tuple[int, int]]:
    """Find the cell, (row, column), for the label of each connected piece of a mask: the one nearest its middle.

    mask: bool [rows, columns]; cells that share an edge are connected. Pieces come in reading order.
    """
    left = {(int(row), int(column)) for row, column in np.argwhere(mask)}
    labels = []
    for start in sorted(left):
        if start not in left:
            continue
        piece, frontier = [], [start]
        left.remove(start)
        while frontier:
            row, column = frontier.pop()
            piece.append((row, column))
            for neighbour in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                if neighbour in left:
                    left.remove(neighbour)
                    frontier.append(neighbour)
        middle = np.mean(piece, axis=0)
        labels.append(min(sorted(piece), key=lambda cell: float(((np.array(cell) - middle) ** 2).sum())))
    return labels


def fitted(picture: np.ndarray, side: int) -> np.ndarray:
    """Shrink a picture so that neither side exceeds `side`; smaller ones stay as they are (pages enlarge them)."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def block_size(shape: Sequence[int], side: int) -> int:
    """Say how many values a side the blocks have that leave at least `side` along the longer axis of a shape."""
    return max(1, max(shape) // side)


def block_means(values: np.ndarray, side: int) -> np.ndarray:
    """Average an array, float [h, w], over blocks of `block_size`, so that it has fewer than `2 * side` a side.

    Result: float32 [round(h / n), round(w / n)], or the array itself if n is 1. Where n does not divide a side, blocks
    are a little larger or smaller than n, so that they cover the array exactly.
    """
    times = block_size(values.shape, side)
    if times == 1:
        return values
    height, width = (max(1, round(length / times)) for length in values.shape)
    drawn = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(drawn.resize((width, height), Image.Resampling.BOX))


def squared(picture: np.ndarray, side: int) -> np.ndarray:
    """Cut the middle square of a picture, uint8 [h, w, 3], as [side, side, 3]."""
    height, width = picture.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    square = Image.fromarray(np.ascontiguousarray(picture[top : top + edge, left : left + edge]))
    return np.asarray(square.resize((side, side), Image.Resampling.LANCZOS))
