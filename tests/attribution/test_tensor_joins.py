"""What is joined or stacked inside a flow has torch's values, and both directions of relevance."""

import pytest
import torch
from torch import nn
from zennit.composites import LayerMapComposite
from zennit.rules import Epsilon, Pass
from zennit.types import Activation, Linear

from crp.attribution import RelevanceFlow
from crp.attribution.tensor_joins import FastJoins
from tests.oracle.comparing import assert_relevance_close

COMPOSITE = LayerMapComposite([(Activation, Pass()), (Linear, Epsilon())])


class Fire(nn.Module):
    """Two convolutions side by side, their outputs and the input joined along an axis given either way."""

    def __init__(self, axis: int, join=torch.cat) -> None:
        super().__init__()
        self.one, self.three = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 4, 3, padding=1)
        self.axis, self.join = axis, join

    def forward(self, data):
        return self.join([self.one(data), self.three(data), data], self.axis)


def network(axis: int = 1, join=torch.cat) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(Fire(axis, join), nn.ReLU(), nn.Flatten(), nn.Linear(9 * 25, 3)).double()


def zennit_heatmap(model: nn.Module, data: torch.Tensor, target: int) -> torch.Tensor:
    with COMPOSITE.context(model) as ruled:
        data = data.clone().requires_grad_()
        output = ruled(data)
        start = torch.zeros_like(output)
        start[:, target] = output.detach()[:, target]
        return torch.autograd.grad(output, data, start)[0]


@pytest.mark.parametrize("join", [torch.cat, torch.concat, torch.concatenate])
@pytest.mark.parametrize("axis", [1, -3])
def test_what_is_joined_is_carried_down_as_by_zennit(axis, join):
    data = torch.randn(2, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with RelevanceFlow(network(axis, join), COMPOSITE, data) as flow:
        together = flow.down(torch.cat([flow.output_relevance([target] * 2) for target in range(3)]))
        alone = flow.down(flow.output_relevance([1, 1]))
    for target in range(3):
        assert_relevance_close(together[target], zennit_heatmap(network(axis, join), data, target), 1e-12)
    assert_relevance_close(alone[0], together[1], 1e-12)


def test_what_is_joined_is_carried_up_by_the_transpose():
    data = torch.randn(1, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with RelevanceFlow(network(), COMPOSITE, data, ["0"]) as flow:
        relevance = torch.randn(3, *flow.activation("0").shape, dtype=torch.float64)
        regions = torch.randn(4, 5, 5, dtype=torch.float64)
        down, up = flow.down(relevance, start="0"), flow.up(regions, "0")
    assert_relevance_close(
        up.flatten(1) @ relevance.flatten(1).T, torch.einsum("rhw,kchw->rk", regions, down[:, 0]), 1e-10
    )


def test_one_part_alone_may_differ_between_conditions():
    fixed, values = torch.ones(2, 3), torch.arange(8.0).view(4, 2, 1)

    def joined(part):
        with FastJoins():
            return torch.cat([part, fixed], dim=1)

    torch.testing.assert_close(
        torch.vmap(joined)(values), torch.cat([values, fixed.expand(4, 2, 3)], -1), rtol=0, atol=0
    )


def test_stacked_parts_lie_apart_in_memory():
    parts = [torch.ones(2, 3), torch.zeros(2, 3)]
    with FastJoins():
        stacked = torch.stack(parts, dim=-1)
    assert torch.equal(stacked, torch.stack(parts, -1))
    assert stacked.unbind(-1)[0].is_contiguous()
