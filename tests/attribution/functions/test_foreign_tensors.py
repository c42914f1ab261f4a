"""Tensors with a gradient of their own, such as stored views of weights, are constants like the weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from crp.attribution import RelevanceFlow, composite_for
from tests.oracle.comparing import assert_relevance_close

DATA = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Net(nn.Module):
    """A convolution, and a product with a tensor that is kept in one of several ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 4, 3).double(), nn.Linear(4, 3).double()
        self.weight, self.how = nn.Parameter(torch.randn(16, dtype=torch.float64)), how
        own = (self.weight * 2).view(4, 4)
        self.kept = own if how == "an attribute" else [own] if how == "a list" else None
        self.leaf = torch.randn(4, dtype=torch.float64, requires_grad=True)
        self.function = lambda: own

    def forward(self, data: Tensor) -> Tensor:
        return self.head(self.mixed(functional.relu(self.conv(data)).mean((2, 3))))

    def mixed(self, values: Tensor) -> Tensor:
        if self.how == "as it is needed":
            return values @ (self.weight * 2).view(4, 4)
        if self.how == "in a sum":
            return values + self.leaf
        if self.how == "in a joined tensor":
            return torch.stack([values, self.leaf.expand_as(values)]).prod(0)
        if self.how == "in place":
            return values.clone().mul_(self.leaf)
        kept = self.function() if self.how == "a function" else self.kept
        return values @ (kept[0] if isinstance(kept, list) else kept)


WAYS = ["an attribute", "a list", "a function", "as it is needed", "in a sum", "in a joined tensor", "in place"]


@pytest.mark.parametrize("layers", [[], ["conv"]])
@pytest.mark.parametrize("how", WAYS)
def test_a_weight_gets_no_relevance_however_it_is_kept(how, layers):
    """The rules see the same model as with its weights frozen, of which views have no gradient."""
    model, frozen = Net(how).eval(), Net(how).eval()
    frozen.requires_grad_(False)
    frozen.leaf.requires_grad_(False)
    with torch.no_grad():
        own = (frozen.weight * 2).view(4, 4)
    frozen.kept = own if how == "an attribute" else [own] if how == "a list" else None
    frozen.function = lambda: own
    found = []
    for each in (model, frozen):
        with RelevanceFlow(each, composite_for(each, DATA).composite, DATA, layers) as flow:
            start = flow.output_relevance([1])
            ledger = flow.ledger(start)
            assert abs(ledger.unaccounted) <= 1e-9 * abs(ledger.started)
            found.append((flow.prediction, flow.down(start), *(flow.down(start, to=layer) for layer in layers)))
            assert flow.notes == () or how == "in a joined tensor"
    for ours, expected in zip(*found, strict=True):
        assert_relevance_close(ours, expected, 1e-12)


def test_a_flow_that_starts_at_a_layer_knows_what_comes_of_it():
    model = Net("an attribute").eval()
    composite = composite_for(model, DATA).composite
    arriving = []
    for to_input in (True, False):
        with RelevanceFlow(model, composite, DATA, ["conv"], to_input=to_input) as flow:
            arriving.append(flow.down(flow.output_relevance([1]), to="conv"))
    assert float(arriving[0].abs().sum()) > 0
    assert_relevance_close(arriving[1], arriving[0], 1e-12)
