"""A small network with more classes and concepts than a page shows, explained; and its outputs by plain hooks."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor, nn

import crp
from crp.explanations import Explanation
from crp.library import Library

LAYERS = ("mixed", "high")
CLASSES = tuple(f"class-{letter}" for letter in "abcdefghij")


def network(outputs: int = 10) -> nn.Module:
    """`[N, 3, 12, 12]` -> `[N, outputs]`; "mixed" has 16 channels and "high" 24."""
    torch.manual_seed(33)
    model = nn.Sequential()
    for name, module in (
        ("low", nn.Conv2d(3, 8, 3, padding=1)), ("relu1", nn.ReLU()), ("mixed", nn.Conv2d(8, 16, 3, padding=1)),
        ("relu2", nn.ReLU()), ("pool", nn.MaxPool2d(2)), ("high", nn.Conv2d(16, 24, 3)), ("relu3", nn.ReLU()),
        ("mean", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten()), ("logits", nn.Linear(24, outputs)),
    ):  # fmt: skip
        model.add_module(name, module)
    with torch.no_grad():
        model.logits.weight.mul_(40)
        model.logits.bias.normal_()
    return model.eval()


def image(seed: int = 0) -> Tensor:
    """One sample, `[3, 12, 12]`."""
    return torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(seed))


def library(model: nn.Module, path: Path, **options) -> Library:
    """What is mined from eight samples."""
    data = torch.stack([image(seed) for seed in range(8)])
    names = {"class_names": CLASSES} if model.logits.out_features == 10 else {}
    return crp.mine(
        model, data, layers=LAYERS, path=path, k=2, patches=1, targets="prediction", progress=False,
        preprocessing=crp.Preprocessing(), **names, **options,
    )  # fmt: skip


def explained(folder: Path, outputs: int = 10, **options) -> Explanation:
    """The first sample, explained."""
    model = network(outputs)
    return crp.explain(model, image(), library(model, folder / "library.crp"), **options)


def live(model: nn.Module, layer: str, off: Collection[int], at_mean: bool = False) -> Tensor:
    """The output for the first sample with channels of a layer set to zero, or to their means, by a hook."""
    value = means(model, layer)[list(off), None, None] if at_mean else 0

    def cleared(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, list(off)] = value
        return output

    handle = model.get_submodule(layer).register_forward_hook(cleared)
    with torch.no_grad():
        output = model(image()[None])[0]
    handle.remove()
    return output.double()


@torch.no_grad()
def means(model: nn.Module, layer: str) -> Tensor:
    """The mean of each channel of a layer over the positions of all mined samples, `[C]`."""
    names = [name for name, _ in model.named_children()]
    return model[: names.index(layer) + 1](torch.stack([image(seed) for seed in range(8)])).mean((0, 2, 3))
