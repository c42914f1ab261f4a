"""A small network for scenes with objects, once as a segmentation and once as a one-stage detector.

Both have the same weights. The receptive field of `conv6` is 42 pixels: an object, and the ground around it.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from crp.attribution.detectors import box_logits
from crp.attribution.raw_boxes import RawBoxes, read_boxes

from .object_scenes import ObjectScenes
from .painting import SIZE

STRIDE = 4


class ObjectNet(nn.Module):
    """Six convolutions, a layer of class logits at every fourth pixel, and one of boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(3, 16, 3, padding=1),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(16, 24, 3, padding=1),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                conv3=nn.Conv2d(24, 32, 3, padding=1),
                relu3=nn.ReLU(),
                conv4=nn.Conv2d(32, 40, 3, padding=1),
                relu4=nn.ReLU(),
                conv5=nn.Conv2d(40, 40, 3, padding=1),
                relu5=nn.ReLU(),
                conv6=nn.Conv2d(40, 32, 3, padding=1),
                relu6=nn.ReLU(),
            )
        )
        self.head = nn.Conv2d(32, len(ObjectScenes.class_names), 1)
        self.box_head = nn.Sequential(nn.Conv2d(40, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 4, 1))

    def classes_and_boxes(self, data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return features `[N, 32, h, w]`, class logits `[N, 7, h, w]`, and the boxes of `boxes_of`."""
        lower = self.features[:-2](data)
        features = self.features[-2:](lower)
        return features, self.head(features), self.boxes_of(lower)

    def boxes_of(self, lower: Tensor) -> Tensor:
        """Return the box that is found at each position, `[N, P, 4]`: left, top, right, bottom in pixels.

        It is read from the output of `conv5`. The network measures from the middle of a position to the four sides, in
        units of `SIZE`.
        """
        left, top, right, bottom = (self.box_head(lower) * SIZE).unbind(1)
        rows, columns = (
            (torch.arange(length, dtype=lower.dtype, device=lower.device) + 0.5) * STRIDE
            for length in lower.shape[2:]
        )
        sides = (columns - left, rows[:, None] - top, columns + right, rows[:, None] + bottom)
        return torch.stack([side.flatten(1) for side in sides], -1)


class ObjectSegmenter(ObjectNet):
    """Class logits of every pixel, `[N, 3, H, W]` -> `[N, 7, H, W]`."""

    def forward(self, data: Tensor) -> Tensor:
        """Return the class logits, interpolated to the size of the input."""
        return interpolate(self.head(self.features(data)), data.shape[2:], mode="bilinear")


class ObjectDetector(ObjectNet):
    """Class logits and a box at every fourth pixel, `[N, 3, H, W]` -> `[N, P, 7]` and `[N, P, 4]`."""

    def forward(self, data: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits and boxes."""
        _, logits, boxes = self.classes_and_boxes(data)
        return logits.flatten(2).mT, boxes


def build_detector() -> nn.Module:
    """Build the detector with random weights; its output are the class logits of all boxes (`box_logits`)."""
    return box_logits(read_boxes(ObjectDetector(), _read, overlap=0.1))


def _read(output: tuple[Tensor, Tensor]) -> RawBoxes:
    logits, boxes = output
    scores = logits.softmax(-1)
    # The first class is the background.
    return RawBoxes(logits, boxes, torch.cat([torch.zeros_like(scores[..., :1]), scores[..., 1:]], -1))
