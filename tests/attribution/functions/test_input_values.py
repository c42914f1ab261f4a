"""Preprocessing inside a model: the heatmap is that of the model without it, for preprocessed input."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from crp.attribution import RelevanceFlow, composite_for
from tests.oracle.comparing import assert_relevance_close

from .one_function import Function, generated

MEAN, DEVIATION = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1).double(), torch.tensor([0.2, 0.3, 0.25]).view(3, 1, 1)
DATA = generated(2, 3, 6, 6).sigmoid()
NORM = nn.BatchNorm2d(3).double().eval()
with torch.no_grad():
    NORM.running_mean.copy_(MEAN.flatten())
    NORM.running_var.copy_(DEVIATION.flatten() ** 2)
    NORM.bias.copy_(torch.tensor([0.1, -0.2, 0.3]))


def in_place(x: Tensor) -> Tensor:
    x = x.clone()
    x.sub_(MEAN).div_(DEVIATION)
    return x


def each_channel(x: Tensor) -> Tensor:
    """As `transform_input` of torchvision's Inception v3."""
    return torch.cat([x[:, place].unsqueeze(1) * (2.0 + place) + (0.3 - place) for place in range(3)], 1)


PREPROCESSING: dict[str, Callable[[Tensor], Tensor]] = {
    "mean and deviation": lambda x: (x - MEAN) / DEVIATION,
    "in place": in_place,
    "in place, chained": lambda x: x.clone().sub_(MEAN).div_(DEVIATION),
    "from -1 to 1": lambda x: 2 * x - 1,
    "inverted": lambda x: 1 - x,
    "turned, in other units": lambda x: torch.rsub(x.permute(0, 1, 3, 2).reshape(2, 3, 6, 6) * 255, 127.0),
    "each channel": each_channel,
    "batch norm": NORM,
    "twice": lambda x: torch.stack([*((x - 0.3) * 2).unbind(1)], 1) - MEAN,
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    return net.double()


@pytest.mark.parametrize("rules", ["by-purpose-gamma", "epsilon-plus-flat"])
@pytest.mark.parametrize("name", PREPROCESSING)
def test_the_heatmap_is_that_of_preprocessed_input(name: str, rules: str) -> None:
    prepare, net = PREPROCESSING[name], network()
    whole = nn.Sequential(Function(prepare), *net)
    with RelevanceFlow(net, composite_for(net, rules=rules).composite, prepare(DATA), ["3"]) as flow:
        started = flow.output_relevance([0, 1])
        expected, ranked = flow.down(started), flow.down(started, to="3")
        assert float(expected.abs().max()) > 0.1
    with RelevanceFlow(whole, composite_for(whole, DATA, rules=rules).composite, DATA, ["4"]) as flow:
        assert flow.first_order is False
        found, ledger = flow.down(started), flow.ledger(started)
        assert_relevance_close(flow.down(started, to="4"), ranked, 1e-10)
    if "turned" in name:
        found = found.mT
    assert_relevance_close(found, expected, 1e-10)
    assert abs(ledger.unaccounted) < 1e-10
    assert not [entry for entry in ledger.entries if entry.module == "0" and abs(entry.absorbed) > 1e-12]


def test_a_shift_by_the_data_or_of_a_layer_shares_in_proportion() -> None:
    """5 = 8 - 3 sends 8/5 of its relevance to 8; the rest ends at the constant, which the ledger says."""
    net = nn.Sequential(nn.Linear(1, 1, bias=False), Function(lambda x: x - 3), nn.Linear(1, 2, bias=False)).double()
    with torch.no_grad():
        net[0].weight.fill_(4)
    with RelevanceFlow(net, composite_for(net).composite, torch.tensor([[2.0]]).double(), ["0"]) as flow:
        started = torch.tensor([[[1.0, 0.0]]]).double()
        for layer in ("0", "(input)"):
            assert float(flow.down(started, to=layer)) == pytest.approx(1.6, rel=1e-4)
        assert flow.ledger(started).by_module()["1"] == pytest.approx(-0.6, rel=1e-4)
    with RelevanceFlow(
        Function(lambda x: x - x.mean(1, keepdim=True)), composite_for(net).composite, torch.tensor([[8.0, 2.0]])
    ) as flow:
        # 3 = 8 - 5, where 5 is half of 8 and half of 2
        found = flow.down(torch.tensor([[[3.0, 0.0]]]))
        assert found.flatten().tolist() == pytest.approx([4.0, -1.0], rel=1e-4)


def test_what_was_overwritten_is_no_longer_the_input() -> None:
    def mixed(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, :1] = x[:, 1:2] * x[:, 2:]
        return x - 0.5

    net, data = nn.Sequential(Function(mixed), *network()), DATA
    with RelevanceFlow(net, composite_for(net, data).composite, data) as flow:
        ledger = flow.ledger(flow.output_relevance([0, 1]))
    assert any(abs(entry.absorbed) > 0.1 for entry in ledger.entries if entry.operation == "sub")
