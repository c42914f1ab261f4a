"""The interface between pages and kinds of input.

A page shows pictures: of the input, of relevance on it, of patches, of cells. A `PageRenderer` says how an input of one
kind, and anything that has its axes, is laid out in a picture. Colours, scales, cards, maps and the selection of
regions are the same for all kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from crp.explanations import Patch
from crp.media.medium import Axis


@dataclass(frozen=True)
class Tick:
    """A short text at a place of the picture.

    Parameters
    ----------
    x, y
        From the left and from the top, 0..1.
    text
        What stands there.
    side
        "bottom" for a text above the lower edge, "left" for one right of the left edge, "top" for one below and right
        of its place.
    more
        What follows the text where there is room for it.
    width
        The part of the picture's width that the text may take, 0..1.
    """

    x: float
    y: float
    text: str
    side: str
    more: str = ""
    width: float = 1


class PageRenderer(Protocol):
    """Lays out inputs of one kind in pictures. To add a kind, write a class with these methods."""

    def picture(self, values: np.ndarray) -> np.ndarray:
        """Draw an input: `Explanation.picture` -> uint8 `[h, w, 3]`."""

    def relevance(self, heatmap: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Lay out relevance `[*S]` where `picture(values)` shows what it is about: float `[h, w]`."""

    def patch(self, patch: Patch) -> tuple[np.ndarray, np.ndarray]:
        """Draw a patch: uint8 `[h, w, 3]`, and its heatmap laid out, float `[h, w]`."""

    def arranged(self, cells: np.ndarray, blank: int) -> np.ndarray:
        """Lay out cells as the picture shows them: `[*grid, ...]` -> `[rows, columns, ...]`.

        All cells have one size in the picture. Places of the picture without a cell are filled with `blank`.
        """

    def where(self, heatmap: np.ndarray) -> str:
        """Say where the absolute relevance of a heatmap `[*S]` is, as the end of a sentence: "around 1.2 s"."""

    def axes(self) -> tuple[Axis, ...]:
        """Return the axes of `S`, in which places are told; none for a picture, whose cells are rows and columns."""

    def ticks(self, space: Sequence[int]) -> tuple[Tick, ...]:
        """Return the texts that stand in the picture of an input with the extents `space`."""

    def remark(self) -> str:
        """Say what a reader has to know of how the input is drawn, in a sentence; empty if nothing."""

    def sound(self, values: np.ndarray, box: Sequence[int] = ()) -> bytes:
        """Return an input, or a patch and its box in the input, as WAV; empty if it cannot be played."""


class Plain:
    """What needs no remark."""

    def remark(self) -> str:
        """Return nothing."""
        return ""


class Silent(Plain):
    """What cannot be played either."""

    def sound(self, values: np.ndarray, box: Sequence[int] = ()) -> bytes:
        """Return nothing."""
        return b""


def span(axis: Axis, first: float, last: float) -> str:
    """Say the interval of an axis between two places.

    >>> span(Axis("time", "s", step=0.01), 25, 50)
    '0.25 to 0.5 s'
    """
    unit = f" {axis.unit}" if axis.unit else ""
    return f"{axis.at(first):.4g} to {axis.at(last):.4g}{unit}"


def middle(heatmap: np.ndarray, axis: int) -> float | None:
    """Find the centre of the absolute relevance along an axis, in places; None without relevance."""
    others = tuple(other for other in range(heatmap.ndim) if other != axis)
    weight = np.abs(heatmap).sum(axis=others, dtype=np.float64)
    total = weight.sum()
    return float(weight @ np.arange(len(weight)) / total) if total else None


def around(heatmap: np.ndarray, axes: Sequence[Axis]) -> str:
    """Say where a heatmap's relevance gathers along each axis.

    >>> around(np.eye(1, 100, 40)[0], [Axis("time", "s", step=0.01)])
    'around 0.4 s'
    """
    places = [middle(heatmap, index) for index in range(heatmap.ndim)]
    if None in places:
        return "nowhere"
    units = [f" {axis.unit}" if axis.unit else "" for axis in axes]
    named = len(axes) > 1
    found = [
        f"{f'{axis.name} ' if named else ''}{axis.at(place):.3g}{unit}"
        for axis, place, unit in zip(axes, places, units, strict=True)
    ]
    return f"around {', '.join(found)}"


def steps(axis: Axis, length: int, count: int = 5) -> list[tuple[float, str]]:
    """Choose round places along an axis with their texts: (0..1, text)."""
    low, high = axis.at(-0.5), axis.at(length - 0.5)
    rough = (high - low) / count
    power = 10 ** np.floor(np.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    found = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
    # adding zero turns -0 into 0
    return [(float((value - low) / (high - low)), f"{value + 0:.6g}") for value in found]


def enlarged(array: np.ndarray, least: int) -> np.ndarray:
    """Repeat each value of `[h, w, ...]` until the longer side has at least `least`."""
    factor = max(1, -(-least // max(array.shape[:2])))
    return array.repeat(factor, axis=0).repeat(factor, axis=1)
