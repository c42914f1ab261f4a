"""Tensors that a model overwrites, and reads again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from zennit.composites import EpsilonPlus, EpsilonPlusFlat

from crp.attribution import INPUT, OUTPUT, RelevanceFlow, composite_for, prepare
from crp.errors import InputError
from tests.oracle.comparing import assert_relevance_close


class PreActivation(nn.Module):
    """A block whose in-place activation changes what the skip connection adds."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.activation, self.head = activation, nn.Linear(4, 2)

    def forward(self, data: Tensor) -> Tensor:
        data = self.first(data)
        lower = self.second(self.activation(data))
        return self.head((data + lower).mean((2, 3)))


class SkipFirst(PreActivation):
    """The skip connection is read through a view."""

    def forward(self, data: Tensor) -> Tensor:
        data = self.first(data)
        seen = data.flatten(2)
        lower = self.second(self.activation(data))
        return self.head(lower.mean((2, 3)) + seen.mean(2))


@pytest.mark.parametrize("kind", [PreActivation, SkipFirst])
@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("layers, to_input", [([], True), (["first"], True), (["first"], False)])
def test_an_in_place_activation_changes_what_is_read_later(
    kind: type[nn.Module], ours: bool, layers: list[str], to_input: bool
) -> None:
    torch.manual_seed(1)
    in_place = kind(nn.ReLU(inplace=True)).double().eval()
    model = kind(nn.ReLU()).double().eval()
    model.load_state_dict(in_place.state_dict())
    data = torch.randn(2, 2, 5, 5, dtype=torch.float64)
    expected = in_place(data)
    assert not torch.allclose(expected, model(data))
    replica = prepare(in_place, composite_for(in_place).composite if ours else EpsilonPlus())
    for _ in range(2):
        with RelevanceFlow(replica, None, data, layers, to_input=to_input) as flow:
            assert flow.notes == ()
            assert_relevance_close(flow.prediction, expected, 1e-12)
            if ours and to_input:
                started = flow.output_relevance([0, 1])
                assert abs(flow.ledger(started).unaccounted) < 1e-9 * float(started.abs().sum())
    assert in_place.activation.inplace is True


def test_a_linear_layer_of_tokens_is_changed_in_place():
    """Its output is a view, which autograd does not let change if a function of its own returned it (timm's NaFlex)."""

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Linear(4, 5), nn.Linear(5, 2)
            self.position = nn.Parameter(torch.ones(1, 1, 5))

        def forward(self, data: torch.Tensor) -> torch.Tensor:
            tokens = self.embed(data)
            tokens.add_(self.position)
            return self.head(tokens.mean(1))

    torch.manual_seed(0)
    model, data = Tokens().double().eval(), torch.randn(2, 3, 4).double()
    with RelevanceFlow(model, composite_for(model).composite, data) as flow:
        assert torch.equal(flow.prediction, model(data))
        started = flow.output_relevance([0, 1])
        ledger = flow.ledger(started)
    assert abs(ledger.unaccounted) < 1e-12
    assert abs(ledger.by_module()[""]) > 1e-3  # the position, added by the model itself


class OverwritingByFunction(nn.Module):
    """Overwrites the output of a convolution in place, by a function."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.pool, self.second = nn.Conv2d(2, 3, 3), nn.MaxPool2d(2), nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 3)

    def forward(self, data: Tensor) -> Tensor:
        hidden = nn.functional.relu(self.second(self.pool(self.first(data).relu())), inplace=True)
        return self.head(hidden.mean((2, 3)))


@pytest.mark.parametrize("layers", [["second"], ["first", "second"], ["head"]])
def test_without_the_input_what_arrives_is_the_same(layers: list[str]) -> None:
    torch.manual_seed(0)
    model, data = OverwritingByFunction(), torch.randn(2, 2, 14, 14)
    found, lowest = [], layers[0]
    for to_input in (True, False):
        with RelevanceFlow(model, EpsilonPlusFlat(), data, layers, to_input=to_input) as flow:
            arriving = {}
            flow.sweep(flow.output_relevance([1, 2]), layers, arriving.__setitem__)
            assert flow.reaches(OUTPUT, lowest)
            assert flow.reaches(layers[-1], lowest) is (len(layers) == 2)
            blocked = flow.down(flow.output_relevance([1, 2]), to=lowest, blocked=[layers[-1]])
            found.append([flow.activation(layer) for layer in layers] + [*arriving.values(), blocked])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))
    refused = r"^This flow was opened without its input \(to_input=False\)\.$"
    with RelevanceFlow(model, EpsilonPlusFlat(), data, layers, to_input=False) as flow:
        for ask in (
            lambda: flow.down(flow.output_relevance([1, 2])),
            lambda: flow.up(torch.ones(1, 14, 14), lowest),
            lambda: flow.tensors(INPUT),
            lambda: flow.reaches(OUTPUT, INPUT),
        ):
            with pytest.raises(InputError, match=refused):
                ask()
