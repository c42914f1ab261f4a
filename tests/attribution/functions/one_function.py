"""What tests of functions share: a function as a model, and numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from crp.attribution import RelevanceFlow
from crp.attribution.observation import LinearCall
from crp.attribution.operation_composite import OperationComposite, network_kind
from tests.oracle.comparing import assert_relevance_close

RULES_FOR_LINEAR = OperationComposite(network_kind([LinearCall("", nn.Linear, False)]))


class Function(nn.Module):
    """A function as a model."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, data: Tensor) -> Tensor:
        return self.function(data)


def flow_through(function: Callable[[Tensor], Tensor], data: Tensor) -> RelevanceFlow:
    """Open a flow through a function of the data, which for its rules are not the model's input."""
    model = Function(lambda values: function(functional.leaky_relu(values, 1.0)))
    return RelevanceFlow(model, RULES_FOR_LINEAR, data, before_activation=False)


def generated(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def down(function: Callable[[Tensor], Tensor], data: list, relevance: list) -> list:
    """Relevance at the input of a function for relevance at its output, one sample."""
    with flow_through(function, torch.tensor([data], dtype=torch.float64)) as flow:
        arriving = flow.down(torch.tensor([[relevance]], dtype=torch.float64))
    return arriving[0, 0].tolist()


def assert_both_directions(flow: RelevanceFlow, data: Tensor, tolerance: float = 1e-12) -> None:
    """From "1" to the input `data`: several conditions at a time, `up` as the transpose of `down`, and the ledger."""
    shape = flow.activation("1").shape
    relevance, regions = generated(3, *shape), generated(3, *data.shape).flip(0)
    carried = flow.down(relevance, start="1")
    each = torch.cat([flow.down(relevance[k : k + 1], start="1") for k in range(3)])
    assert carried.any()
    assert_relevance_close(carried, each, 1e-12)
    lifted = flow.up(regions, "1")
    size = float((carried * regions).abs().sum())
    assert float((carried * regions).sum()) == pytest.approx(float((relevance * lifted).sum()), abs=1e-12 * size)
    ledger = flow.ledger(relevance[:1], start="1")
    size = float(relevance[0].abs().sum() + carried[0].abs().sum())
    assert abs(ledger.unaccounted) <= tolerance * size
