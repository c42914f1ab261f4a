"""Crops of samples and heatmaps for patches: the box, the size, the stored form."""

from __future__ import annotations

import numpy as np
from PIL import Image

from crp.library.patches import encode_picture, encode_values

# A crop holds the pixels whose heatmap value exceeds this fraction of the maximum.
_FAINTEST = 0.1
# Longest side of a volume's patch: its bytes grow with the third power.
_VOLUME = 24


def cropped(picture: np.ndarray, heatmap: np.ndarray, box: tuple[int, ...], longest: int) -> tuple[bytes, np.ndarray]:
    """Crop a sample and its heatmap, shrink them and encode them as a library stores them.

    Parameters
    ----------
    picture
        uint8 `[H, W, 3]`; of a signal float32 `[c, T]`, of a volume `[c, D, H, W]`.
    heatmap
        float32 `[H, W]`; of a signal `[T]`, of a volume `[D, H, W]`.
    box
        What to cut out, as `patch_box` returns it.
    longest
        Longest side of the result, in pixels; of a signal in values. Of a volume no side is longer than 24.

    Returns
    -------
    bytes
        The encoded picture or signal.
    numpy.ndarray
        The heatmap relative to its largest absolute value, int8 in -127..127.
    """
    axes = heatmap.ndim
    if axes == 3:
        longest = min(longest, _VOLUME)
    window = tuple(slice(*ends) for ends in zip(box[:axes], box[axes:], strict=True))
    if axes == 3:
        small_heatmap = shrunk(heatmap[None][:, *window], longest)[0]
        encoded = encode_values(shrunk(picture[:, *window], longest))
    elif axes == 1:
        small_heatmap = resized(heatmap[None][:, *window], longest, axes=1)[0]
        encoded = encode_values(resized(picture[:, *window], longest, axes=1))
    else:
        small_heatmap = resized(heatmap[window], longest)
        encoded = encode_picture(resized(picture[window], longest))
    largest = np.abs(small_heatmap).max()
    relative = small_heatmap / largest if largest > 0 else small_heatmap
    return encoded, np.rint(relative * 127).astype(np.int8)


def patch_box(heatmap: np.ndarray, field: np.ndarray) -> tuple[int, ...]:
    """Find the box in which a heatmap exceeds a tenth of its maximum inside the receptive field.

    Parameters
    ----------
    heatmap
        float `[H, W]`; of a signal `[T]`.
    field
        Receptive field (top, left, bottom, right), bottom and right exclusive; of a signal (start, stop).

    Returns
    -------
    tuple of int
        The smallest box (top, left, bottom, right), or (start, stop), around these pixels. The receptive field itself
        if no pixel in it is positive.
    """
    edges = [int(edge) for edge in field]
    first, last = edges[: heatmap.ndim], edges[heatmap.ndim :]
    inside = heatmap[tuple(slice(*ends) for ends in zip(first, last, strict=True))]
    bright = np.nonzero(inside > _FAINTEST * max(float(inside.max()), 0.0))
    if not bright[0].size:
        return tuple(edges)
    starts = (start + int(places.min()) for start, places in zip(first, bright, strict=True))
    ends = (start + int(places.max()) + 1 for start, places in zip(first, bright, strict=True))
    return *starts, *ends


def resized(image: np.ndarray, longest: int, *, axes: int = 2) -> np.ndarray:
    """Shrink an image so that no side exceeds `longest`. A smaller image is returned unchanged.

    Pixels are averaged by area, so a heatmap keeps its mean.

    Parameters
    ----------
    image
        float32 `[h, w]` or uint8 `[h, w, 3]`; with `axes=1` a signal, float32 `[c, t]`.
    longest
        Longest side of the result.
    axes
        2 to shrink height and width, 1 to shrink the second axis alone.
    """
    height, width = image.shape[:2]
    scale = longest / (max(height, width) if axes == 2 else width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale)) if axes == 2 else height
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def shrunk(volume: np.ndarray, longest: int) -> np.ndarray:
    """Shrink a volume, float32 `[c, d, h, w]`, so that no side exceeds `longest`: blocks are averaged."""
    scale = min(1.0, longest / max(volume.shape[1:]))
    for axis, length in enumerate(volume.shape[1:], start=1):
        edges = np.arange(max(1, round(length * scale)) + 1) * length // max(1, round(length * scale))
        sizes = np.diff(edges).reshape(-1, *[1] * (volume.ndim - 1 - axis))
        volume = np.add.reduceat(volume, edges[:-1], axis=axis) / sizes.astype(np.float32)
    return volume
