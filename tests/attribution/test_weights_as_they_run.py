"""Layers whose weights are made when they run: functions, parametrizations, pruning, standardisation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

from crp.attribution import RelevanceFlow, composite_for
from tests.oracle.comparing import assert_relevance_close

DATA = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(5))


class Standardized(nn.Conv2d):
    """A convolution whose weights are standardised in `forward`."""

    def forward(self, data: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return functional.conv2d(data, weight, self.bias, self.stride, self.padding)


class Functional(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, data: Tensor) -> Tensor:
        if self.weight.ndim == 2:
            return functional.linear(data, self.weight, self.bias)
        return functional.conv2d(data, self.weight, self.bias, padding=1)


def pruned(layer: nn.Module) -> nn.Module:
    prune.l1_unstructured(layer, "weight", amount=0.5)
    return layer


OTHER_LAYERS = {
    "functions": Functional,
    "weight norm": parametrizations.weight_norm,
    "old weight norm": lambda layer: nn.utils.weight_norm(layer),
    "orthogonal": parametrizations.orthogonal,
    "spectral norm": parametrizations.spectral_norm,
    "pruned": pruned,
}


@pytest.mark.parametrize("kind", OTHER_LAYERS)
@pytest.mark.filterwarnings("ignore::FutureWarning")  # old weight norm
def test_weights_as_they_are_when_they_run(kind: str) -> None:
    """A layer of any form has the relevance of a plain layer with the same weights."""

    def build() -> nn.Sequential:
        torch.manual_seed(2)
        layers = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Flatten()
        return nn.Sequential(*layers, nn.Linear(144, 3)).double().eval()

    model, reference = build(), build()
    for index in (0, 2, 5):
        model[index] = OTHER_LAYERS[kind](model[index]).eval()
    data = DATA.double()
    model(data)
    with torch.no_grad():
        for index in (0, 2, 5):
            reference[index].weight.copy_(model[index].weight)
    heatmaps = []
    for net in (model, reference):
        with RelevanceFlow(net, composite_for(net, data).composite, data, ["2"]) as flow:
            assert_relevance_close(flow.prediction, net(data), 1e-12)
            relevance = flow.down(flow.output_relevance([0, 1]), to="2")
            each = relevance * torch.eye(4, dtype=torch.float64)[:, None, :, None, None]
            heatmaps.append(flow.down(each, start="2"))
    assert_relevance_close(*heatmaps, 1e-10)


def test_a_convolution_with_standardised_weights() -> None:
    torch.manual_seed(0)
    layers = Standardized(3, 4, 3, padding=1), nn.ReLU(), Standardized(4, 4, 3), nn.Flatten(), nn.Linear(64, 2)
    model, data = nn.Sequential(*layers).double().eval(), DATA.double()
    with RelevanceFlow(model, composite_for(model).composite, data) as flow:
        assert_relevance_close(flow.prediction, model(data), 1e-12)
        assert flow.notes == ()
