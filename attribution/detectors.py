"""Detectors of torchvision (Faster R-CNN, Mask R-CNN, RetinaNet, FCOS, SSD) and others (`read_boxes`): logits of boxes.

Such a model returns boxes with scores after a softmax and box suppression, through which relevance cannot flow. What
can be explained of a box is its class logit: the output for the proposal, or the anchor, that became the box.

>>> found = detect(model, image)                                                          # doctest: +SKIP
>>> found.boxes[0]                                                                        # doctest: +SKIP
Detection(box=(12.1, 30.4, 88.0, 97.3), score=0.97, label=3, start=Box(proposal=0, ...))
>>> crp.explain(found.model, image, library, target=found.boxes[0].start)                 # doctest: +SKIP

For mining, `box_logits` gives the logits of all proposals or anchors of a picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from crp.attribution.box_heads import Candidates, box_head_of
from crp.attribution.isolation import isolated_pass
from crp.attribution.replica import prepare
from crp.attribution.starts import Box
from crp.attribution.wrappers import unwrapped
from crp.errors import InputError, ModelError

OUTPUT_NAME = "class logits of boxes"

# How far the box and score of a proposal may be from those that the model returns, relative to the size of the box.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Detection:
    """One box that a detector returns.

    Attributes
    ----------
    box
        Left, top, right, bottom, in pixels of the model's input.
    score
        The model's score, 0..1.
    label
        Its class.
    start
        Starts relevance at the class's logit, with `Detections.model`.
    row
        Its row among the logits of all proposals or anchors, which `box_logits` gives.
    """

    box: tuple[float, float, float, float]
    score: float
    label: int
    start: Box
    row: int


@dataclass(frozen=True)
class Detections:
    """The boxes that a detector finds in one picture.

    Attributes
    ----------
    model
        The detector with the output `[1, boxes, classes]`: class logits of these boxes, whose proposals or anchors are
        held fixed.
    boxes
        The boxes, in the order in which the detector returns them.
    """

    model: nn.Module
    boxes: tuple[Detection, ...]


def box_logits(model: nn.Module) -> nn.Module:
    """Return a detector with the output `[N, P, classes]`: class logits before softmax and box suppression.

    P counts proposals, or the anchors of a RetinaNet, FCOS or SSD. The new model shares modules and weights with
    `model`, which is not changed. Pictures have different numbers of proposals, so a batch usually holds one
    (`crp.mine(..., block_size=1)`). Places of proposals and anchors are constants.

    Raises
    ------
    ModelError
        If the model is not one of these detectors of torchvision, and not made by `crp.attribution.raw_boxes`.
    """
    return _with_boxes(_detector(model), None)


def detect(model: nn.Module, image: Tensor) -> Detections:
    """Find the boxes of a picture, and the model that gives their class logits.

    Parameters
    ----------
    model
        One of these detectors of torchvision, what `read_boxes` made, or what `box_logits` made of either. It is run in
        evaluation mode, and not changed.
    image
        `[c, H, W]` or `[1, c, H, W]`, as the model takes it.

    Raises
    ------
    InputError
        If the image has another shape, or the model finds no box in it.
    ModelError
        If the model is not such a detector, or a box cannot be traced to its proposal or anchor.
    """
    model = _detector(model)
    found, every = _boxes(model, image)
    if not found:
        raise InputError("The detector finds no box in this image.")
    held = every.held([each.row for each in found])
    return Detections(_with_boxes(model, held, tuple(image.shape[-3:])), found)


def boxes_of(model: nn.Module, image: Tensor) -> tuple[Detection, ...]:
    """Find the boxes of a picture, which may be none; parameters and errors are otherwise those of `detect`."""
    return _boxes(_detector(model), image)[0]


@isolated_pass()
def _boxes(model: nn.Module, image: Tensor) -> tuple[tuple[Detection, ...], Candidates]:
    data = image[None] if image.ndim == 3 else image
    if data.ndim != 4 or len(data) != 1:
        raise InputError(f"An image is a tensor [c, H, W] or [1, c, H, W], given {list(image.shape)}.")
    own = prepare(model, None).model
    with torch.no_grad():
        every = box_head_of(model).candidates(own, data)
    result, found = every.returned, []
    for number, (box, score, label) in enumerate(
        zip(result["boxes"], result["scores"], result["labels"].tolist(), strict=True)
    ):
        away = (every.boxes[:, label] - box).abs().amax(1) + (every.scores[:, label] - score).abs()
        row = int(away.argmin())
        if float(away[row]) > _ROUNDING * max(1.0, float(box.abs().max())):
            raise ModelError(f"Box {number} of the detector cannot be traced to a proposal or anchor.")
        place = tuple(box.tolist())
        start = Box(number, label, f"box {number}", place)
        found.append(Detection(place, float(score), label, start, row))
    return tuple(found), every


def is_detector(model: nn.Module) -> bool:
    """Return whether the boxes of a model can be explained."""
    try:
        _detector(model)
    except (ModelError, ImportError):
        return False
    return True


def _detector(model: nn.Module) -> nn.Module:
    """Refuse a model whose boxes cannot be explained, because it computes them in another way."""
    if not isinstance(model, nn.Module):
        raise InputError(f"A model is a torch.nn.Module, given {type(model).__name__}.")
    model = unwrapped(model)
    model = getattr(type(model), "detector", lambda: model)()  # of what `box_logits` returned
    box_head_of(model)
    return model


def _with_boxes(model: nn.Module, held: Tensor | None, shape: tuple[int, ...] = ()) -> nn.Module:
    """Return the detector with class logits of the boxes that are held, for an input of `shape`, or of all."""
    kind, head = type(model), box_head_of(model)

    class BoxLogits(kind):
        explained_output = OUTPUT_NAME
        detector = staticmethod(lambda: model)

        def forward(self, data: Tensor) -> Tensor:
            if held is not None and (len(data) != 1 or data.shape[1:] != shape):
                raise InputError(
                    f"These boxes belong to one image {list(shape)}, given {list(data.shape)}: call detect again."
                )
            return head.logits(self, data, held)

    BoxLogits.__name__, BoxLogits.__qualname__, BoxLogits.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    detector = BoxLogits.__new__(BoxLogits)
    detector.__dict__ = dict(model.__dict__)
    return detector
