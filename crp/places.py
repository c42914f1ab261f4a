"""Where in the input an object is, and how much of a concept's relevance lies in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from crp.errors import InputError
from crp.values import frozen, set_fields

if TYPE_CHECKING:
    from torch import Tensor  # opening a library must not load torch

Array = TypeVar("Array", np.ndarray, "Tensor")


@dataclass(frozen=True, eq=False)
class Place:
    """The part of an input that is explained: the mask of an object, or its box.

    Parameters
    ----------
    mask
        bool [*S], the positions of the input that belong to it; at least one.
    box
        Left, top, right and bottom in pixels of the input, if the place is a box.

    Raises
    ------
    InputError
        If the mask holds other values than 0 and 1, or is empty.
    """

    mask: np.ndarray
    box: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        """Check and convert the fields."""
        mask = np.asarray(self.mask)
        if mask.dtype.kind not in "biuf" or not np.isin(mask, (0, 1)).all():
            raise InputError(f"A place is a mask of booleans, or 0 and 1; this one has other values ({mask.dtype}).")
        if not mask.any():
            raise InputError("The place is empty: no position of the input belongs to it.")
        set_fields(self, mask=frozen(mask.astype(bool)))
        if self.box is not None:
            set_fields(self, box=tuple(float(side) for side in self.box))

    @property
    def part(self) -> float:
        """The part of the input that it covers, 0..1."""
        return float(self.mask.mean())


@dataclass(frozen=True)
class ContextUse:
    """How much of a concept's relevance lies inside of a place, and how much in the context around it.

    Attributes
    ----------
    inside, outside
        Sums of relevance of one sign, without the sign, 0 or more.
    """

    inside: float
    outside: float

    @property
    def ratio(self) -> float:
        """Relevance inside, divided by that outside; infinite if all is inside, NaN if there is none."""
        if self.outside == 0:
            return math.inf if self.inside else math.nan
        return self.inside / self.outside

    @property
    def context(self) -> float:
        """The part of the relevance that lies outside, 0..1: the use of context. NaN if there is none."""
        total = self.inside + self.outside
        return self.outside / total if total else math.nan


def box_place(box: tuple[float, float, float, float], space: tuple[int, int]) -> Place:
    """Return the pixels whose middle lies in a box; for a box without any, the one that is nearest to its middle.

    Parameters
    ----------
    box
        Left, top, right and bottom in pixels.
    space
        Height and width of the input.

    Examples
    --------
    >>> box_place((1.0, 0.0, 2.4, 1.2), (2, 3)).mask.astype(int).tolist()
    [[0, 1, 0], [0, 0, 0]]
    """
    left, top, right, bottom = box
    rows, columns = (np.arange(length) + 0.5 for length in space)
    mask = ((rows > top) & (rows < bottom))[:, None] & ((columns > left) & (columns < right))
    if not mask.any():
        mask[np.abs(rows - (top + bottom) / 2).argmin(), np.abs(columns - (left + right) / 2).argmin()] = True
    return Place(mask, box)


def divided_relevance(heatmaps: Array, masks: Array) -> tuple[Array, Array]:
    """Divide positive relevance into that inside and that outside of masks.

    Parameters
    ----------
    heatmaps
        `[N, *S]`, an array or tensor, of a dtype in which sums are exact enough.
    masks
        bool `[N, *S]`.

    Returns
    -------
    tuple of two arrays or tensors
        Sums of relevance inside, and outside, `[N]`.

    Examples
    --------
    >>> divided_relevance(np.array([[3.0, 1.0, -5.0]]), np.array([[True, False, False]]))
    (array([3.]), array([1.]))
    """
    positive, inside = heatmaps.reshape(len(heatmaps), -1).clip(0), masks.reshape(len(masks), -1)
    return (positive * inside).sum(1), (positive * ~inside).sum(1)


def context_use(heatmap: np.ndarray, place: Place, sign: int = 1) -> ContextUse:
    """Divide the relevance of one sign into that inside and that outside of a place.

    For positive relevance this is what L-CRP measures (Dreyer et al. 2023, 'Revealing Hidden Context Bias in
    Segmentation and Object Detection through Concept-specific Explanations').

    Parameters
    ----------
    heatmap
        float [*S], relevance at the input.
    place
        Of the same space.
    sign
        1 for positive relevance, -1 for negative.

    Examples
    --------
    >>> use = context_use(np.array([[3.0, 1.0, -5.0]]), Place([[True, False, False]]))
    >>> use, use.ratio, use.context
    (ContextUse(inside=3.0, outside=1.0), 3.0, 0.25)
    """
    inside, outside = divided_relevance(sign * heatmap.astype(np.float64)[None], place.mask[None])
    return ContextUse(float(inside[0]), float(outside[0]))
