"""How torchvision's detectors make boxes: from proposals with a box head, or from anchors.

=================  =================================================================================
`ProposalBoxes`    Faster R-CNN, Mask R-CNN, Keypoint R-CNN: one row of logits per proposal
`AnchorBoxes`      RetinaNet, FCOS and SSD: one row of logits per anchor, the same for all pictures
=================  =================================================================================

Other detectors are made by `crp.attribution.raw_boxes`, and have their `BoxHead` as `read_box_head`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from crp.errors import InputError, ModelError


@dataclass(frozen=True)
class Candidates:
    """All boxes of one picture before box suppression, and those that the detector returns.

    Attributes
    ----------
    returned
        What the detector returns: boxes, scores and labels.
    boxes, scores
        `[P, classes, 4]` in pixels of the model's input, and `[P, classes]`.
    held
        Returns what `BoxHead.logits` needs to compute some rows of the P again.
    """

    returned: dict[str, Tensor]
    boxes: Tensor
    scores: Tensor
    held: Callable[[list[int]], Tensor]


class BoxHead(Protocol):
    """A way to make boxes."""

    def candidates(self, model: nn.Module, data: Tensor) -> Candidates:
        """Run a detector on one picture `[1, c, H, W]`. Hooks are put on the model and left there."""

    def logits(self, model: nn.Module, data: Tensor, held: Tensor | None) -> Tensor:
        """Run a detector up to its class logits, `[N, P, classes]`; those of the rows that are held, if given."""


class ProposalBoxes:
    """A box head over proposals, whose places are constants."""

    def candidates(self, model: nn.Module, data: Tensor) -> Candidates:
        """Return the candidates; see `BoxHead`."""
        from torchvision.ops.boxes import clip_boxes_to_image

        seen: dict[str, Any] = {}
        model.roi_heads.register_forward_pre_hook(lambda _, given: seen.update(proposals=given[1][0], size=given[2][0]))
        model.roi_heads.box_predictor.register_forward_hook(lambda _, given, output: seen.update(head=output))
        (returned,) = model(data)
        (logits, regression), proposals, size = seen["head"], seen["proposals"], seen["size"]
        boxes = clip_boxes_to_image(model.roi_heads.box_coder.decode(regression, [proposals]), size)
        return Candidates(returned, _resized(boxes, size, data), logits.softmax(-1), lambda rows: proposals[rows])

    def logits(self, model: nn.Module, data: Tensor, held: Tensor | None) -> Tensor:
        """Return the class logits; see `BoxHead`. What is held are proposals `[P, 4]`."""
        images, _ = model.transform(data)
        features = _features(model, images)
        places = [held.to(images.tensors)] if held is not None else model.rpn(images, features)[0]
        counts = [len(found) for found in places]
        if len(set(counts)) > 1 or not counts[0]:
            raise InputError(
                f"The images of this batch have different numbers of proposals, {counts}: explain and mine one image "
                "at a time (block_size=1)."
                if any(counts)
                else "The detector has no proposal in this image."
            )
        heads = model.roi_heads
        pooled = heads.box_roi_pool(features, places, images.image_sizes)
        logits, _ = heads.box_predictor(heads.box_head(pooled))
        return logits.unflatten(0, (len(places), counts[0]))


class AnchorBoxes:
    """Logits at every anchor of every position. `scores` computes scores from what the head returns."""

    def __init__(self, scores: Callable[[dict[str, Tensor]], Tensor]) -> None:
        self._scores = scores

    def candidates(self, model: nn.Module, data: Tensor) -> Candidates:
        """Return the candidates; see `BoxHead`."""
        from torchvision.ops.boxes import clip_boxes_to_image

        seen: dict[str, Any] = {}
        model.transform.register_forward_hook(lambda _, given, output: seen.update(size=output[0].image_sizes[0]))
        model.head.register_forward_hook(lambda _, given, output: seen.update(head=output))
        model.anchor_generator.register_forward_hook(lambda _, given, output: seen.update(anchors=output[0]))
        (returned,) = model(data)
        logits = seen["head"]["cls_logits"][0]
        coder = model.box_coder
        decode = getattr(coder, "decode_single", coder.decode)  # the coder of an FCOS has `decode` only
        boxes = decode(seen["head"]["bbox_regression"][0], seen["anchors"])
        boxes = _resized(clip_boxes_to_image(boxes, seen["size"]), seen["size"], data)
        every = boxes[:, None].expand(-1, logits.shape[1], -1)
        return Candidates(returned, every, self._scores(seen["head"])[0], torch.tensor)

    def logits(self, model: nn.Module, data: Tensor, held: Tensor | None) -> Tensor:
        """Return the class logits; see `BoxHead`. What is held are numbers of anchors, int64 `[P]`."""
        images, _ = model.transform(data)
        logits = model.head([*_features(model, images).values()])["cls_logits"]
        return logits if held is None else logits[:, held.to(logits.device)]


def box_head_of(model: nn.Module) -> BoxHead:
    """Return how a detector makes its boxes.

    Raises
    ------
    ModelError
        If it computes them in another way.
    """
    if (head := getattr(type(model), "read_box_head", None)) is not None:
        return head
    from torchvision.models.detection.fcos import FCOS
    from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
    from torchvision.models.detection.retinanet import RetinaNet
    from torchvision.models.detection.roi_heads import RoIHeads
    from torchvision.models.detection.ssd import SSD

    forward = type(model).forward
    if forward is GeneralizedRCNN.forward and type(model.roi_heads).forward is RoIHeads.forward:
        return ProposalBoxes()
    if forward is RetinaNet.forward:
        return AnchorBoxes(lambda head: head["cls_logits"].sigmoid())
    if forward is FCOS.forward:
        return AnchorBoxes(lambda head: (head["cls_logits"].sigmoid() * head["bbox_ctrness"].sigmoid()).sqrt())
    if forward is SSD.forward:
        return AnchorBoxes(lambda head: head["cls_logits"].softmax(-1))
    raise ModelError(
        f"Boxes of a {type(model).__name__} cannot be explained: it is not a Faster R-CNN, Mask R-CNN, Keypoint R-CNN, "
        "RetinaNet, FCOS or SSD of torchvision. Say where its boxes are with crp.attribution.raw_boxes."
    )


def _features(model: nn.Module, images: Any) -> dict[str, Tensor]:
    features = model.backbone(images.tensors)
    return {"0": features} if isinstance(features, Tensor) else features


def _resized(boxes: Tensor, size: tuple[int, int], data: Tensor) -> Tensor:
    """Scale boxes `[..., 4]` from the size at which the network runs to that of the input."""
    from torchvision.models.detection.transform import resize_boxes

    return resize_boxes(boxes.reshape(-1, 4), size, data.shape[-2:]).reshape(boxes.shape)
