"""Detectors that are not torchvision's: a function reads the boxes from what the model returns.

>>> def read(output):                                                                          # doctest: +SKIP
...     return RawBoxes(output["logits"], output["boxes"])
>>> detector = read_boxes(model, read)                                                         # doctest: +SKIP
>>> detect(detector, image).boxes[0]                                                           # doctest: +SKIP

This fits detectors that compute class logits and a box at every position or for every query: YOLO, DETR and the like.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from crp.attribution.box_heads import Candidates
from crp.errors import InputError

# Candidates that take part in box suppression, best first.
_CANDIDATES = 1000


@dataclass(frozen=True)
class RawBoxes:
    """What a detector computes before box suppression, for `P` candidates.

    Attributes
    ----------
    logits
        Class logits, `[N, P, classes]`: what is explained.
    boxes
        Left, top, right, bottom, in pixels of the model's input, `[N, P, 4]`.
    scores
        0..1, `[N, P, classes]`, by which boxes are found; by default the sigmoid of the logits. Zero for a class that
        is no object, such as the background.
    """

    logits: Tensor
    boxes: Tensor
    scores: Tensor | None = None


def read_boxes(
    model: nn.Module, read: Callable[[Any], RawBoxes], *, threshold: float = 0.25, overlap: float = 0.5, most: int = 100
) -> nn.Module:
    """Return a detector whose boxes can be explained: for `box_logits` and `detect`.

    Parameters
    ----------
    model
        A model that computes class logits and boxes in one pass. The detector shares its modules and weights, and the
        names of its layers.
    read
        Returns the boxes in what the model returns for a batch.
    threshold
        Smallest score of a box.
    overlap
        Of two boxes of one class with a larger intersection over union than this, the better one is kept.
    most
        Largest number of boxes of a picture.
    """
    kind = type(model)
    head = ReadBoxes(kind.forward, read, threshold, overlap, most)
    named = {"read_box_head": head, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    made = type(kind.__name__, (kind,), named)
    detector = made.__new__(made)
    detector.__dict__ = dict(model.__dict__)
    return detector


class ReadBoxes:
    """A `BoxHead` whose boxes a function reads from what the model returns."""

    def __init__(
        self,
        forward: Callable[[nn.Module, Tensor], Any],
        read: Callable[[Any], RawBoxes],
        threshold: float,
        overlap: float,
        most: int,
    ) -> None:
        self._forward, self._read = forward, read
        self._threshold, self._overlap, self._most = threshold, overlap, most

    def candidates(self, model: nn.Module, data: Tensor) -> Candidates:
        """Return the candidates; see `BoxHead`."""
        raw = self._raw(model, data)
        logits, boxes = raw.logits[0], raw.boxes[0]
        scores = logits.sigmoid() if raw.scores is None else raw.scores[0]
        best, labels = scores.max(1)
        rows = best.argsort(descending=True, stable=True)[:_CANDIDATES]
        rows = rows[best[rows] >= self._threshold]
        kept = rows[suppressed(boxes[rows], labels[rows], self._overlap)][: self._most]
        returned = {"boxes": boxes[kept], "scores": best[kept], "labels": labels[kept]}
        every = boxes[:, None].expand(-1, logits.shape[1], -1)
        return Candidates(returned, every, scores, torch.tensor)

    def logits(self, model: nn.Module, data: Tensor, held: Tensor | None) -> Tensor:
        """Return the class logits; see `BoxHead`. What is held are numbers of candidates, int64 `[P]`."""
        logits = self._raw(model, data).logits
        return logits if held is None else logits[:, held.to(logits.device)]

    def _raw(self, model: nn.Module, data: Tensor) -> RawBoxes:
        raw = self._read(self._forward(model, data))
        if not isinstance(raw, RawBoxes):
            raise InputError(f"The function that reads boxes returned a {type(raw).__name__}; it must return RawBoxes.")
        if raw.logits.ndim != 3 or raw.boxes.shape != (*raw.logits.shape[:2], 4):
            raise InputError(
                f"The boxes that were read have the shape {list(raw.boxes.shape)} and their class logits "
                f"{list(raw.logits.shape)}; [N, P, 4] and [N, P, classes] are needed."
            )
        if raw.scores is not None and raw.scores.shape != raw.logits.shape:
            raise InputError(
                f"The scores that were read have the shape {list(raw.scores.shape)}, and their class logits "
                f"{list(raw.logits.shape)}: both must be alike."
            )
        return raw


def suppressed(boxes: Tensor, labels: Tensor, overlap: float) -> Tensor:
    """Choose boxes, best first, that overlap no better box of their class by more than `overlap`.

    Parameters
    ----------
    boxes
        `[M, 4]`, the best first.
    labels
        int64 `[M]`.
    overlap
        Largest intersection over union.

    Returns
    -------
    Tensor
        Indices, int64.

    Examples
    --------
    >>> boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3], [0, 0, 4, 3]])
    >>> suppressed(boxes, torch.tensor([1, 1, 2]), 0.5).tolist()
    [0, 2]
    """
    first, last = (
        torch.maximum(boxes[:, None, :2], boxes[None, :, :2]),
        torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:]),
    )
    shared = (last - first).clamp(min=0).prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(-1)
    clash = (shared > overlap * (areas[:, None] + areas[None] - shared)) & (labels[:, None] == labels[None])
    kept: list[int] = []
    for index in range(len(boxes)):
        if not clash[index, kept].any():
            kept.append(index)
    return torch.tensor(kept, dtype=torch.long, device=boxes.device)
