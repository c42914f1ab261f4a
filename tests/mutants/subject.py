"""A small library with everything in it, and the model and data it was mined with."""

from pathlib import Path

import torch
from torch import nn
from torch.utils.data import TensorDataset

import crp
from crp.library import Library

LAYERS = ("0", "2")  # of one shape, so that their tables can be swapped


def model() -> nn.Module:
    torch.manual_seed(5)
    first, second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 144, 3))


def dataset() -> TensorDataset:
    data = torch.rand(10, 3, 12, 12, generator=torch.Generator().manual_seed(6))
    return TensorDataset(data, torch.arange(10) % 3)


def make(path: Path) -> Library:
    return crp.mine(
        model(),
        dataset(),
        layers=LAYERS,
        path=path,
        k=3,
        patches=2,
        vectors=True,
        patch_concepts={"0": range(4), "2": [0, 1, 2]},
        class_names=["ant", "bee", "wasp"],
        preprocessing=crp.Preprocessing(size=12, crop=12),
        source={"model": "net.py:make", "weights": None, "data": "photos", "command": ["crp", "mine", "net.py:make"]},
        progress=False,
    )
