"""A small convolutional network for the scenes.

It consists of convolutions, ReLU and max pooling, then a hidden layer and the logits. Without skip connections and
batch norms, every attribution rule applies as in its paper. The receptive field of `conv5` is 30 pixels, and the tag is
18 pixels wide.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from .drawing import CLASSES


def build_cnn() -> nn.Sequential:
    """Build the convolutional demo network with random weights: `[N, 3, 96, 96]` -> logits `[N, 10]`."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 16, 3, padding=1),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(16, 20, 3, padding=1),
            relu2=nn.ReLU(),
            conv3=nn.Conv2d(20, 32, 3, padding=1),
            relu3=nn.ReLU(),
            pool3=nn.MaxPool2d(2),
            conv4=nn.Conv2d(32, 40, 3, padding=1),
            relu4=nn.ReLU(),
            conv5=nn.Conv2d(40, 40, 3, padding=1),
            relu5=nn.ReLU(),
            pool5=nn.MaxPool2d(4),
            mean=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            hidden=nn.Linear(40, 64),
            relu6=nn.ReLU(),
            logits=nn.Linear(64, len(CLASSES)),
        )
    )
