"""The comparison of a copy with the caller's model: on the first samples, and on all where these do not tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from zennit.canonizers import NamedMergeBatchNorm
from zennit.composites import EpsilonPlus
from zennit.core import Composite
from zennit.torchvision import ResNetCanonizer

from crp.attribution import RelevanceFlow, composite_for, prepare
from crp.concepts import Layout
from crp.errors import ModelError
from tests.oracle.comparing import assert_relevance_close

DATA = torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(3)).double()


class Body(nn.Module):
    """A convolution with a batch norm, of which a test says how they are used."""

    seen: ClassVar[list[int]] = []

    def __init__(self, use: Callable[[Body, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 4)
        self.other = nn.Identity()
        nn.init.uniform_(self.norm.running_mean, -0.3, 0.3)
        nn.init.uniform_(self.norm.running_var, 0.3, 2)
        self.use = use

    def forward(self, data: Tensor) -> Tensor:
        Body.seen.append(len(data))  # of the model and its copies
        return self.use(self, data)


def features(net: Body, data: Tensor) -> Tensor:
    return net.norm(net.first(data)).relu().mean((2, 3))


def alone(net: Body, data: Tensor) -> Tensor:
    return net.head(features(net, data))


def mixed(net: Body, data: Tensor) -> Tensor:
    found = features(net, data)
    return net.head(found + found.mean(0, keepdim=True))


def of_fixed_size(net: Body, data: Tensor) -> Tensor:
    assert len(data) == 6
    return alone(net, data)


def routed(net: Body, data: Tensor) -> Tensor:
    """Samples from the fourth on go through another module."""
    if len(data) < 4:
        return alone(net, data)
    return torch.cat([net.head(features(net, data[:3])), net.head(net.norm(net.first(data[3:]) + 1).mean((2, 3)))])


def of_two_sizes(net: Body, data: Tensor) -> Tensor:
    return alone(net, data) * (1 if len(data) < 4 else 2)


def through_another_module(net: Body, data: Tensor) -> Tensor:
    found = features(net, data)
    return net.head(found if len(data) < 4 else net.other(found))


# How a model uses its batch, and the sizes of the batches in which it runs: observed, explained, observed again.
USES = {
    alone: [2, 6],
    mixed: [2, 6, 6],
    of_fixed_size: [2, 6, 6],
    of_two_sizes: [2, 6, 6],
    through_another_module: [2, 6, 6],
}


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_first_samples_are_compared_and_all_where_they_do_not_agree(use):
    model = Body(use).double().eval()
    composite = composite_for(model).composite
    Body.seen.clear()
    with RelevanceFlow(model, composite, DATA) as flow:
        assert Body.seen == USES[use]
        assert_relevance_close(flow.prediction, model(DATA), 1e-12)


def merging(model: nn.Module) -> Composite:
    return EpsilonPlus(canonizers=[NamedMergeBatchNorm([(["first"], "norm")])])


@pytest.mark.parametrize("rules", [lambda model: composite_for(model).composite, merging], ids=["ours", "a caller's"])
def test_the_pass_that_is_compared_shows_the_layouts_too(rules):
    model = Body(alone).double().eval()
    composite = rules(model)
    Body.seen.clear()
    with RelevanceFlow(model, composite, DATA, ["first", "head..input"]) as flow:
        assert flow.layout("first") == Layout((4, 3, 3))
        assert flow.layout("head..input") == Layout((4,))
        assert sorted(Body.seen) == [2, 6]


class ShiftingMerge(NamedMergeBatchNorm):
    """A merge that is wrong in every version of zennit."""

    def register(self, linears: list[nn.Module], batch_norm: nn.Module) -> None:
        super().register(linears, batch_norm)
        linears[0].bias.data = linears[0].bias.data + 1


def test_a_merge_of_a_caller_that_changes_the_output_is_noted():
    model = Body(alone).double().eval()
    composite = EpsilonPlus(canonizers=[ShiftingMerge([(["first"], "norm")])])
    with RelevanceFlow(model, composite, DATA) as flow:
        change = (flow.prediction - model(DATA)).abs().max() / model(DATA).abs().max()
        assert change > 0.01
        assert flow.notes == (
            f"The canonizers of the composite change the model's output by up to {change:.1%} of its largest value.",
        )


def test_a_merged_norm_that_later_samples_use_otherwise_is_refused():
    """The first samples alone do not show it."""
    model = Body(routed).double().eval()
    with pytest.raises(ModelError, match="differently than for the first input: its forward pass depends on the"):
        RelevanceFlow(model, composite_for(model).composite, DATA)


def test_canonizers_that_do_not_change_the_output_get_no_note_where_samples_mix():
    model = Body(mixed).double().eval()
    with RelevanceFlow(model, EpsilonPlus(canonizers=[ResNetCanonizer()]), DATA) as flow:
        assert not flow.notes


class Blocks(nn.Module):
    """Attention, a residual in place, and a product that depends on the data."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.act = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.pool, self.tokens, self.mix = nn.MaxPool2d(2, 1), nn.LayerNorm(4), nn.MultiheadAttention(4, 2)
        self.block, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, data: Tensor) -> Tensor:
        found = self.act(self.norm(self.first(data)))
        if data[0, 0, 0, 0] > 0:
            found = found * 2
        found = self.pool(found).flatten(2).permute(2, 0, 1)
        normed = self.tokens(found)
        found = functional.gelu(self.mix(normed, normed, normed)[0]) + found
        found += self.block(found)
        return self.head(found.mean(0)).softmax(1)


def test_a_path_is_compared_once_whatever_is_asked_of_it():
    model = Blocks().double().eval()
    replica = prepare(model, composite_for(model).composite)
    data = DATA.index_fill(2, torch.tensor([0]), 1)
    for layers, to_input in (("first",), True), (("block",), False), (("tokens", "block"), False), ((), True):
        with RelevanceFlow(replica, None, data, layers, to_input=to_input) as flow:
            assert_relevance_close(flow.prediction.softmax(1), model(data), 1e-12)
        assert len(replica.checked) == 1


def test_another_path_is_compared_even_if_it_differs_below_the_layers():
    model = Blocks().double().eval()
    replica = prepare(model, composite_for(model).composite)
    for value in (1, -1, 1):
        data = DATA.index_fill(2, torch.tensor([0]), value)
        with RelevanceFlow(replica, None, data, ["block"], to_input=False) as flow:
            assert_relevance_close(flow.prediction.softmax(1), model(data), 1e-12)
    assert len(replica.checked) == 2
