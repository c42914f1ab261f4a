"""Detectors of torchvision with a box head (Faster R-CNN, Mask R-CNN): the logits of boxes as an output to explain.

Such a model returns boxes with scores after a softmax and box suppression, through which relevance cannot flow. What
can be explained of a box is its class logit: the box head's output for the proposal that became the box.

>>> found = detect(model, image)                                                          # doctest: +SKIP
>>> found.boxes[0]                                                                        # doctest: +SKIP
Detection(box=(12.1, 30.4, 88.0, 97.3), score=0.97, label=3, start=Box(proposal=0, target=3, label='box 0'))
>>> crp.explain(found.model, image, library, target=found.boxes[0].start)                 # doctest: +SKIP

For mining, `box_logits` gives the logits of all proposals of a picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from crp.attribution.isolation import isolated
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
    """

    box: tuple[float, float, float, float]
    score: float
    label: int
    start: Box


@dataclass(frozen=True)
class Detections:
    """The boxes that a detector finds in one picture.

    Attributes
    ----------
    model
        The detector with the output `[1, boxes, classes]`: class logits of these boxes, whose proposals are held fixed.
    boxes
        The boxes, in the order in which the detector returns them.
    """

    model: nn.Module
    boxes: tuple[Detection, ...]


def box_logits(model: nn.Module) -> nn.Module:
    """Return a detector with the output `[N, proposals, classes]`: class logits before softmax and box suppression.

    It shares modules and weights with `model`, which is not changed. Pictures have different numbers of proposals, so a
    batch usually holds one (`crp.mine(..., block_size=1)`). The proposals' places are constants.

    Raises
    ------
    ModelError
        If the model is not a detector of torchvision with a box head.
    """
    return _with_boxes(_detector(model), None)


@isolated()
def detect(model: nn.Module, image: Tensor) -> Detections:
    """Find the boxes of a picture, and the model that gives their class logits.

    Parameters
    ----------
    model
        A detector of torchvision with a box head. It is run in evaluation mode, and not changed.
    image
        `[c, H, W]` or `[1, c, H, W]`, as the model takes it.

    Raises
    ------
    InputError
        If the image has another shape, or the model finds no box in it.
    ModelError
        If the model is not such a detector, or a box cannot be traced to its proposal.
    """
    model = _detector(model)
    data = image[None] if image.ndim == 3 else image
    if data.ndim != 4 or len(data) != 1:
        raise InputError(f"An image is a tensor [c, H, W] or [1, c, H, W], given {list(image.shape)}.")
    own = prepare(model, None).model
    seen: dict[str, Any] = {}
    own.roi_heads.register_forward_pre_hook(lambda _, given: seen.update(proposals=given[1][0], size=given[2][0]))
    own.roi_heads.box_predictor.register_forward_hook(lambda _, given, output: seen.update(head=output))
    with torch.no_grad():
        (result,) = own(data)
        boxes, scores = _candidates(own, data, *seen["head"], seen["proposals"], seen["size"])
    found, rows = [], []
    for number, (box, score, label) in enumerate(
        zip(result["boxes"], result["scores"], result["labels"].tolist(), strict=True)
    ):
        away = (boxes[:, label] - box).abs().amax(1) + (scores[:, label] - score).abs()
        row = int(away.argmin())
        if float(away[row]) > _ROUNDING * max(1.0, float(box.abs().max())):
            raise ModelError(f"Box {number} of the detector cannot be traced to one of its proposals.")
        rows.append(row)
        found.append(Detection(tuple(box.tolist()), float(score), label, Box(number, label, f"box {number}")))
    if not found:
        raise InputError("The detector finds no box in this image.")
    return Detections(_with_boxes(model, seen["proposals"][rows], tuple(data.shape[1:])), tuple(found))


def _candidates(
    model: nn.Module, data: Tensor, logits: Tensor, regression: Tensor, proposals: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Return the box `[P, classes, 4]` and score `[P, classes]` of each proposal and class, before box suppression."""
    from torchvision.models.detection.transform import resize_boxes
    from torchvision.ops.boxes import clip_boxes_to_image

    boxes = clip_boxes_to_image(model.roi_heads.box_coder.decode(regression, [proposals]), size)
    return resize_boxes(boxes.reshape(-1, 4), size, data.shape[-2:]).reshape(boxes.shape), logits.softmax(-1)


def _detector(model: nn.Module) -> nn.Module:
    """Refuse a model whose boxes cannot be explained, because it computes them in another way."""
    if not isinstance(model, nn.Module):
        raise InputError(f"A model is a torch.nn.Module, given {type(model).__name__}.")
    from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
    from torchvision.models.detection.roi_heads import RoIHeads

    model = unwrapped(model)
    known = type(model).forward is GeneralizedRCNN.forward and type(model.roi_heads).forward is RoIHeads.forward
    if not known:
        raise ModelError(
            f"Boxes of a {type(model).__name__} cannot be explained: it is not a detector of torchvision with a box "
            "head (Faster R-CNN, Mask R-CNN, Keypoint R-CNN)."
        )
    return model


def _with_boxes(model: nn.Module, proposals: Tensor | None, shape: tuple[int, ...] = ()) -> nn.Module:
    """Return the detector with class logits of given proposals, for an input of `shape`, or of its own proposals."""
    kind = type(model)

    class BoxLogits(kind):
        explained_output = OUTPUT_NAME

        def forward(self, data: Tensor) -> Tensor:
            if proposals is not None and (len(data) != 1 or data.shape[1:] != shape):
                raise InputError(
                    f"These boxes belong to one image {list(shape)}, given {list(data.shape)}: call detect again."
                )
            return _class_logits(self, data, proposals)

    BoxLogits.__name__, BoxLogits.__qualname__, BoxLogits.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    detector = BoxLogits.__new__(BoxLogits)
    detector.__dict__ = dict(model.__dict__)
    return detector


def _class_logits(model: nn.Module, data: Tensor, proposals: Tensor | None) -> Tensor:
    """Run a detector up to its class logits, `[N, proposals, classes]`."""
    images, _ = model.transform(data)
    features = model.backbone(images.tensors)
    if isinstance(features, Tensor):
        features = {"0": features}
    places = [proposals.to(images.tensors)] if proposals is not None else model.rpn(images, features)[0]
    counts = [len(found) for found in places]
    if len(set(counts)) > 1 or not counts[0]:
        raise InputError(
            f"The images of this batch have {counts} proposals: explain and mine one image at a time (block_size=1)."
            if any(counts)
            else "The detector has no proposal in this image."
        )
    heads = model.roi_heads
    pooled = heads.box_roi_pool(features, places, images.image_sizes)
    logits, _ = heads.box_predictor(heads.box_head(pooled))
    return logits.unflatten(0, (len(places), counts[0]))
