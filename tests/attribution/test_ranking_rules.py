"""Relevance for ranking, in nets with norms, attention and gates, against the derivatives of plain torch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from zennit.rules import Epsilon, Norm

from crp.attribution import RelevanceFlow, composite_for
from crp.attribution.operation_composite import OperationComposite, RankingComposite
from tests.attribution.test_against_explicit_lrp import FAMILIES, TARGETS, prepared
from tests.oracle import first_order
from tests.oracle.comparing import assert_relevance_close
from tests.oracle.explicit_networks import small_models


class Unstabilised(RankingComposite):
    """The rules for ranking with stabilisers that do not count."""

    def __init__(self, network, ranking=None) -> None:
        super().__init__(network, ranking)
        self._epsilon, self._norm = Epsilon(1e-14), Norm(1e-14)


def unstabilised(model: nn.Module, data: Tensor) -> OperationComposite:
    network = composite_for(model, data).composite.network
    return OperationComposite(network, Unstabilised(network))


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    found = small_models()[request.param]
    return found, *prepared(found.build)


def test_gradient_times_activation_without_squares(family: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the output, and from some channels of a layer."""
    found, model, data = family
    upper, lower = found.layers[0], found.layers[-1]
    with first_order.unstabilised(monkeypatch), RelevanceFlow(
        model, unstabilised(model, data), data, found.layers
    ) as flow:
        arriving = flow.down(flow.output_relevance(TARGETS), to=found.layers)
        for layer in found.layers:
            expected = first_order.relevance(
                model, data, layer, lambda run: run.output[range(len(TARGETS)), TARGETS].sum()
            )
            assert_relevance_close(arriving[layer][0], expected, 1e-9)
        values = flow.activation(upper)
        masks = (torch.rand(2, *values.shape[1:], generator=torch.Generator().manual_seed(0)) < 0.5).double()[:, None]
        parts = flow.down(arriving[upper] * masks, start=upper, to=lower)
        for mask, part in zip(masks, parts, strict=True):
            per_unit = (arriving[upper][0] * mask / values).nan_to_num()
            expected = first_order.relevance(
                model, data, lower, lambda run, per_unit=per_unit: (run.layers[upper] * per_unit).sum(), [upper]
            )
            assert_relevance_close(part, expected, 1e-9)


class Above(nn.Module):
    """A layer, a function and a linear head."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = nn.Identity(), function
        self.head = nn.Linear(6, 2, dtype=torch.float64)

    def forward(self, data: Tensor) -> Tensor:
        return self.head(self.function(self.layer(data)).flatten(1)[:, :6])


SIX = nn.ReLU6()
torch.manual_seed(0)
CELLS = nn.LSTMCell(4, 4).double(), nn.GRUCell(4, 4, bias=False).double()
LINEAR = nn.Linear(4, 6).double()
ATTENTION = nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64).eval()


def signs(x: Tensor) -> Tensor:
    return torch.where(x > 0, 0.0, -torch.inf)


FUNCTIONS = {
    "gelu": functional.gelu,
    "softshrink": lambda x: functional.softshrink(x, 0.3),
    "softshrink module": nn.Softshrink(0.3),
    "product of signals": lambda x: x * x.flip(-1).cos(),
    "a square as a product": lambda x: x * x,
    "gate": lambda x: torch.sigmoid(x[:, :1]) * x,
    "tanh and gate": lambda x: torch.tanh(x) * torch.sigmoid(x.flip(1)),
    "quotient": lambda x: x / (x.square() + 1),
    "constant over data": lambda x: 2 / (x.exp() + 1),
    "norm by hand": lambda x: (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True),
    "matrix product": lambda x: x @ x.mT @ x,
    "sum of a product": lambda x: torch.baddbmm(x[..., :3], x, x.mT, beta=2, alpha=0.5),
    "one unit without an axis": lambda x: functional.linear(x, x.new_ones(4)).exp().repeat(1, 2),
    "samples one by one": lambda x: torch.stack([LINEAR(one[0]) for one in x]).exp(),
    "attention by hand": lambda x: (x @ x.mT).softmax(-1) @ x,
    "masked scores": lambda x: (x @ x.mT + signs(torch.eye(3, dtype=torch.float64) - 0.5).mT).softmax(-1) @ x,
    "attention": lambda x: functional.scaled_dot_product_attention(x, x.flip(1), 2 * x),
    "attention with a mask of data": lambda x: functional.scaled_dot_product_attention(x, x, x, x @ x.flip(1).mT),
    "attention module with a mask of data": lambda x: ATTENTION(x, x, x, attn_mask=(x @ x.mT).repeat(2, 1, 1))[0],
    "causal attention": lambda x: functional.scaled_dot_product_attention(x, x, x, is_causal=True),
    "lp norm": lambda x: functional.normalize(x, p=1, dim=-1),
    "local response": lambda x: functional.local_response_norm(x, 2),
    "gated linear unit": lambda x: functional.glu(x, -1),
    "sampled at places from the data": lambda x: functional.grid_sample(
        x[:, None].square(), x[:, :, :2].tanh()[:, None], align_corners=False
    ).flatten(1).repeat(1, 2),
    # without a rule
    "log of a sum": lambda x: x.logsumexp(-1, keepdim=True) * torch.ones(1, 1, 2),
    "similarity": lambda x: functional.cosine_similarity(x, x.flip(1) + 0.2, dim=1).repeat(1, 2),
    "distances": lambda x: torch.cdist(x, x.detach() + 1),
    "product of all": lambda x: x.prod(-1, keepdim=True).expand(2, 3, 2),
    "three factors": lambda x: torch.einsum("nci,ncj,nck->nij", x, x, x + 1),
    "power of the data": lambda x: x.abs().add(1).pow(x),
    "cells": lambda x: torch.stack(
        [*CELLS[0](x[:, 0], CELLS[0](x[:, 1])), CELLS[1](x[:, 0], CELLS[1](x[:, 1], x[:, 2]))]
    ).sum(0).repeat(1, 2),
    # gates with limits, most of them beyond: there their derivative is 0
    "hard swish by hand": lambda x: 5 * x * functional.relu6(5 * x + 3) / 6,
    "hard swish of a module": lambda x: 5 * x * SIX(5 * x + 3) / 6,
    "hard swish by a clamp": lambda x: x * (2 * x + 0.5).clamp(0, 1),
    "hard swish, in place": lambda x: x * functional.relu6(5 * x + 3).div_(6),
    "gate between both signs": lambda x: (x + 1) * functional.hardtanh(2 * x),
    "hard gate of a matrix product": lambda x: (3 * x @ x.mT).clamp(0, 1) @ x,
    "over a limited divisor": lambda x: x / x.norm(dim=-1, keepdim=True).clamp(min=1.9),
    "over a divisor with an upper limit": lambda x: x / (x.square() + 0.5).clamp(max=0.8),
    "over a divisor with a scaled limit": lambda x: x / (2 * (x.flip(1).abs() + 0.5).clamp_max(0.8)),
    "over a divisor between limits": lambda x: x / x.square().clamp(0.3, 2),
    "signed root": lambda x: x.sign() * x.abs().sqrt(),
    "weights of attention": lambda x: ATTENTION(x, x, x, average_attn_weights=False)[1].sum(1),
    "attention and its weights": lambda x: torch.cat(ATTENTION(x, x, x), -1)[..., 3:],
    "queries that may read nothing": lambda x: functional.scaled_dot_product_attention(
        x, x, x, torch.ones(3, 3, dtype=torch.bool).tril(-1)
    ) + x.square(),
}
def groups(x: Tensor) -> Tensor:
    return x.unflatten(1, (2, 2))


SPREADS = {  # the norm, its spread, the norm written with the spread, and what the square of one value adds to it
    "layer norm": (
        lambda x: functional.layer_norm(x, (4,)),
        lambda x: x.var(-1, correction=0, keepdim=True),
        lambda x, spread: (x - x.mean(-1, keepdim=True)) / (spread + 1e-5).sqrt(),
        3 / 16,
    ),
    "group norm": (
        lambda x: functional.group_norm(x, 2),
        lambda x: groups(x).var((2, 3), correction=0, keepdim=True).expand(-1, -1, 2, 1).flatten(1, 2),
        lambda x, spread: (x - groups(x).mean((2, 3), keepdim=True).expand(-1, -1, 2, 1).flatten(1, 2))
        / (spread + 1e-5).sqrt(),
        7 / 64,
    ),
    "rms norm": (
        lambda x: functional.rms_norm(x, (4,), eps=1e-3),
        lambda x: x.square().mean(-1, keepdim=True),
        lambda x, spread: x / (spread + 1e-3).sqrt(),
        1 / 4,
    ),
    "euclidean norm": (
        lambda x: functional.normalize(x, dim=-1),
        lambda x: x.square().sum(-1, keepdim=True),
        lambda x, spread: x / spread.sqrt(),
        1.0,
    ),
}


def at_the_layer(model: nn.Module, data: Tensor) -> Tensor:
    with RelevanceFlow(model, unstabilised(model, data), data, ["layer"]) as flow:
        assert flow.first_order
        return flow.down(flow.output_relevance([0]), to="layer")[0]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_their_derivative(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    model, data = Above(FUNCTIONS[name]), torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(data)[:, 0].sum(), data)
    with first_order.unstabilised(monkeypatch):
        assert_relevance_close(at_the_layer(model, data.detach()), gradient * data.detach(), 1e-9)


@pytest.mark.parametrize("name", SPREADS)
def test_norms_count_each_square_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(2)
    norm, spread, written, own = SPREADS[name]
    data = torch.randn(2, 4, 4, dtype=torch.float64)
    model, values = Above(norm), data.clone().requires_grad_()
    sizes = spread(values)
    logits = model.head(written(values, sizes).flatten(1)[:, :6])[:, 0]
    assert torch.allclose(logits, model(data)[:, 0], rtol=1e-12)
    gradient, through = torch.autograd.grad(logits.sum(), [values, sizes])
    if name == "group norm":  # all channels of a group have one spread
        through = groups(through).sum(2, keepdim=True).expand(-1, -1, 2, -1).flatten(1, 2)
    with first_order.unstabilised(monkeypatch):
        arriving = at_the_layer(model, data)
    assert_relevance_close(arriving, gradient * data - through * data.square() * own, 1e-9)


def test_a_sum_shares_squares_by_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the stream `x + f(x)`, what a channel of `x` adds itself is taken from the variance; exact for its removal."""
    torch.manual_seed(3)
    data = torch.randn(1, 1, 6, dtype=torch.float64) + 2
    branch = torch.randn(6, dtype=torch.float64)
    model = Above(lambda x: functional.layer_norm(x + branch, (6,)))
    values = data + branch
    variance = values.var(-1, correction=0).requires_grad_()
    centred = values - values.mean()
    logit = model.head((centred / (variance[..., None] + 1e-5).sqrt()).flatten(1))[:, 0]
    (through,) = torch.autograd.grad(logit.sum(), variance)
    without = torch.stack([torch.where(torch.arange(6) == index, 0.0, data[0, 0]) + branch for index in range(6)])
    falls = variance.detach() - without.var(-1, correction=0)
    with first_order.unstabilised(monkeypatch):
        arriving = at_the_layer(model, data)
    linear = (data * (model.head.weight[0] - model.head.weight[0].mean()) / (variance + 1e-5).sqrt()).detach()
    assert_relevance_close(arriving, linear + (through * falls).detach(), 1e-9)
