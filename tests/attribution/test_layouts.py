"""Layouts are observed from the functions that make a layer, and layers may be the inputs of modules."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from crp.attribution import RelevanceFlow, Replica, composite_for, prepare
from crp.concepts import Layout
from crp.errors import InputError
from tests.crp.concepts.small_nets import Transformer, data, made


def layout(model: nn.Module, sample: torch.Tensor, layer: str) -> Layout:
    with RelevanceFlow(model, None, sample, [layer]) as flow:
        return flow.layout(layer)


class Square(nn.Module):
    """Channels last, with as many channels as rows and columns: sizes say nothing."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.last, self.conv, self.mixed, self.block = last, nn.Conv2d(1, 4, 1), nn.Linear(4, 4), nn.Identity()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        values = self.conv(values)
        if self.last:
            values = values.movedim(1, 3)
            return self.block(values + self.mixed(values)).mean((1, 2))
        return self.block(values).mean((2, 3))


@pytest.mark.parametrize("last", [False, True])
def test_a_given_layout_holds_for_inputs_of_any_size(last):
    given = {"block": Layout((4, 4, 4), last)}
    with RelevanceFlow(Square(last), None, torch.rand(2, 1, 3, 5), ["block"], layouts=given) as flow:
        assert flow.layout("block") == Layout((3, 5, 4) if last else (4, 3, 5), last)


def test_a_grid_of_tokens_does_not_follow_from_their_number():
    tokens = Layout((17, 8), last=True, grid=(4, 4), prefix=1)
    assert tokens.at((17, 8)) == tokens
    assert tokens.at((26, 8)) is None


@pytest.mark.parametrize("last", [False, True])
def test_the_axis_of_channels_follows_from_functions_not_from_sizes(last):
    assert layout(Square(last), torch.rand(1, 1, 4, 4), "block") == Layout((4, 4, 4), last)


@pytest.mark.parametrize(
    ("size", "grid"), [((8, 8), (2, 2)), ((8, 16), (2, 4)), ((16, 4), (4, 1))], ids=["square", "wide", "high"]
)
def test_tokens_lie_on_the_grid_of_the_convolution_that_made_them(size, grid):
    model, sample = made(Transformer), torch.rand(1, 3, *size).double()
    found = layout(model, sample, "high")
    assert found == Layout((1 + grid[0] * grid[1], 6), True, grid, 1)
    assert found.place(0) is None
    assert found.place(1 + grid[1] - 1) == (0, grid[1] - 1)


def test_the_input_of_a_module_is_a_layer_and_relevance_there_is_what_its_rule_gives():
    model, samples = made(Transformer), data(2)
    with RelevanceFlow(model, None, samples, ["high", "high..input", "mlp.2..input", "mlp.1"]) as flow:
        start = flow.output_relevance([1])
        found = flow.down(start, to=["high", "high..input", "mlp.2..input", "mlp.1"])
        torch.testing.assert_close(found["high"], found["high..input"], rtol=0, atol=0)
        torch.testing.assert_close(found["mlp.1"], found["mlp.2..input"], rtol=0, atol=0)
        torch.testing.assert_close(flow.activation("mlp.1"), flow.activation("mlp.2..input"), rtol=0, atol=0)
        assert flow.layers == ("mlp.1", "mlp.2..input", "high..input", "high")
    with pytest.raises(InputError, match=r"^The model has no layer 'mpl': did you mean 'mlp'"):
        RelevanceFlow(model, None, samples, ["mpl..input"])


@pytest.mark.parametrize("rules", ["composite_for", "none"])
def test_what_one_pass_showed_is_kept_for_layers_that_are_asked_for_later(rules, monkeypatch):
    model, samples, passes = made(Transformer), data(2), []
    expected = {layer: layout(model, samples, layer) for layer in ("mlp", "high")}
    observe = Replica.observe
    monkeypatch.setattr(Replica, "observe", lambda *given: passes.append(given[2:]) or observe(*given))
    replica = prepare(model, composite_for(model, samples).composite if rules == "composite_for" else None)
    for layer in ("mlp", "high", "high"):
        with RelevanceFlow(replica, None, samples, [layer]) as flow:
            assert flow.layout(layer) == expected[layer]
    # without rules a layer is observed when it is asked for
    assert len(passes) == (1 if rules == "composite_for" else 2)


def test_layouts_that_do_not_fit_their_shape_are_refused():
    with pytest.raises(InputError, match=r"has 5 positions, but 2 in front of a grid \[2, 2\] are 6\.$"):
        Layout((5, 6), True, (2, 2), 2)


class OfSteps(nn.Module):
    """Makes 5 channels of 6 at each of 18 steps of a signal."""

    def __init__(self, function) -> None:
        super().__init__()
        self.conv, self.block = nn.Conv1d(3, 6, 3), Block(function)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.block(self.conv(values).transpose(1, 2)).mean(1)


class Block(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function, self.weight = function, nn.Parameter(torch.rand(6, 5))
        self.recurrent = nn.GRU(6, 5, batch_first=True)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.function(self, values)


def split(block: Block, x: torch.Tensor) -> torch.Tensor:
    return nn.functional.linear(x, torch.cat([block.weight, block.weight], 1).T)


STEPS = {
    "recurrent": lambda block, x: block.recurrent(x)[0],
    "product": lambda block, x: x @ block.weight,
    "einsum": lambda block, x: torch.einsum("ntc,cd->ntd", x, block.weight),
    "rows of a matrix": lambda block, x: (x.reshape(-1, 6) @ block.weight).view(len(x), -1, 5),
    "part": lambda block, x: split(block, x).chunk(2, -1)[0] * 2,
    "gated": lambda block, x: nn.functional.glu(split(block, x)),
    "sliced": lambda block, x: split(block, x)[..., :5],
    "mean of heads": lambda block, x: torch.stack([x @ block.weight, x @ block.weight], 1).mean(1),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps_are_no_channels_where_the_number_of_channels_changes(name):
    """Of a signal, an output `[N, T, C]` looks like one with the channels first: each step was taken for a concept."""
    assert layout(OfSteps(STEPS[name]), torch.rand(2, 3, 20), "block") == Layout((18, 5), True, (18,))


def test_as_many_steps_as_channels():
    assert layout(OfSteps(STEPS["rows of a matrix"]), torch.rand(2, 3, 7), "block") == Layout((5, 5), True, (5,))


def test_a_norm_of_samples_without_space_makes_no_map():
    net = nn.Sequential(nn.Linear(7, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)).eval()
    assert layout(net, torch.rand(2, 7), "1") == Layout((6,))
