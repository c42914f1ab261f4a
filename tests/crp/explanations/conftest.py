"""A small network, its library and an image to explain."""

import pytest
import torch
from torch import nn

import crp
from crp.preprocessing import Preprocessing

NAMES = ["ant", "bee", "cat"]


class Pictures(torch.utils.data.Dataset):
    """Twelve noise pictures with labels."""

    preprocessing = Preprocessing(mean=0.5, std=0.25)

    def __init__(self, dtype):
        self.dtype = dtype

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return noise(index).to(self.dtype), index % 3


def noise(seed: int) -> torch.Tensor:
    return torch.randn(3, 12, 16, generator=torch.Generator().manual_seed(seed)).double()


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 48, 5),
        nn.ReLU(),
        nn.Linear(5, 3),
    ).double()


LAYERS = ["0", "3", "6"]


def mined(folder, model, **options):
    return crp.mine(
        model,
        Pictures(next(model.parameters()).dtype),
        layers=LAYERS,
        path=folder / "library.crp",
        k=3,
        patches=2,
        class_names=NAMES,
        preprocessing=Pictures.preprocessing,
        progress=False,
        **options,
    )


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture(scope="module")
def library(model, tmp_path_factory):
    return mined(tmp_path_factory.mktemp("mined"), model)


@pytest.fixture
def image():
    return noise(99)
