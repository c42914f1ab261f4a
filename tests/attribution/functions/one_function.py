"""What tests of functions share: a function as a model, and numbers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from crp.attribution import RelevanceFlow
from crp.attribution.observation import LinearCall
from crp.attribution.operation_composite import OperationComposite, network_kind

RULES_FOR_LINEAR = OperationComposite(network_kind([LinearCall("", nn.Linear, False)]))


class Function(nn.Module):
    """A function as a model."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, data: Tensor) -> Tensor:
        return self.function(data)


def flow_through(function: Callable[[Tensor], Tensor], data: Tensor) -> RelevanceFlow:
    return RelevanceFlow(Function(function), RULES_FOR_LINEAR, data, before_activation=False)


def generated(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def down(function: Callable[[Tensor], Tensor], data: list, relevance: list) -> list:
    """Relevance at the input of a function for relevance at its output, one sample."""
    with flow_through(function, torch.tensor([data], dtype=torch.float64)) as flow:
        arriving = flow.down(torch.tensor([[relevance]], dtype=torch.float64))
    return arriving[0, 0].tolist()
