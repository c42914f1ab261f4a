"""Rules of functions: numbers by hand, both directions, several conditions, and what is named."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from crp.attribution import RelevanceFlow
from crp.attribution.functions.complex_numbers import COMPLEX_RULES
from crp.attribution.functions.table import RULES
from tests.oracle.comparing import assert_relevance_close

from .one_function import RULES_FOR_LINEAR, Function, down, generated

ONES = torch.ones(1, 1, dtype=torch.float64)


def assigned(target: Tensor, place: slice, value: object) -> Tensor:
    target[:, place] = value
    return target


def viewed(target: Tensor, change: Callable[[Tensor], object]) -> Tensor:
    """Change two views of a tensor that is not contiguous."""
    whole = target.transpose(1, 3).clone().transpose(1, 3)
    change(whole[:, 1:3, 2:])
    change(whole[:, :2, :2])
    return whole


BY_HAND = {
    # 2 and 6 of 8; the constant 2 of 4 absorbs half
    "sum of data": (lambda x: x[:, :1] + x[:, 1:], [2.0, 6.0], [4.0], [1.0, 3.0]),
    "constant summand": (lambda x: x + 2, [2.0], [1.0], [0.5]),
    "difference": (lambda x: x[:, :1] - x[:, 1:], [6.0, 2.0], [4.0], [6.0, -2.0]),
    "constant minus data": (lambda x: 5 - x, [2.0], [3.0], [-2.0]),
    "weighted summand": (lambda x: torch.add(x[:, :1], x[:, 1:], alpha=3), [2.0, 2.0], [4.0], [1.0, 3.0]),
    "constant factor": (lambda x: x * 3, [2.0], [5.0], [5.0]),
    "factor of zero": (lambda x: x * torch.tensor([0.0, 1.0]), [2.0, 2.0], [5.0, 5.0], [0.0, 5.0]),
    "constant divisor": (lambda x: x / 4, [2.0], [5.0], [5.0]),
    "two signals": (lambda x: x[:, :1] * x[:, 1:], [2.0, 6.0], [4.0], [2.0, 2.0]),
    "square": (lambda x: x * x, [2.0], [4.0], [4.0]),
    # 2 and 6 of 8
    "sum and matrix product": (lambda x: torch.addmm(x[:, :1], x[:, 1:], ONES * 3), [2.0, 2.0], [4.0], [1.0, 3.0]),
    "sum with a factor of 0": (
        lambda x: torch.addmm(x[:, :1], x[:, 1:], ONES, beta=0), [2.0, 2.0], [4.0], [0.0, 4.0],
    ),
    "gate by a bounded function": (lambda x: x[:, :1] * torch.sigmoid(x[:, 1:]), [2.0, 6.0], [4.0], [4.0, 0.0]),
    "gate scaled": (lambda x: x[:, 1:] * (functional.relu6(x[:, :1]) / 6), [2.0, 6.0], [4.0], [0.0, 4.0]),
    "one minus a gate": (lambda x: x[:, :1] * (1 - torch.sigmoid(x[:, 1:])), [2.0, 6.0], [4.0], [4.0, 0.0]),
    "gate by repetition": (lambda x: x * x.sum(1, keepdim=True), [2.0, 6.0], [4.0, 8.0], [4.0, 8.0]),
    "gated tanh": (lambda x: x[:, :1].tanh() * x[:, 1:].sigmoid(), [2.0, 6.0], [4.0], [4.0, 0.0]),
    "gated tanh, turned": (lambda x: x[:, 1:].sigmoid() * x[:, :1].tanh(), [2.0, 6.0], [4.0], [4.0, 0.0]),
    "gated tanh, clamped": (
        lambda x: x[:, :1].clamp(-1, 1) * functional.hardtanh(x[:, 1:], 0, 6), [2.0, 6.0], [4.0], [4.0, 0.0],
    ),
    "sigmoid made of a tanh": (
        lambda x: functional.softsign(x[:, :1]) * (0.5 * (1 + x[:, 1:].tanh())), [2.0, 6.0], [4.0], [4.0, 0.0],
    ),
    # a limit on one side makes no gate
    "limited on one side": (lambda x: x[:, :1].clamp(max=1) * x[:, 1:], [2.0, 6.0], [4.0], [2.0, 2.0]),
    "sum with what is limited on one side": (
        lambda x: (x[:, :1].clamp(max=1) + 1) * x[:, 1:], [2.0, 6.0], [4.0], [1.0, 2.0],
    ),
    "joined with what is limited on one side": (
        lambda x: torch.cat([x[:, :1].clamp(max=1), x[:, 1:2].sigmoid()], 1) * x[:, 2:],
        [2.0, 6.0, 3.0, 5.0], [4.0, 8.0], [2.0, 4.0, 2.0, 4.0],
    ),
    "two of both signs": (lambda x: x[:, :1].tanh() * x[:, 1:].erf(), [2.0, 6.0], [4.0], [2.0, 2.0]),
    "a gated tanh is a signal": (
        lambda x: x[:, :1].tanh() * x[:, 1:2].sigmoid() * x[:, 2:], [2.0, 6.0, 3.0], [4.0], [2.0, 0.0, 2.0],
    ),
    "attention to a tanh": (
        lambda x: (x.softmax(1)[:, None] @ x.tanh()[..., None])[..., 0], [-1.0, 1.0], [2.0],
        # weights 1 to e squared, values of opposite sign
        [-2 / (math.e**2 - 1), 2 * math.e**2 / (math.e**2 - 1)],
    ),
    # 2 + 6 and 3: what is added and what it is added to get their parts
    "added at places": (
        lambda x: x[:, :2].index_add(1, torch.tensor([0]), x[:, 2:]), [2.0, 3.0, 6.0], [4.0, 5.0], [1.0, 5.0, 3.0],
    ),
    "added up in a constant": (
        lambda x: torch.zeros(len(x), 2, dtype=x.dtype).scatter_add(1, torch.tensor([[1, 1, 0]]), x) + 0,
        [2.0, 6.0, 3.0], [5.0, 4.0], [1.0, 3.0, 5.0],
    ),
    "quotient of data": (lambda x: x[:, :1] / x[:, 1:], [2.0, 6.0], [4.0], [4.0, 0.0]),
    "mean": (lambda x: x.mean(1, keepdim=True), [2.0, 6.0], [4.0], [1.0, 3.0]),
    # beyond a limit, removing the value changes the output: from 6 to 0, and from 3 to 1
    "above a limit": (lambda x: functional.relu6(x), [9.0, 2.0], [4.0, 1.0], [4.0, 1.0]),
    "above both limits": (lambda x: x.clamp(1, 3), [5.0, 2.0, 0.5], [4.0, 1.0, 2.0], [4.0, 1.0, 0.0]),
    # the output is the limit whatever the data are, near it and at 0
    "below a limit": (lambda x: x.clamp(min=1), [0.5, 2.0], [4.0, 1.0], [0.0, 1.0]),
    "above a negative limit": (lambda x: x.clamp_max(-1), [-0.5, -2.0], [4.0, 1.0], [0.0, 1.0]),
    "below a threshold": (lambda x: functional.threshold(x, 1, 7), [0.5, 2.0], [4.0, 1.0], [0.0, 1.0]),
    "limits in a tensor": (lambda x: x.clamp(min=torch.tensor([1.0, -1.0])), [0.5, -2.0], [4.0, 1.0], [0.0, 1.0]),
    "element by element": (lambda x: functional.gelu(x), [2.0, -6.0], [4.0, 1.0], [4.0, 1.0]),
    "matrix product": (lambda x: x @ torch.tensor([[1.0], [2.0]], dtype=x.dtype), [2.0, 3.0], [8.0], [2.0, 6.0]),
    # each value with itself and with the other one: 4 + 12, 12 + 36
    "matrix product with itself": (
        lambda x: torch.einsum("ni,nj->ni", x, x), [2.0, 6.0], [16.0, 0.0], [8.0 + 2.0, 6.0],
    ),
    "linear": (
        lambda x: functional.linear(x, torch.tensor([[1.0, 2.0]], dtype=x.dtype), torch.ones(1, dtype=x.dtype)),
        [2.0, 3.0], [9.0], [2.0, 6.0],
    ),
    # (x - mean) is -2 and 2, each value half its own and minus half the other: -1 * 2 / -2 ...
    "layer norm": (lambda x: functional.layer_norm(x, (2,)), [2.0, 6.0], [1.0, 1.0], [-1.0, 3.0]),
    "root mean square": (lambda x: functional.rms_norm(x, (2,)), [2.0, 6.0], [4.0, 8.0], [4.0, 8.0]),
    # 3 of 3 - 1: the shift absorbs -2
    "normalisation by constants": (lambda x: (x - 1) / 5, [3.0], [4.0], [6.0]),
    # in proportion to the cubes 1 and 8
    "generalised mean": (lambda x: x.clamp(min=1e-6).pow(3).mean(1, True).pow(1 / 3), [1.0, 2.0], [9.0], [1.0, 8.0]),
    "class token": (
        lambda x: torch.cat([torch.ones(1, 1, dtype=x.dtype), x], 1), [2.0, 6.0], [4.0, 8.0, 1.0], [8.0, 1.0],
    ),
    # (2 + 3 * 6) is 20: a tenth and nine tenths
    "sum with a product": (lambda x: torch.addcmul(x[:, :1], x[:, 1:], 3 * ONES), [2.0, 6.0], [10.0], [1.0, 9.0]),
    "sum with a quotient": (lambda x: torch.addcdiv(x[:, :1], x[:, 1:], ONES / 3), [2.0, 6.0], [10.0], [1.0, 9.0]),
    # 2 + (6 - 2) / 4 is 1.5 + 1.5
    "weighted mean": (lambda x: torch.lerp(x[:, :1], x[:, 1:], 0.25), [2.0, 6.0], [4.0], [2.0, 2.0]),
    "gated linear unit": (lambda x: functional.glu(x, 1), [2.0, 6.0], [4.0], [4.0, 0.0]),
    # the second and the third place hold two summands each
    "overlapping patches": (
        lambda x: functional.fold(x.view(1, 2, 2), (1, 3), (1, 2)).flatten(1),
        [1.0, 2.0, 3.0, 4.0], [1.0, 5.0, 4.0], [1.0, 2.0, 3.0, 4.0],
    ),
    # between both pixels: (2 + 6) / 2
    "sampling": (
        lambda x: functional.grid_sample(x[:, None, None], ONES.new_zeros(1, 1, 1, 2), align_corners=False)[:, 0, 0],
        [2.0, 6.0], [4.0], [1.0, 3.0],
    ),
    "constant in place": (lambda x: assigned(x * 1, slice(0, 1), 5.0), [2.0, 6.0], [4.0, 8.0], [0.0, 8.0]),
    "data into a constant": (
        lambda x: assigned(torch.ones(1, 3, dtype=x.dtype), slice(1, 3), x), [2.0, 6.0], [4.0, 8.0, 1.0], [8.0, 1.0],
    ),
    "a signal and a gate, joined": (
        lambda x: torch.cat([x[:, :1], x[:, 1:2].sigmoid()], 1) * x[:, 2:],
        [2.0, 6.0, 3.0, 5.0], [4.0, 8.0], [2.0, 4.0, 2.0, 4.0],
    ),
    "gate in the shape of a signal": (
        lambda x: x[:, 1:] * x[:, :1].sigmoid().expand_as(x[:, 1:]), [1.0, 2.0, 6.0], [4.0, 8.0], [0.0, 4.0, 8.0],
    ),
    "signal in the shape of a gate": (
        lambda x: x[:, :1] * x[:, 1:].view_as(x[:, :1].sigmoid()), [2.0, 6.0], [4.0], [2.0, 2.0],
    ),
    "gate and signal, broadcast": (
        lambda x: math.prod(torch.broadcast_tensors(x[:, :1].sigmoid(), x[:, 1:])),
        [1.0, 2.0, 6.0], [4.0, 8.0], [0.0, 4.0, 8.0],
    ),
    "two gates, joined": (
        lambda x: torch.cat([x[:, :1].tanh(), x[:, 1:2].sigmoid()], 1) * x[:, 2:],
        [2.0, 6.0, 3.0, 5.0], [4.0, 8.0], [0.0, 0.0, 4.0, 8.0],
    ),
    "divided by a norm": (lambda x: x / x.norm(dim=1, keepdim=True), [2.0, 6.0], [4.0, 8.0], [4.0, 8.0]),
    "divided by a deviation": (lambda x: x / (x.var(1, keepdim=True) + 1).sqrt(), [2.0, 6.0], [4.0, 8.0], [4.0, 8.0]),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name: str) -> None:
    function, data, relevance, expected = BY_HAND[name]
    assert down(function, data, relevance) == pytest.approx(expected, rel=2e-5)


def test_attention_by_hand() -> None:
    """Two tokens of one channel: weights 1/2 each, values 1 and 3, output 2; a quarter and three quarters."""

    def attend(tokens: Tensor) -> Tensor:
        keys = tokens * 0
        return functional.scaled_dot_product_attention(keys, keys, tokens)

    assert down(attend, [[1.0], [3.0]], [[4.0], [8.0]]) == [pytest.approx([3.0]), pytest.approx([9.0])]


def with_constant_region(x: Tensor) -> Tensor:
    x = x * 1
    x[:, 0] = 2.0
    return x


def with_filled_view(x: Tensor) -> Tensor:
    x = x * 1
    x[:, 0].fill_(2.0)
    x[:, 1].copy_(W)
    return x.index_put_((torch.tensor([0]), torch.tensor([2])), torch.tensor(3.0, dtype=x.dtype))


def into_zeros(x: Tensor) -> Tensor:
    result = torch.zeros_like(x)
    result[:, 1:] = x[:, :-1]
    return result


W, K = generated(4, 4), generated(4, 4, 3, 3)
IMAGES: dict[str, Callable[[Tensor], Tensor]] = {
    "add": lambda x: x + x.roll(1, 1),
    "sub": lambda x: x - x.flip(1) * 0.3 + 1,
    "mul": lambda x: x * x.roll(1, 1),
    "gate": lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
    "div": lambda x: x / (1 + x.abs()),
    "glu": lambda x: x[:, :2] * torch.sigmoid(x[:, 2:]),
    "mean": lambda x: x.mean((2, 3)),
    "pool": lambda x: functional.avg_pool2d(x, 2),
    "max pool": lambda x: functional.max_pool2d(x, 2),
    "interpolate": lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear"),
    "einsum": lambda x: torch.einsum("nchw,dc->ndhw", x, W),
    "einsum of data": lambda x: torch.einsum("nchw,ndhw->ncd", x, x.roll(1, 2)),
    "matmul of data": lambda x: x @ x.transpose(2, 3),
    "attention": lambda x: functional.scaled_dot_product_attention(x, x.roll(1, 1), x.flip(1)),
    "attention by hand": lambda x: torch.softmax(x @ x.transpose(2, 3), -1) @ x.flip(1),
    "causal attention": lambda x: functional.scaled_dot_product_attention(x, x, x, is_causal=True),
    "linear": lambda x: functional.linear(x, W, W[0]),
    "convolution": lambda x: functional.conv2d(x, K, W[0], padding=1),
    "strided convolution": lambda x: functional.conv2d(x, K[:, :2], None, 2, 1, 1, 2),
    "transposed convolution": lambda x: functional.conv_transpose2d(x, K, W[0], 2),
    "layer norm": lambda x: functional.layer_norm(x, (4, 4), W, W + 1),
    "group norm": lambda x: functional.group_norm(x, 2, W[0], W[1]),
    "instance norm": lambda x: functional.instance_norm(x, weight=W[0], bias=W[1]),
    "batch norm": lambda x: functional.batch_norm(x, W[0], W[1].abs(), W[2], W[3]),
    "batch norm without statistics": lambda x: functional.batch_norm(x, None, None, W[2], W[3], training=True),
    "normalize": lambda x: functional.normalize(x, dim=1),
    "clamp": lambda x: x.clamp(-1, 1) * x,
    "pad": lambda x: functional.pad(x, (1, 1), value=2.0) + 0.5,
    "where": lambda x: torch.where(x > 0, x, torch.ones_like(x)),
    "cat": lambda x: torch.cat([x, W.expand(len(x), 1, 4, 4)], 1),
    "stack": lambda x: torch.stack([x, x.flip(1)]).sum(0),
    "constant region": with_constant_region,
    "filled view": with_filled_view,
    "into zeros": into_zeros,
    "larger than a constant": lambda x: torch.maximum(x, W),
    "largest of two": lambda x: torch.max(x, x.flip(1)),
    "unfold with padding": lambda x: functional.unfold(x, 3, padding=1),
    "fold": lambda x: functional.fold(functional.unfold(x, 3, padding=1), (4, 4), 3, padding=1),
    "sampled": lambda x: functional.grid_sample(x, 1.5 * W.tanh()[None, :2].expand(2, 2, 4).unflatten(2, (2, 2)),
                                                align_corners=False),
    "triangle": lambda x: functional.gelu(x).tril().add(1) * x,
    "GELU by hand": lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)),
    "requires_grad_": lambda x: x.requires_grad_() + 1,
    "sum with a product": lambda x: torch.addcmul(x, x.flip(1), x.roll(1, 1), value=0.5),
    "sum with a quotient": lambda x: torch.addcdiv(x, x.flip(1), 1 + W.abs(), value=0.5),
    "weighted mean": lambda x: torch.lerp(x, x.flip(1), torch.sigmoid(x.roll(1, 1))),
    "gated linear unit": lambda x: functional.glu(x, 1),
    "patches": lambda x: functional.unfold(x, 3, padding=1),
    "overlapping patches": lambda x: functional.fold(functional.unfold(x, 3, padding=1) * 2, (4, 4), 3, padding=1),
    "sampling": lambda x: functional.grid_sample(x, W[None, :, :2, None].expand(2, 4, 2, 2), align_corners=False),
    "sampling at places from data": lambda x: functional.grid_sample(x, x[:, :, :, :2].tanh(), align_corners=False),
    "constant in place": lambda x: assigned(x * 1, slice(0, 2), 5.0),
    "data into a constant": lambda x: assigned(torch.ones_like(x), slice(1, 3), x[:, :2]),
    "added at places": lambda x: x.index_add(1, torch.tensor([0, 2, 0]), x[:, :3], alpha=0.5),
    "added at places, in place": lambda x: torch.ones_like(x).scatter_add_(1, (x[:, :3] > 0).long(), x[:, :3]),
    "data into data": lambda x: assigned(x * 1, slice(1, 3), x[:, :2]),
    "chosen in place": lambda x: (x * 1).index_put_((torch.tensor([0, 1]), torch.tensor([2, 0])), W),
    "constant in a view": lambda x: viewed(x * 1, lambda view: view.fill_(2)),
    "constant in a part of a view": lambda x: viewed(x * 1, lambda view: view.__setitem__((..., slice(1, 3)), 2.0)),
    "data into views of a constant": lambda x: viewed(torch.ones_like(x), lambda view: view.copy_(x[:, 1:3, :2])),
    "data into a view of data": lambda x: viewed(x * 1, lambda view: view.copy_(x[:, 1:3, :2])),
    "filled in place": lambda x: torch.cat([x, (x * 1).fill_(2), (x * 1).zero_(), (x * 1).copy_(W)], 1),
    "deviation": lambda x: (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 1e-5).sqrt(),
    "norm": lambda x: x / x.norm(dim=1, keepdim=True) + x * torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True),
    "talking heads": lambda x: (torch.softmax(x, -1).transpose(1, 3) @ W + W[0]).transpose(1, 3) @ x,
    "in place": lambda x: functional.relu_(x.clone().add_(1)).mul_(x),
}


@pytest.mark.parametrize("name", IMAGES)
def test_up_is_the_transpose_of_down(name: str) -> None:
    data = generated(2, 4, 4, 4)
    model = nn.Sequential(nn.Identity(), Function(IMAGES[name]))
    with RelevanceFlow(model, RULES_FOR_LINEAR, data, ["0", "1"], before_activation=False) as flow:
        expected = model(data)
        assert_relevance_close(flow.activation("1"), expected, 1e-13)
        relevance, regions = generated(3, *expected.shape), generated(3, *data.shape).flip(0)
        carried = flow.down(relevance, start="1")
        each = torch.cat([flow.down(relevance[k : k + 1], start="1") for k in range(3)])
        assert_relevance_close(carried, each, 1e-12)  # several conditions in one pass
        lifted = flow.up(regions, "1")
        assert_relevance_close((carried * regions).sum(), (relevance * lifted).sum(), 1e-10)
        ledger = flow.ledger(relevance[:1], start="1")
        assert ledger.started == pytest.approx(float(relevance[0].sum()), rel=1e-12)
        assert abs(ledger.unaccounted) < 1e-9 * float(relevance[0].abs().sum())
        assert flow.notes == ()


def test_every_function_of_the_table_exists() -> None:
    own = {"getitem", "setitem", "rsub", "rdiv", "rmatmul", "roi_align"}  # operators, and torchvision's
    later = {"rms_norm"} if not hasattr(functional, "rms_norm") else set()
    homes = (torch, Tensor, functional, torch.special, torch._C._linalg, torch._C._nn, torch._C._fft)
    names = {*RULES, *COMPLEX_RULES}
    unknown = [name for name in names if name not in own | later and not any(hasattr(home, name) for home in homes)]
    assert unknown == []
