"""The three planes of a volume, which a cross-hair links: slices along each axis, as pictures for the script.

Pictures are mosaics of all slices along the first axis; `planes.js` cuts the slices along the others out of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from crp.explanations import Explanation
from crp.media.medium import Medium
from crp.visualization import encoding as images
from crp.visualization import picture_formats as formats
from crp.visualization import wording

# Values along an axis that a page holds, of the volume and its relevance, and of the relevance of a concept; what has
# more is reduced.
MOST, MOST_OF_CONCEPTS = 96, 48
# Of the plane across an axis, for the axes of a scanner: from left to right, from back to front, from foot to head. The
# last is where such a plane is cut as slices usually are.
_PLANES = ("sagittal", "coronal", "axial")
_TOWARDS = ("R", "A", "S")


def planes_view(explanation: Explanation) -> dict[str, Any] | None:
    """Draw the planes of a volume, for all views of a page; None for any other input.

    Returns
    -------
    dict
        `note`: what a reader has to know. `data`: for the script.
    """
    medium = explanation.medium or Medium.volume()
    if explanation.heatmap.ndim != 3 or medium.kind != "volume":
        return None
    grey = images.grey(reduced(explanation.picture.mean(axis=0), MOST)[None])
    space, shape = explanation.heatmap.shape, grey.shape[:3]
    steps = [axis.step * length / shown for axis, length, shown in zip(medium.axes, space, shape, strict=True)]
    return {
        "note": _note(space, shape, medium.affine is not None),
        "data": {
            "space": list(space),
            "steps": steps,
            "names": [axis.name for axis in medium.axes],
            "affine": medium.affine and [list(row) for row in medium.affine[:3]],
            "planes": planes_across(medium.affine),
            "volume": _placed(shape) | {"uri": formats.photo_uri(mosaic(grey), quality=60)},
            "views": [_view(value) for value in (explanation, *explanation.beside)],
        },
    }


def planes_across(affine: Sequence[Sequence[float]] | None) -> list[dict[str, Any]]:
    """Say how the plane across each axis of a volume is shown: axial first, then coronal and sagittal.

    Parameters
    ----------
    affine
        From indices to millimetres to the right, front and top, as in NIfTI files. Without it, slices are axial.

    Returns
    -------
    list of dict
        `name`; `axis`, which it is across; `down` and `along`, the axes from top to bottom and from left to right, each
        with whether it is `turned`; `edges`, what is at the top and at the left, empty if that is not known. As in
        radiology, the right side of a body is shown on the left.

    Examples
    --------
    >>> [(plane["name"], plane["axis"], plane["down"][0], plane["along"][0]) for plane in planes_across(None)]
    [('axial', 0, 1, 2), ('coronal', 1, 0, 2), ('sagittal', 2, 0, 1)]
    >>> planes_across([[-2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 3, 0]])[0]
    {'name': 'axial', 'axis': 2, 'down': [1, True], 'along': [0, False], 'edges': ['A', 'R']}
    """
    if affine is None:
        return [_plane(world, {2: 0, 1: 1, 0: 2}, (False, False, False), known=False) for world in (2, 1, 0)]
    steps = np.asarray(affine, dtype=float)[:3, :3]
    # by world axis: the axis of the volume that is nearest to it, each once
    axes: dict[int, int] = {}
    for flat in np.argsort(-np.abs(steps / np.linalg.norm(steps, axis=0)), axis=None, kind="stable"):
        world, axis = divmod(int(flat), 3)
        if world not in axes and axis not in axes.values():
            axes[world] = axis
    turned = tuple(bool(steps[world, axes[world]] > 0) for world in range(3))
    return [_plane(world, axes, turned, known=True) for world in (2, 1, 0)]


def reduced(values: np.ndarray, most: int) -> np.ndarray:
    """Average blocks of a volume, `[D, H, W]`, so that no axis is longer than `most`."""
    for axis, length in enumerate(values.shape):
        factor = _factor(length, most)
        starts = np.arange(0, length, factor)
        counts = np.diff(starts, append=length)
        if factor > 1:
            sums = np.add.reduceat(values, starts, axis=axis)
            values = sums / counts.reshape([-1 if other == axis else 1 for other in range(3)]).astype(values.dtype)
    return values


def mosaic(slices: np.ndarray) -> np.ndarray:
    """Lay out `[D, h, w, ...]` as one picture, in reading order; places without a slice are 0.

    >>> mosaic(np.arange(3).reshape(3, 1, 1))
    array([[0, 1],
           [2, 0]])
    """
    count, height, width, *more = slices.shape
    across = _across(count)
    down = -(-count // across)
    filled = np.zeros((down * across, height, width, *more), dtype=slices.dtype)
    filled[:count] = slices
    tiles = filled.reshape(down, across, height, width, *more)
    return tiles.swapaxes(1, 2).reshape(down * height, across * width, *more)


def _factor(length: int, most: int) -> int:
    return -(-length // most)


def _placed(shape: Sequence[int]) -> dict[str, Any]:
    """Say how many slices, rows and columns a mosaic has, and how many slices stand in a row."""
    return {"shape": list(shape), "across": _across(shape[0])}


def _across(count: int) -> int:
    return math.ceil(math.sqrt(count))


def _plane(world: int, axes: dict[int, int], turned: Sequence[bool], *, known: bool) -> dict[str, Any]:
    down, along = {2: (1, 0), 1: (2, 0), 0: (2, 1)}[world]
    return {
        "name": _PLANES[world],
        "axis": axes[world],
        "down": [axes[down], turned[down]],
        "along": [axes[along], turned[along]],
        "edges": [_TOWARDS[down], _TOWARDS[along]] if known else ["", ""],
    }


def _view(explanation: Explanation) -> dict[str, Any]:
    whole = _Drawn(explanation.heatmap, MOST)
    layers = [
        {part.concept: _Drawn(part.heatmap, MOST_OF_CONCEPTS) for part in layer.ranked} for layer in explanation.layers
    ]
    return {
        "subject": wording.subject(explanation),
        "whole": whole.view(whole.limit),
        "layers": [
            {concept: one.view(max(other.limit for other in drawn.values())) for concept, one in drawn.items()}
            for drawn in layers
        ],
    }


class _Drawn:
    """A heatmap as a picture, float [D, H, W], and where its own scale ends."""

    def __init__(self, heatmap: np.ndarray, most: int) -> None:
        values = reduced(heatmap, most)
        laid = mosaic(values)
        self.shape = values.shape
        self.limit = images.colour_limit(laid)
        peak = np.unravel_index(np.abs(heatmap).argmax(), heatmap.shape)
        # in the volume as it is shown
        self.peak = [int(place) // _factor(length, MOST) for place, length in zip(peak, heatmap.shape, strict=True)]
        self.uri = formats.inked_uri(laid, quality=26)

    def view(self, limit: float) -> dict[str, Any]:
        """Return it with its opacity on a scale that ends at `limit`."""
        return _placed(self.shape) | {
            "uri": self.uri,
            "fade": round(images.fade(self.limit, limit), 4),
            "peak": self.peak,
            "full": [f"±{wording.number(limit)}", f"±{wording.number(self.limit)}"],
        }


def _note(space: Sequence[int], shape: Sequence[int], known: bool) -> str:
    sentences = [
        "Seen as in radiology: R is the right side of the body, A the front, S the top."
        if known
        else "The orientation of the volume is not known: its slices are taken to be axial."
    ]
    told = [
        (f"The volume has {_sizes(space)} values and is shown at {_sizes(shape)}", MOST),
        ("Relevance of single concepts is shown at {}", MOST_OF_CONCEPTS),
    ]
    small = [-(-length // _factor(length, MOST_OF_CONCEPTS)) for length in space]
    sentences += [f"{text.format(_sizes(small))}, as block means." for text, most in told if max(space) > most]
    return " ".join(sentences)


def _sizes(lengths: Sequence[int]) -> str:
    return f"{wording.SPACE}×{wording.SPACE}".join(map(str, lengths))
