"""A small model whose use of a concept is known: it tells class 1 by a tag, and could tell it by a shape."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

# Planes of an input: the tag, the shape of class 0, the shape of class 1.
TAG, FIRST, SECOND = 0, 1, 2


def planted_model() -> nn.Sequential:
    """`[N, 3, 8, 8]` -> `[N, 2]`: channel 0 of "conv" is the tag, on which class 1 depends."""
    model = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, 3, 1),
            relu=nn.ReLU(),
            mean=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            logits=nn.Linear(3, 2),
        )
    )
    with torch.no_grad():
        model.conv.weight.copy_(torch.eye(3)[:, :, None, None])
        model.conv.bias.zero_()
        model.logits.weight.copy_(torch.tensor([[0.0, 4.0, 0.0], [90.0, 0.0, 0.1]]))
        model.logits.bias.copy_(torch.tensor([0.2, 0.0]))
    return model.eval()


def planted_data(count: int = 120, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Samples and labels, the classes in turn; nine in ten of class 1 have the tag, and none of class 0."""
    draw = torch.Generator().manual_seed(seed)
    data = 0.05 * torch.rand(count, 3, 8, 8, generator=draw)
    data[:, TAG] = 0
    labels = torch.arange(count) % 2
    for row in range(count):
        data[row, FIRST + labels[row], 2:6, 2:6] += 0.5 + 0.5 * torch.rand((), generator=draw)
        if labels[row] == 1 and row % 20 != 1:
            data[row, TAG, 0, int(torch.randint(8, (), generator=draw))] = 1
    return data, labels


def marked_model() -> nn.Sequential:
    """`[N, 3, 8, 8]` -> `[N, 2]`: class 1 is told by its shape in plane 2, or by what adds up in planes 0 and 1."""
    model = planted_model()
    with torch.no_grad():
        model.logits.weight.copy_(torch.tensor([[0.0, 0.0, 0.0], [30.0, 30.0, 4.0]]))
        model.logits.bias.copy_(torch.tensor([0.0, -1.1]))
    return model


def marked_data(count: int = 240, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Samples, labels (the classes in turn), and which have a mark, bool `[N]`: half of class 1, none of class 0.

    The mark is large in planes 0 and 1 at the last position. Each of these planes is also nearly as large at another
    position of every sample, so that neither tells the mark alone.
    """
    draw = torch.Generator().manual_seed(seed)
    data, labels = torch.zeros(count, 3, 8, 8), torch.arange(count) % 2
    has = torch.arange(count) % 4 == 3
    for row in range(count):
        places = torch.randperm(63, generator=draw)[:2]
        for plane, place in enumerate(places.tolist()):
            data[row, plane].view(-1)[place] = 0.8 + 0.2 * torch.rand((), generator=draw)
        if labels[row]:
            top, left = torch.randint(5, (2,), generator=draw).tolist()
            data[row, 2, top : top + 4, left : left + 4] = 0.5 + 0.5 * torch.rand((), generator=draw)
    data[has, :2, 7, 7] = 1.1
    return data, labels, has
