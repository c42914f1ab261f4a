"""The outline of the mask or box that is explained, as a path over the picture."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from PIL import Image

from crp.explanations import Explanation
from crp.visualization.inputs import PageRenderer

# Masks are outlined at most this finely: as many pixels as the picture has on the page.
SIDE = 448


def outline_view(explanation: Explanation, renderer: PageRenderer) -> dict[str, Any] | None:
    """Draw the outline of the place that is explained over the picture of the input, or nothing without one.

    Returns
    -------
    dict
        `width` and `height` of what the path is drawn on, and `path`, for the attribute `d` of an SVG path.
    """
    place = explanation.place
    if place is None or place.mask.ndim != 2:
        return None
    # where the picture shows it: a spectrogram is drawn with its first row at the bottom
    mask = renderer.relevance(place.mask.astype(np.float32), explanation.picture) > 0.5
    height, width = mask.shape
    if place.box is not None and not renderer.axes():
        left, top, right, bottom = place.box
        path = f"M{left:.2f} {top:.2f}H{right:.2f}V{bottom:.2f}H{left:.2f}Z"
    else:
        path = mask_path(mask)
    return {"width": width, "height": height, "path": path}


def mask_path(mask: np.ndarray) -> str:
    """Outline a mask, bool `[H, W]`, by its edges with what is outside, the border of the picture included.

    >>> mask_path(np.array([[True, True], [False, True]]))
    'M0 0H2V2H1V1H0z'
    """
    height, width = mask.shape
    scale = min(1.0, SIDE / max(height, width))
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    if (rows, columns) != mask.shape:
        coarse = Image.fromarray(mask.astype(np.float32)).resize((columns, rows), Image.Resampling.BOX)
        mask = np.asarray(coarse) >= 0.5
    return edges_path(mask, width / columns, height / rows)


def edges_path(mask: np.ndarray, x: float = 1, y: float = 1) -> str:
    """Draw the edges between what is in a mask, bool `[rows, columns]`, and what is not: cells are `x` wide, `y` high.

    They are loops around what is in the mask. Where cells touch at a corner only, each has its own.

    >>> edges_path(np.array([[True, True], [False, True]]), x=10)
    'M0 0H20V2H10V1H0z'
    """
    following = _directed_edges(np.pad(mask, 1))
    loops = []
    for start in sorted(following):
        while following[start]:
            loops.append(_loop(start, following))
    return "".join(_drawn(loop, x, y) for loop in loops)


def _directed_edges(padded: np.ndarray) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Find the edges of a padded mask by the corner they start from: (row, column), with the mask to their right."""
    inside, following = padded[1:-1, 1:-1], defaultdict(list)
    sides = (
        (padded[:-2, 1:-1], (0, 0), (0, 1)),
        (padded[1:-1, 2:], (0, 1), (1, 1)),
        (padded[2:, 1:-1], (1, 1), (1, 0)),
        (padded[1:-1, :-2], (1, 0), (0, 0)),
    )
    for beside, start, stop in sides:
        for row, column in np.argwhere(inside & ~beside).tolist():
            following[row + start[0], column + start[1]].append((row + stop[0], column + stop[1]))
    return following


def _loop(start: tuple[int, int], following: dict[tuple[int, int], list[tuple[int, int]]]) -> list[tuple[int, int]]:
    """Take edges from a corner on until they return to it: the corners at which they turn."""
    corners, at, going = [], start, None
    while following[at]:
        steps = following[at]
        # where two leave, the one that turns right stays with its own cell
        right = None if going is None else (at[0] + going[1], at[1] - going[0])
        stop = right if right in steps else steps[0]
        steps.remove(stop)
        now = (stop[0] - at[0], stop[1] - at[1])
        if now != going:
            corners.append(at)
        at, going = stop, now
    return corners


def _drawn(corners: list[tuple[int, int]], x: float, y: float) -> str:
    (row, column), *others = corners
    text = f"M{_text(column * x)} {_text(row * y)}"
    for there, across in others:
        text += f"H{_text(across * x)}" if there == row else f"V{_text(there * y)}"
        row = there
    return f"{text}z"


def _text(length: float) -> str:
    return f"{length:.1f}".removesuffix(".0")
