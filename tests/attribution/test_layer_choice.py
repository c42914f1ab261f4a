"""Which layers are on every path, and which are mined by default."""

import copy

import pytest
import torch
from torch import nn
from torchvision import models

from crp.attribution.layer_choice import observed_layers


def chosen(model, *shape):
    found = observed_layers(model.eval(), torch.randn(1, *shape, generator=torch.Generator().manual_seed(0)))
    return [layer.name for layer in found if layer.chosen]


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.one, self.two = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, data):
        return self.relu(self.two(self.relu(self.one(data))) + data)


class Net(nn.Module):
    """Two stages; the second one is registered first, a head that is never called, a gate that bypasses nothing."""

    def __init__(self):
        super().__init__()
        self.high = nn.Sequential(Residual(4), Residual(4))
        self.low = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), Residual(4))
        self.unused = nn.Conv2d(3, 4, 3)
        self.shared = nn.Identity()
        self.head = nn.Linear(4, 5)

    def forward(self, data):
        data = self.shared(nn.functional.max_pool2d(self.shared(self.low(data)), 2))
        return self.head(self.high(data).mean((2, 3)))


def test_the_trunk_and_what_cannot_be_mined():
    model = Net().eval()
    before = copy.deepcopy(model.state_dict())
    layers = {layer.name: layer for layer in observed_layers(model, torch.rand(1, 3, 8, 8))}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert "unused" not in layers
    trunk = {name for name, layer in layers.items() if layer.trunk}
    assert trunk == {"low.0", "low.1", "low", "high.0", "high.1", "high", "head", "shared"}
    assert layers["shared"].obstacle == layers["low.1.relu"].obstacle == "it is called more than once"
    assert layers["high.0.one"].obstacle == ""
    assert [name for name, layer in layers.items() if layer.chosen] == ["low", "high"]
    assert [name for name in layers if name in ("low", "high", "head")] == ["low", "high", "head"]  # as they run


class Tokens(nn.Module):
    """A transformer whose blocks return tensors, with a class token."""

    def __init__(self, blocks):
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 4, 4)
        self.token = nn.Parameter(torch.ones(1, 1, 6))
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True) for _ in range(blocks))
        self.head = nn.Linear(6, 3)

    def forward(self, data):
        data = self.patches(data).flatten(2).transpose(1, 2)
        data = torch.cat([self.token.expand(len(data), -1, -1), data], 1)
        for block in self.blocks:
            data = block(data)
        return self.head(data[:, 0])


@pytest.mark.parametrize(
    ("blocks", "expected"), [(2, [0, 1]), (4, [0, 1, 2, 3]), (6, [0, 2, 3, 5]), (12, [2, 5, 8, 11])]
)
def test_blocks_of_a_single_stage_are_chosen_at_even_distances(blocks, expected):
    assert chosen(Tokens(blocks), 3, 16, 16) == [f"blocks.{index}" for index in expected]


class Aggregated(Tokens):
    """Two tokens are joined by a convolution along the tokens, as class tokens of several scales are."""

    def __init__(self):
        super().__init__(2)
        self.aggregate = nn.Conv1d(2, 1, 1)

    def forward(self, data):
        data = self.patches(data).flatten(2).transpose(1, 2)
        for block in self.blocks:
            data = block(data)
        return self.head(self.aggregate(data[:, :2])[:, 0])


def test_a_layer_of_one_channel_is_not_chosen():
    assert chosen(Aggregated(), 3, 16, 16) == ["blocks.0", "blocks.1"]


def test_layers_of_a_net_without_space():
    net = nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Sequential(nn.Linear(6, 5), nn.ReLU()), nn.Linear(5, 3))
    assert chosen(net, 7) == ["0", "2.0"]
    assert chosen(nn.Sequential(nn.Linear(7, 3)), 7) == []


@pytest.mark.parametrize(
    ("name", "size", "layers"),
    [
        ("resnet18", 64, ["layer1", "layer2", "layer3", "layer4"]),
        ("vgg11", 64, ["features.3", "features.8", "features.13", "features.18"]),
        ("squeezenet1_1", 96, ["features.0", "features.4", "features.7", "features.12"]),
        ("mobilenet_v2", 96, ["features.3", "features.6", "features.13", "features.18"]),
        ("densenet121", 96, [f"features.denseblock{number}" for number in (1, 2, 3, 4)]),
        ("convnext_tiny", 64, ["features.1", "features.3", "features.5", "features.7"]),
        ("swin_t", 64, ["features.1", "features.3", "features.5", "features.7"]),
        ("vit_b_32", 224, [f"encoder.layers.encoder_layer_{number}" for number in (2, 5, 8, 11)]),
    ],
)
def test_layers_of_published_networks(name, size, layers):
    assert chosen(models.get_model(name), 3, size, size) == layers
