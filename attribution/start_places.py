"""Where in the input a start lies: the pixels of a mask of a segmentation, or those of a box.

A start of that kind has the method `place` of `Placed`, beside those of `Start`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from crp.places import Place


@runtime_checkable
class Placed(Protocol):
    """A start that lies somewhere in the input."""

    def place(self, prediction: Tensor, space: tuple[int, ...]) -> Place | None:
        """Return where what is explained of one sample lies; None if it has no place.

        Parameters
        ----------
        prediction
            The model's output, `[1, ...]`.
        space
            Spatial extent of the input, `*S`.
        """


def place_of(start: Any, prediction: Tensor, space: tuple[int, ...]) -> Place | None:
    """Return the place of any start; None for one that has none, such as a class."""
    return start.place(prediction, space) if isinstance(start, Placed) else None


def resized_place(inside: Tensor, space: tuple[int, ...]) -> Place | None:
    """Carry a mask at the size of an output, bool `[*S]`, to an input; each position is as large as its pixels."""
    if inside.ndim != len(space):
        return None
    at = [
        torch.div((torch.arange(length) + 0.5) * size, length, rounding_mode="floor").long()
        for size, length in zip(inside.shape, space, strict=True)
    ]
    mask = inside.cpu()[torch.meshgrid(*at, indexing="ij")].numpy()
    return Place(mask) if mask.any() else None


def joint_place(starts: Sequence[Any], prediction: Tensor, space: tuple[int, ...]) -> Place | None:
    """Return the place that several starts have in common; None if they have different ones."""
    first, *others = [place_of(start, prediction, space) for start in starts]
    if first is None or any(other is None or not np.array_equal(other.mask, first.mask) for other in others):
        return None
    return first
