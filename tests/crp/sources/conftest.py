"""Model files and folders of pictures for these tests."""

import textwrap

import pytest
from PIL import Image

NET = textwrap.dedent(
    """
    import torch
    from torch import nn

    def make():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))

    class Pairs:
        classes = ["one", "two", "three"]

        def __len__(self):
            return 4

        def __getitem__(self, index):
            return torch.full((3, 8, 8), float(index)), index % 3

    ready = make()
    """
)


@pytest.fixture
def net(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    return f"{tmp_path / 'net.py'}:make"


def saved_pictures(folder, names):
    for value, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (value, 0, 0)).save(folder / name)
