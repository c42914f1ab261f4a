"""The outline of the mask or box that is explained, as a path over the picture."""

from __future__ import annotations

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
    'M0 0H2M0 1H1M1 2H2M0 0V1M1 1V2M2 0V2'
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

    >>> edges_path(np.array([[True, True], [False, True]]), x=10)
    'M0 0H20M0 1H10M10 2H20M0 0V1M10 1V2M20 0V2'
    """
    padded = np.pad(mask, 1)
    across = [
        f"M{_text(start * x)} {_text(row * y)}H{_text(stop * x)}"
        for row, edges in enumerate(padded[1:, 1:-1] != padded[:-1, 1:-1])
        for start, stop in _runs(edges)
    ]
    down = [
        f"M{_text(column * x)} {_text(start * y)}V{_text(stop * y)}"
        for column, edges in enumerate((padded[1:-1, 1:] != padded[1:-1, :-1]).T)
        for start, stop in _runs(edges)
    ]
    return "".join(across + down)


def _runs(edges: np.ndarray) -> list[tuple[int, int]]:
    """Find the runs of true values: first index, and the index after the last."""
    ends = np.flatnonzero(np.diff(np.pad(edges.astype(np.int8), 1)))
    return [(int(first), int(last)) for first, last in ends.reshape(-1, 2)]


def _text(length: float) -> str:
    return f"{length:.1f}".removesuffix(".0")
