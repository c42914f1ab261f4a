"""Names and output shapes of layers."""

import torch
from torch import nn

from crp.attribution.layers import layer_names, output_shapes


def test_names_and_shapes():
    block = nn.Sequential(nn.Conv2d(2, 4, 2), nn.ReLU())
    model = nn.Sequential(nn.Conv2d(1, 2, 3), block, nn.Flatten(), nn.Linear(16, 3))
    assert layer_names(model) == ["0", "1.0", "3"]
    assert layer_names(model, [nn.ReLU]) == ["1.1"]
    assert output_shapes(model, torch.zeros(7, 1, 5, 5), ["1", "3"]) == {"1": (4, 2, 2), "3": (3,)}
