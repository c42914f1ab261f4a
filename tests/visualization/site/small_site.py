"""A tiny network, its library and a few pictures, with hostile names, for tests of sites."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

import crp
from crp.library import Library
from crp.preprocessing import Preprocessing

HOSTILE = "<img src=x onerror=alert(1)>\"'&</script>\u202e"
NAMES = ("ant", HOSTILE, "cat")
LAYERS = ("low/er", "upper")
# A name that a path can have; slashes are not among them.
HOSTILE_FILE = "<img src=x onerror=alert(2)>'&\"%2e#?.png"
# Of a small site.
OPTIONS = dict(concepts=2, cells=3, progress=False, command="crp atlas small.crp photos --out site")


class Pictures(torch.utils.data.Dataset):
    """Twelve noise pictures with labels."""

    preprocessing = Preprocessing(mean=0.5, std=0.25)

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int):
        return self.preprocessing.to_input(noise(index)), index % 3


def noise(seed: int, side: int = 16) -> Image.Image:
    colour = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(colour).resize((side, side), Image.Resampling.BICUBIC)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential()
    for name, module in {
        LAYERS[0]: nn.Conv2d(3, 6, 3, padding=1), "a": nn.ReLU(), "b": nn.MaxPool2d(2),
        LAYERS[1]: nn.Conv2d(6, 8, 3, padding=1), "c": nn.ReLU(), "d": nn.Flatten(), "e": nn.Linear(512, 3),
    }.items():  # fmt: skip
        model.add_module(name, module)
    return model


def mined(folder: Path, model: nn.Module, **options) -> Library:
    settings = dict(k=4, patches=2, class_names=NAMES, preprocessing=Pictures.preprocessing, progress=False)
    return crp.mine(model, Pictures(), layers=LAYERS, path=folder / "small.crp", **settings | options)


def pictures(folder: Path, count: int = 3) -> list[Path]:
    """Some files; the second has a hostile name."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / (HOSTILE_FILE if index == 1 else f"picture {index}.png") for index in range(count)]
    for index, path in enumerate(paths):
        noise(100 + index).save(path)
    return paths
