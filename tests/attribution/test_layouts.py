"""Layouts are observed from the functions that make a layer, and layers may be the inputs of modules."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import pad

from crp.attribution import RelevanceFlow, Replica, composite_for, prepare
from crp.attribution.copies import replicate
from crp.attribution.layouts import layouts_followed
from crp.attribution.observation import observe
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


class Ordered(nn.Module):
    """Tokens of a feature map of 4 x 6, in an order of their own, in a block."""

    def __init__(self, order) -> None:
        super().__init__()
        self.conv, self.mixed, self.block, self.order = nn.Conv2d(3, 8, 2, 2), nn.Linear(8, 5), nn.Identity(), order
        self.token, self.joining = nn.Parameter(torch.rand(1, 1, 5)), nn.Conv1d(2, 1, 1)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        tokens = self.mixed(self.conv(values).flatten(2).transpose(1, 2)) + self.token
        return self.block(self.order(self, tokens)).flatten(1).sum(1, keepdim=True)


def windows(tokens: torch.Tensor) -> torch.Tensor:
    """Order tokens by windows of 2 x 2."""
    return tokens.view(-1, 2, 2, 3, 2, 5).permute(0, 1, 3, 2, 4, 5).reshape(len(tokens), 24, 5)


def no_windows(tokens: torch.Tensor) -> torch.Tensor:
    return tokens.view(-1, 2, 3, 2, 2, 5).permute(0, 1, 3, 2, 4, 5).reshape(len(tokens), 24, 5)


def attended(tokens: torch.Tensor) -> torch.Tensor:
    """Attend to what lies in the same window, as Swin does."""
    inside = windows(tokens).view(-1, 4, 1, 5).transpose(1, 2)
    mixed = nn.functional.scaled_dot_product_attention(inside, inside, inside)
    return tokens + no_windows(mixed.transpose(1, 2).reshape(-1, 4, 5).view(-1, 24, 5))


def gathered(tokens: torch.Tensor) -> torch.Tensor:
    """Make feature maps in which the pixels of a window are rows, as MobileViT v2 does."""
    maps = tokens.transpose(1, 2).reshape(-1, 5, 2, 2, 3, 2).permute(0, 1, 3, 5, 2, 4)
    return nn.functional.conv2d(maps.reshape(-1, 5, 4, 6), torch.ones(5, 5, 1, 1))


def mapped(tokens: torch.Tensor) -> torch.Tensor:
    """Make a feature map again, and one of that."""
    return nn.functional.avg_pool2d(tokens.mT.unflatten(2, (4, 6)), 1)


def attended_by_columns(tokens: torch.Tensor) -> torch.Tensor:
    """Attend with a tensor `[N, 1, T, 1]` on the way, which looks like a feature map of T x 1."""
    query = tokens.mean(-1).view(-1, 1, 24, 1)
    return tokens + nn.functional.max_pool2d(query, 1).view(-1, 24, 1)


ORDERS = {
    "as on the map": (lambda net, x: x, Layout((24, 5), True, (4, 6))),
    "by windows": (lambda net, x: windows(x), Layout((24, 5), True, ())),
    "and back": (lambda net, x: no_windows(windows(x)), Layout((24, 5), True, (4, 6))),
    "attention in windows": (lambda net, x: attended(x), Layout((24, 5), True, (4, 6))),
    "windows pooled": (lambda net, x: windows(x).view(-1, 6, 4, 5).amax(2), Layout((6, 5), True, (2, 3))),
    "halves of windows pooled": (lambda net, x: windows(x).view(-1, 12, 2, 5).mean(2), Layout((12, 5), True, ())),
    "larger of two": (lambda net, x: x.max(net.token), Layout((24, 5), True, (4, 6))),
    "seen as other numbers": (
        lambda net, x: x + x.detach().view(torch.int32), Layout((24, 5), True, (4, 6))
    ),
    "pixels of windows as rows": (lambda net, x: gathered(x), Layout((5, 4, 6), False, ())),
    "as on a map again": (lambda net, x: x.transpose(1, 2).unflatten(2, (4, 6)), Layout((5, 4, 6))),
    "rows and columns mixed up": (lambda net, x: x.transpose(1, 2).unflatten(2, (6, 4)), Layout((5, 6, 4), False, ())),
    "rolled": (lambda net, x: x.roll(1, 1), Layout((24, 5), True, ())),
    "backwards": (lambda net, x: x.flip(1), Layout((24, 5), True, ())),
    "every other row": (lambda net, x: x.unflatten(1, (4, 6))[:, ::2].flatten(1, 2), Layout((12, 5), True, (2, 6))),
    "a token in front": (
        lambda net, x: torch.cat([net.token.expand(len(x), -1, -1), x], 1), Layout((25, 5), True, (4, 6), 1)
    ),
    "a token at the end": (
        lambda net, x: torch.cat([x, net.token.expand(len(x), -1, -1)], 1), Layout((25, 5), True, ())
    ),
    "a token alone": (
        lambda net, x: torch.cat([net.token, x], 1)[:, :1] * x[:, :1], Layout((1, 5), True, ())
    ),
    "a zero in front": (lambda net, x: pad(x, (0, 0, 1, 0)), Layout((25, 5), True, (4, 6), 1)),
    "a zero at the end": (lambda net, x: pad(x, (0, 0, 0, 1)), Layout((25, 5), True, ())),
    "moved on by a border": (lambda net, x: pad(x, (0, 0, 1, -1)), Layout((24, 5), True, ())),
    "padded with others": (lambda net, x: pad(x.mT, (1, 0), "replicate").mT, Layout((25, 5), True, ())),
    "padded channels": (lambda net, x: pad(x, (0, 2)), Layout((24, 7), True, (4, 6))),
    "padded and cropped": (
        lambda net, x: pad(x.unflatten(1, (4, 6)), (0, 0, 0, 2, 0, 2))[:, :4, :6].flatten(1, 2),
        Layout((24, 5), True, (4, 6)),
    ),
    "pooled behind a border and cropped": (
        lambda net, x: nn.functional.max_pool2d(
            pad(x.unflatten(1, (4, 6)), (0, 0, 0, 2, 0, 4)).movedim(3, 1), 2
        ).movedim(1, 3)[:, :2, :3].flatten(1, 2),
        Layout((6, 5), True, (2, 3)),
    ),
    "a map with a border": (lambda net, x: pad(mapped(x), (1, 1, 0, 1)), Layout((5, 5, 8))),
    "a map behind a border": (
        lambda net, x: nn.functional.avg_pool2d(pad(mapped(x), (1, 1, 1, 1), "reflect"), 3, 1), Layout((5, 4, 6))
    ),
    "gathered backwards": (
        lambda net, x: x.gather(1, torch.arange(23, -1, -1).view(1, -1, 1).expand(len(x), 24, 5)),
        Layout((24, 5), True, ()),
    ),
    "gathered first rows": (
        lambda net, x: torch.take_along_dim(x, torch.arange(12).view(1, -1, 1), 1), Layout((12, 5), True, (2, 6))
    ),
    "gathered channels": (
        lambda net, x: x.gather(2, torch.zeros(len(x), 24, 3, dtype=torch.int64)), Layout((24, 3), True, (4, 6))
    ),
    "into a given tensor": (
        lambda net, x: torch.index_select(x.detach(), 2, torch.arange(5), out=torch.empty(len(x), 24, 5)) * x,
        Layout((24, 5), True, (4, 6)),
    ),
    "joined by a convolution": (lambda net, x: net.joining(x[:, :2]), Layout((1, 5), True, ())),
    "a column of all tokens": (lambda net, x: attended_by_columns(x), Layout((24, 5), True, (4, 6))),
}  # fmt: skip


@pytest.mark.parametrize("name", ORDERS)
def test_positions_have_the_places_that_reshapes_leave_them(name):
    order, expected = ORDERS[name]
    assert layout(Ordered(order), torch.rand(1, 3, 8, 12), "block") == expected


def test_reading_layouts_is_no_part_of_what_the_model_is_seen_to_do():
    """Otherwise the pass follows its own calls, which are more than the model's, and holds all their tensors."""
    net, sample = replicate(Ordered(lambda net, x: windows(x))), torch.rand(1, 3, 8, 12)
    expected = observe(net, sample).functions
    with layouts_followed(net, sample, ["conv", "mixed", "block"]) as layouts:
        assert observe(net, sample).functions == expected
    assert layouts["block"] == Layout((24, 5), True, ())


def test_a_norm_of_samples_without_space_makes_no_map():
    net = nn.Sequential(nn.Linear(7, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)).eval()
    assert layout(net, torch.rand(2, 7), "1") == Layout((6,))
