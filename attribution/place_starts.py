"""Starts at some places of an output: a mask of a segmentation, a token, a box of a detector.

They are public in `crp.attribution.starts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crp.attribution.start_places import resized_place
from crp.class_names import class_index, class_name
from crp.errors import InputError
from crp.indices import as_array, position_ids
from crp.places import Place, box_place


@dataclass(frozen=True, eq=False)
class ClassInMask:
    """The output of a segmentation for one class, with its sign, at all positions of a mask.

    It adds up to the sum of the class's logits in the mask (as in L-CRP, Dreyer et al. 2023).

    Attributes
    ----------
    target
        The class.
    mask
        Booleans (or 0 and 1) `[*S]` at the size of the model's output, or `[N, *S]`, one mask for each sample. By
        default the positions at which the class has the largest output of all classes.
    label
        What the mask is called.

    Examples
    --------
    >>> output = torch.tensor([[[[1.0, -2.0]], [[0.0, 3.0]]]])                     # [N=1, classes=2, H=1, W=2]
    >>> road = ClassInMask(1, [[True, False]])
    >>> road.relevance(output).tolist(), road.name(["sky", "road"])
    ([[[[0.0, 0.0]], [[0.0, 0.0]]]], 'road inside the mask')
    >>> ClassInMask(1).relevance(output).tolist(), ClassInMask(1).name(["sky", "road"])
    ([[[[0.0, 0.0]], [[0.0, 3.0]]]], 'road where it is predicted')
    """

    target: int
    mask: Any = None
    label: str = "the mask"

    def relevance(self, prediction: Tensor) -> Tensor:
        """Return the output of the class inside the mask, and zero elsewhere.

        Raises
        ------
        InputError
            If the output is not `[N, classes, *S]`, has no such class, or the mask has another size, holds other
            values, or is empty.
        """
        if prediction.ndim < 3:
            raise InputError(
                f"A mask needs an output [N, classes, *S], as of a segmentation; this model's output is "
                f"{list(prediction.shape)}."
            )
        inside = self._chosen(prediction)
        target = class_index((), self.target, prediction.shape[1])
        chosen = torch.zeros_like(prediction)
        chosen[:, target] = prediction[:, target] * inside
        return chosen

    def place(self, prediction: Tensor, space: tuple[int, ...]) -> Place | None:
        """Return the pixels of the input below the mask; see `crp.attribution.start_places`."""
        inside = self._chosen(prediction)
        return resized_place(inside[0] if inside.ndim == prediction.ndim - 1 else inside, space)

    def name(self, class_names: Sequence[str]) -> str:
        """Return the name of the class and of the mask."""
        place = "where it is predicted" if self.mask is None else f"inside {self.label}"
        return f"{class_name(class_names, self.target)} {place}"

    def held(self, prediction: Tensor) -> ClassInMask:
        """Return the same start with the positions at which the class is predicted now; see `starts.held`."""
        return self if self.mask is not None else _ClassWherePredicted(self.target, self._chosen(prediction))

    def _chosen(self, prediction: Tensor) -> Tensor:
        if self.mask is not None:
            return self._inside(prediction)
        return prediction.argmax(1) == class_index((), self.target, prediction.shape[1])

    def _inside(self, prediction: Tensor) -> Tensor:
        """Return the mask as booleans `[*S]` or `[N, *S]`."""
        found = as_array(self.mask)
        mask = np.asarray(self.mask) if found is None else found
        samples, space = prediction.shape[0], list(prediction.shape[2:])
        if list(mask.shape) not in (space, [samples, *space]):
            raise InputError(
                f"The mask has the size {list(mask.shape)}, and the model's output has {space}: a mask has the size of "
                "the output, after preprocessing."
            )
        if mask.dtype.kind not in "biuf" or not np.isin(mask, (0, 1)).all():
            raise InputError(f"A mask holds booleans, or 0 and 1; this one has other values, of dtype {mask.dtype}.")
        if not mask.any():
            raise InputError("The mask is empty: no relevance would start.")
        return torch.as_tensor(mask.astype(bool), device=prediction.device)


class _ClassWherePredicted(ClassInMask):
    """A class at the positions at which it was predicted in another output of the same samples, which may be none."""

    def name(self, class_names: Sequence[str]) -> str:
        return ClassInMask(self.target).name(class_names)

    def _chosen(self, prediction: Tensor) -> Tensor:
        return self.mask


@dataclass(frozen=True)
class Token:
    """One output of one token, with its sign.

    Attributes
    ----------
    position
        The token; negative positions count from the end.
    target
        The output (a class, an entry of the vocabulary, a feature).

    Examples
    --------
    >>> Token(-1, 0).relevance(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])).tolist(), Token(1, 0).name(["cat", "dog"])
    ([[[0.0, 0.0], [3.0, 0.0]]], 'cat at token 1')
    """

    position: int
    target: int

    def relevance(self, prediction: Tensor) -> Tensor:
        """Return the output at the token, and zero elsewhere.

        Raises
        ------
        InputError
            If the output is not `[N, T, outputs]`, or has no such token or output.
        """
        return _entry(prediction, self.position, self.target, "A token needs an output [N, tokens, outputs]")

    def name(self, class_names: Sequence[str]) -> str:
        """Return the name of the output and the token's position."""
        return f"{class_name(class_names, self.target)} at token {self.position}"


@dataclass(frozen=True)
class Box:
    """The logit of one class for one box of a detector, with its sign.

    `crp.attribution.detectors.detect` finds the boxes of a picture, each with its start.

    Attributes
    ----------
    proposal
        Which row of `[N, proposals, classes]` became the box.
    target
        The class.
    label
        What the box is called.
    box
        Left, top, right, bottom, in pixels of the model's input, if they are known.

    Examples
    --------
    >>> Box(0, 1, "box 3").relevance(torch.tensor([[[1.0, 2.0]]])).tolist(), Box(0, 1, "box 3").name(["", "cat"])
    ([[[0.0, 2.0]]], 'cat in box 3')
    """

    proposal: int
    target: int
    label: str = "the box"
    box: tuple[float, float, float, float] | None = None

    def relevance(self, prediction: Tensor) -> Tensor:
        """Return the logit of the class for the box, and zero elsewhere.

        Raises
        ------
        InputError
            If the output is not `[N, proposals, classes]`, or has no such proposal or class.
        """
        return _entry(prediction, self.proposal, self.target, "A box needs an output [N, proposals, classes]")

    def place(self, prediction: Tensor, space: tuple[int, ...]) -> Place | None:
        """Return the pixels of the input in the box; see `crp.attribution.start_places`."""
        return None if self.box is None or len(space) != 2 else box_place(self.box, space)

    def name(self, class_names: Sequence[str]) -> str:
        """Return the name of the class and of the box."""
        return f"{class_name(class_names, self.target)} in {self.label}"


def _entry(prediction: Tensor, position: int, target: int, needed: str) -> Tensor:
    """Keep one entry of each sample of an output `[N, positions, outputs]`."""
    if prediction.ndim != 3:
        raise InputError(f"{needed}; this model's output is {list(prediction.shape)}.")
    (row,) = position_ids(position, prediction.shape[1], "the model's output")
    column = class_index((), target, prediction.shape[2])
    kept = torch.zeros_like(prediction)
    kept[:, row, column] = prediction[:, row, column]
    return kept
