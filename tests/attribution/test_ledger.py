"""Where relevance leaves a tenth to three times of what started: small nets, computed by hand."""

import pytest
import torch
from torch import nn

from crp.attribution import RelevanceFlow, composite_for
from crp.attribution.ledger import Departure, Entry, Ledger, combined


def linear(weight, bias):
    layer = nn.Linear(1, 1)
    with torch.no_grad():
        layer.weight.fill_(weight), layer.bias.fill_(bias)
    return layer


class Residual(nn.Module):
    """`x + f(x)`, with a constant that the model adds itself."""

    def __init__(self, bias, constant):
        super().__init__()
        self.branch, self.constant = linear(1.0, bias), nn.Parameter(torch.tensor(constant))

    def forward(self, data):
        return data + self.branch(data) + self.constant


def ledger_of(model):
    """Explain the output of a net for the input 1."""
    model, data = model.double(), torch.ones(1, 1, dtype=torch.float64)
    with RelevanceFlow(model, composite_for(model, data).composite, data) as flow:
        return flow.ledger(flow.output_relevance([0]))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        # 2 of 19 are left below the last layer, more than a tenth, and 1.5 below the one before
        (nn.Sequential(linear(1.5, 0.5), nn.Identity(), linear(1.0, 17.0)), Departure("0", "Linear", 1.5 / 19)),
        # 1 - 0.75 = 0.25: the bias speaks against the input, which gets four times the output
        (nn.Sequential(linear(1.0, 0.0), linear(1.0, -0.75)), Departure("1", "Linear", 4.0)),
        # 1 - 1.2 = -0.2: five times the output, with the other sign
        (nn.Sequential(linear(1.0, -1.2)), Departure("0", "Linear", -5.0)),
        # 1 + (1 + 7) = 9: a ninth passes the branch, and a ninth bypasses it
        (Residual(7.0, 0.0), None),
        # 1 + (1 + 27) + 11 = 40: 29 are left below the constant, 2 below the branch
        (Residual(27.0, 11.0), Departure("branch", "Linear", 2 / 40)),
        (Residual(0.0, 28.0), Departure("", "add", 2 / 30)),
    ],
    ids=["lost in two steps", "amplified", "turned", "two paths", "lost in a branch", "lost in a constant"],
)
def test_departure_by_hand(model, expected):
    found = ledger_of(model).departure()
    assert (found is None) == (expected is None)
    if expected is not None:
        assert (found.module, found.operation) == (expected.module, expected.operation)
        assert found.left == pytest.approx(expected.left, rel=1e-4)


def test_nothing_started():
    assert Ledger(0.0, 0.0, (Entry("0", "Linear", 0.0),)).departure() is None


def test_ledgers_of_several_passes_add_up_in_the_order_of_the_pass():
    """The second pass took a way through `b`, and called `a` twice."""
    first = Ledger(10.0, 6.0, (Entry("c", "Linear", 3.0), Entry("a", "Linear", 1.0)))
    second = Ledger(
        5.0,
        0.5,
        (Entry("c", "Linear", 1.0), Entry("b", "add", 2.0), Entry("a", "Linear", 0.5), Entry("a", "Linear", 1.0)),
    )
    both = combined([first, second])
    assert both == Ledger(
        15.0,
        6.5,
        (Entry("c", "Linear", 4.0), Entry("b", "add", 2.0), Entry("a", "Linear", 1.5), Entry("a", "Linear", 1.0)),
    )
    assert combined([second, first]).entries == both.entries
    assert both.unaccounted == 0


@pytest.mark.parametrize(("value", "absorbed"), [(1.0, 1e-6), (0.01, 0.5)])
def test_a_power_mean_conserves_relevance_up_to_the_stabiliser_of_its_mean(value, absorbed):
    """GeM pooling: the stabiliser is 1e-6, as much as the cube of 0.01, and then takes half of the relevance."""

    class PowerMean(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = linear(value, 0.0)

        def forward(self, data):
            return self.first(data).clamp(min=1e-6).pow(3).mean(1, keepdim=True).pow(1 / 3)

    ledger = ledger_of(PowerMean())
    entries = {entry.operation: entry.absorbed / ledger.started for entry in ledger.entries}
    assert ledger.started == pytest.approx(value)
    assert entries["mean"] == pytest.approx(absorbed, rel=1e-5)
    assert entries["pow"] == entries["clamp"] == 0
    assert ledger.arrived / ledger.started == pytest.approx(1 - absorbed, rel=1e-3)
