"""Channels and places are followed through what a model does to its tensors, whatever function does it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import pad

from crp.attribution import RelevanceFlow
from crp.attribution.copies import replicate
from crp.attribution.layer_choice import observed_layers
from crp.attribution.layouts import layouts_followed
from crp.attribution.observation import observe
from crp.concepts import Layout
from crp.errors import ModelError

from .test_layouts import layout


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


def numbers(*shape: int) -> torch.Tensor:
    """The same in each pass."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def mixed(tokens: torch.Tensor, count: int) -> torch.Tensor:
    """Mix tokens by a linear layer, as MLP-Mixer does: channels stay channels `[N, C, T]`."""
    return nn.functional.linear(tokens.mT, numbers(count, 24))


def attended_in_letters(tokens: torch.Tensor) -> torch.Tensor:
    """Attend with two heads, in the notation of einsum, with the values as the first factor."""
    values = torch.cat([tokens, tokens], 2).unflatten(2, (2, 5))
    weights = torch.einsum("...ihd,...jhd->...hij", values, values).softmax(-1)
    return torch.einsum("njhd, nhij -> nihd", values, weights).flatten(2)


def assigned(tokens: torch.Tensor, first: int, length: int) -> torch.Tensor:
    """Write tokens into zeros, from one place on."""
    result = torch.zeros(len(tokens), length, 5)
    result[:, first:] = tokens[:, : length - first]
    return result


def assigned_by_a_view(tokens: torch.Tensor) -> torch.Tensor:
    """Write them through a view, one place too far, over what was in order."""
    result = tokens.clone()
    result[:, 1:].copy_(tokens[:, :-1])
    return result


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
    "channels first by einsum": (lambda net, x: torch.einsum("ntc->nct", x), Layout((5, 24), False, (4, 6))),
    "new channels by einsum": (
        lambda net, x: torch.einsum("...c,cd", x, numbers(5, 7)), Layout((24, 7), True, (4, 6))
    ),
    "tokens mixed by einsum": (
        lambda net, x: torch.einsum("ntc,ts->nsc", x, numbers(24, 24)), Layout((24, 5), True, ())
    ),
    "tokens mixed by a matrix": (lambda net, x: numbers(24, 24) @ x, Layout((24, 5), True, ())),
    "tokens mixed by a matrix behind": (lambda net, x: (x.mT @ numbers(24, 24)).mT, Layout((24, 5), True, ())),
    "tokens mixed by a layer": (lambda net, x: mixed(x, 24).mT, Layout((24, 5), True, ())),
    "tokens mixed into others": (lambda net, x: mixed(x, 7), Layout((5, 7), False, ())),
    "and added": (lambda net, x: mixed(x, 24).mT + x, Layout((24, 5), True, (4, 6))),
    "attention in letters": (lambda net, x: attended_in_letters(x), Layout((24, 10), True, (4, 6))),
    "a product over channels": (lambda net, x: torch.tensordot(x, numbers(5, 7), 1), Layout((24, 7), True, (4, 6))),
    "a product over tokens": (
        lambda net, x: torch.tensordot(x, numbers(24, 24), ([1], [0])), Layout((5, 24), False, ())
    ),
    "channels over a standard deviation": (
        lambda net, x: x / torch.std(x, 2, keepdim=True), Layout((24, 5), True, (4, 6))
    ),
    "patches of a map": (
        lambda net, x: nn.functional.unfold(x.mT.unflatten(2, (4, 6)), 2, stride=2).mT, Layout((6, 20), True, (2, 3))
    ),
    "overlapping patches of a map": (
        lambda net, x: nn.functional.unfold(x.mT.unflatten(2, (4, 6)), 3, padding=1, stride=2).mT,
        Layout((6, 45), True, (2, 3)),
    ),
    "patches side by side": (
        lambda net, x: x.mT.unflatten(2, (4, 6)).unfold(2, 2, 2).unfold(3, 3, 3).flatten(2, 3).movedim(1, 2).flatten(2),
        Layout((4, 30), True, (2, 2)),
    ),
    "compared with the mean of all": (lambda net, x: torch.where(x > x.mean(), x, -x), Layout((24, 5), True, (4, 6))),
    "over the norm of all": (
        lambda net, x: x / torch.linalg.norm(x) * x.max() * torch.einsum("ntc->", x), Layout((24, 5), True, (4, 6))
    ),
    "sorted by the data": (lambda net, x: x.sort(1).values, Layout((24, 5), True, ())),
    "written from the first place on": (lambda net, x: assigned(x, 0, 24), Layout((24, 5), True, (4, 6))),
    "written from the second place on": (lambda net, x: assigned(x, 1, 25), Layout((25, 5), True, (4, 6), 1)),
    "written too far": (lambda net, x: assigned(x, 1, 24), Layout((24, 5), True, ())),
    "written too far by a view": (lambda net, x: assigned_by_a_view(x), Layout((24, 5), True, ())),
    "written at places in a table": (
        lambda net, x: x.clone().index_put_((torch.tensor([0]), torch.tensor([3])), x[0, :1]),
        Layout((24, 5), True, ()),
    ),
    "larger by repetition": (
        lambda net, x: mapped(x).repeat_interleave(2, 2).repeat_interleave(2, 3), Layout((5, 8, 12))
    ),
    "larger by shuffled channels": (
        lambda net, x: nn.functional.pixel_shuffle(mapped(torch.cat([x, x, x, x], 2)), 2), Layout((5, 8, 12))
    ),
    "shuffled into one channel": (
        lambda net, x: nn.functional.pixel_shuffle(mapped(x)[:, :4], 2), Layout((1, 8, 12))
    ),
    "sample by sample": (
        lambda net, x: torch.stack([torch.kron(one, torch.ones(1, 1, 2)) for one in mapped(x)]), Layout((5, 4, 12))
    ),
    "the larger number": (lambda net, x: torch.fmax(x, x.flip(2)), Layout((24, 5), True, (4, 6))),
    "none of some values": (
        lambda net, x: (lambda y: y.__setitem__(y > 9, 2 * y[y > 9]) or y)(x.clone()), Layout((24, 5), True, (4, 6))
    ),
    "joined with nothing": (
        lambda net, x: torch.cat([x, torch.linalg.norm(x[:, :0], dim=2, keepdim=True).expand(-1, -1, 5)], 1),
        Layout((24, 5), True, (4, 6)),
    ),
    "warped": (
        lambda net, x: nn.functional.grid_sample(mapped(x), numbers(len(x), 4, 6, 2), align_corners=True),
        Layout((5, 4, 6), False, ()),
    ),
    "a norm of maps": (
        lambda net, x: nn.functional.layer_norm(mapped(x), (5, 4, 6)), Layout((5, 4, 6))
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


def made_of_patches(columns_first: bool):
    """Tokens of a picture without a convolution, row by row or column by column."""

    def made(net: Patches, picture: torch.Tensor) -> torch.Tensor:
        patches = picture.unflatten(2, (4, 2)).unflatten(4, (6, 2))  # [N, c, h, 2, w, 2]
        order = (0, 4, 2, 1, 3, 5) if columns_first else (0, 2, 4, 1, 3, 5)
        return net.mixed(patches.permute(order).flatten(3).flatten(1, 2))

    return made


class Patches(nn.Module):
    """A function of the picture, in a block."""

    def __init__(self, function) -> None:
        super().__init__()
        self.mixed, self.conv, self.block = nn.Linear(12, 5), nn.Conv2d(3, 4, 2, 2), nn.Identity()
        self.function = function

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        return self.block(self.function(self, picture)).flatten(1).sum(1, keepdim=True)


class Doubled(torch.autograd.Function):
    """Doubles tokens."""

    @staticmethod
    def forward(ctx, values: torch.Tensor) -> torch.Tensor:
        return 2 * values

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return 2 * gradient


PICTURES = {
    "row by row": (made_of_patches(False), Layout((24, 5), True, (4, 6))),
    "column by column": (made_of_patches(True), Layout((24, 5), True, ())),
    "convolved": (lambda net, x: net.conv(x), Layout((4, 4, 6))),
    "scaled": (lambda net, x: net.conv((x - 0.5) / 2), Layout((4, 4, 6))),
    "mirrored": (lambda net, x: net.conv(x.flip(3)), Layout((4, 4, 6), False, ())),
    "upside down in part": (
        lambda net, x: net.conv(torch.cat([x[:, :, 4:], x[:, :, :4]], 2)), Layout((4, 4, 6), False, ())
    ),
    "by a function with a gradient of its own": (
        lambda net, x: Doubled.apply(net.conv(x).flatten(2).mT), Layout((24, 4), True, (4, 6))
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_positions_have_the_places_that_the_picture_gives_them(name):
    function, expected = PICTURES[name]
    assert layout(Patches(function), torch.rand(1, 3, 8, 12), "block") == expected


def test_an_order_that_each_sample_decides_on_is_no_grid():
    def ordered(net, tokens):
        order = tokens.mean(2).argsort(1)[..., None].expand_as(tokens)
        return tokens.gather(1, order)

    net = Ordered(ordered)
    with torch.no_grad():
        net.conv.weight.fill_(1.0), net.mixed.weight.fill_(1.0), net.token.zero_()
    rising = torch.arange(24.0).view(1, 1, 4, 6).repeat_interleave(2, 2).repeat_interleave(2, 3).expand(1, 3, 8, 12)
    for samples, grid in ((rising, (4, 6)), (torch.cat([rising, rising.flip(2)]), ())):
        with layouts_followed(plain := replicate(net), samples, ["block"]) as found, torch.no_grad():
            plain(samples)
        assert found["block"] == Layout((24, 5), True, grid)


UNKNOWN = {
    "matrix_exp": lambda net, x: torch.matrix_exp(x @ x.mT / 100),
    "transpose_": lambda net, x: x.clone().transpose_(1, 2) + numbers(1, 5, 24),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_layer_whose_channels_are_not_known_is_refused_unless_they_are_said(name):
    net, sample = Ordered(UNKNOWN[name]), torch.rand(1, 3, 8, 12)
    with RelevanceFlow(net, None, sample, ["block"]) as flow, pytest.raises(ModelError) as caught:
        flow.layout("block")
    assert str(caught.value) == (
        f"It is not known which axis of 'block' is channels: what '{name}' does to its axes cannot be followed; say it "
        "with layouts={'block': Layout(...)}."
    )
    said = {"block": Layout((24, 24), True, (4, 6)) if name == "matrix_exp" else Layout((5, 24), False, (4, 6))}
    with RelevanceFlow(net, None, sample, ["block"], layouts=said) as flow:
        assert flow.layout("block") == said["block"]
    (block,) = [layer for layer in observed_layers(net, sample) if layer.name == "block"]
    assert block.layout is None
    assert block.obstacle.startswith(f"its channels are not known: what '{name}' does")


def test_channels_on_a_middle_axis_are_refused():
    """Steps of a video, each with channels first, were taken for channels."""
    net = Patches(lambda net, x: torch.stack([net.conv(x), net.conv(2 * x)], 1))
    with RelevanceFlow(net, None, torch.rand(1, 3, 8, 12), ["block"]) as flow, pytest.raises(ModelError) as caught:
        flow.layout("block")
    assert str(caught.value) == (
        "It is not known which axis of 'block' is channels: they are on axis 2 of [N, 2, 4, 4, 6], a middle one."
    )
