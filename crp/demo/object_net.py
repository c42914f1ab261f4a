"""A small network for scenes with objects: a segmentation, and class logits and boxes as of a one-stage detector.

Both read the same convolutions. The receptive field of `conv6` is 42 pixels: an object, and the ground around it.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

from .object_scenes import ObjectScenes
from .painting import SIZE

STRIDE = 4


class ObjectNet(nn.Module):
    """Six convolutions, a layer of class logits at every fourth pixel, and one of boxes.

    The output is a dict: `masks`, class logits of every pixel, `[N, 7, H, W]`; `classes`, those at every fourth pixel,
    `[N, P, 7]`; and `boxes`, left, top, right and bottom in pixels of the box that is found there, `[N, P, 4]`.
    """

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
        self.box_head = nn.Sequential(nn.Conv2d(32, 32, 1), nn.ReLU(), nn.Conv2d(32, 4, 1))

    def forward(self, data: Tensor) -> dict[str, Tensor]:
        """Return masks, classes and boxes; see above."""
        features = self.features(data)
        logits = self.head(features)
        return {
            "masks": interpolate(logits, data.shape[2:], mode="bilinear"),
            "classes": logits.flatten(2).mT,
            "boxes": self.boxes_of(features),
        }

    def boxes_of(self, features: Tensor) -> Tensor:
        """Measure from the middle of each position to the four sides of the box, in units of `SIZE`."""
        away = self.box_head(features) * SIZE
        rows, columns = (_middles(length, away) for length in features.shape[2:])
        left, top, right, bottom = away.unbind(1)
        box = (columns - left, rows[:, None] - top, columns + right, rows[:, None] + bottom)
        return torch.stack([side.flatten(1) for side in box], -1)


def object_net() -> ObjectNet:
    """Return the trained network in evaluation mode on the CPU, for inputs of `ObjectScenes`."""
    model = ObjectNet()
    model.load_state_dict(load_file(object_weights()))
    return model.eval()


def object_weights() -> Path:
    """Return the file with the trained weights."""
    return Path(__file__).with_name("objects.safetensors")


def _middles(length: int, like: Tensor) -> Tensor:
    return (torch.arange(length, dtype=like.dtype, device=like.device) + 0.5) * STRIDE
