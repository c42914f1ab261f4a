"""Gates, opened attention, and functions that relevance passes by their gradient, which are named."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from crp.attribution import RelevanceFlow, composite_for, prepare
from tests.oracle.comparing import assert_relevance_close

from .one_function import RULES_FOR_LINEAR, Function, down, flow_through, generated


def test_what_has_no_rule_is_named() -> None:
    class Odd(nn.Module):
        def forward(self, data: Tensor) -> Tensor:
            return torch.logcumsumexp(data, 1)

    model = nn.Sequential(nn.Linear(4, 4), Odd(), nn.Linear(4, 2)).double()
    with RelevanceFlow(model, composite_for(model).composite, generated(2, 4)) as flow:
        assert flow.notes == ("Without a rule, run by their gradient: logcumsumexp in '1'.",)


class Squared(torch.autograd.Function):
    @staticmethod
    def forward(ctx, data: Tensor) -> Tensor:
        ctx.save_for_backward(data)
        return data * data

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * gradient


HIDDEN = {
    "autograd.Function": (Squared.apply, "Squared"),
    "inside vmap": (torch.vmap(lambda x: x + x.flip(0)), "Add; Flip"),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_operations_that_no_call_shows_are_named(name: str) -> None:
    function, named = HIDDEN[name]
    model = nn.Sequential(nn.Linear(4, 4), Function(function), nn.Linear(4, 2)).double()
    with RelevanceFlow(model, RULES_FOR_LINEAR, generated(2, 4)) as flow:
        assert flow.notes == (f"Without a rule, run by their gradient: {named}.",)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.GELU()], ids=["relu", "gelu: ranked apart"])
def test_a_function_that_returns_several_tensors_is_named_once(activation: nn.Module) -> None:
    def function(x: Tensor) -> Tensor:
        first, last = torch.linalg.qr(x[:, :, None] * torch.ones(3) + torch.eye(3))
        return first.sum(1) + last.sum(1)

    model = nn.Sequential(nn.Linear(3, 3), activation, Function(function))
    with RelevanceFlow(model, composite_for(model).composite, generated(2, 3).float()) as flow:
        assert flow.notes == ("Without a rule, run by their gradient: linalg_qr in '2'.",)


def test_variance_and_mean_in_one_call_are_those_of_two_calls() -> None:
    data = generated(2, 4, 6)
    relevance = generated(1, 2, 4, 6)
    for spread, both, options in (
        (torch.var, torch.var_mean, {"dim": -1, "keepdim": True}),
        (torch.std, torch.std_mean, {"dim": (1, 2), "correction": 0, "keepdim": True}),
        (torch.var, torch.var_mean, {}),
    ):

        def apart(x: Tensor, spread: Callable = spread, options: dict = options) -> Tensor:
            mean = x.mean(**{name: value for name, value in options.items() if name != "correction"})
            return (x - mean) / (spread(x, **options) + 1e-5)

        def together(x: Tensor, both: Callable = both, options: dict = options) -> Tensor:
            scale, mean = both(x, **options)
            return (x - mean) / (scale + 1e-5)

        arriving = []
        for function in (apart, together):
            with flow_through(function, data) as flow:
                assert flow.notes == ()
                arriving.append(flow.down(relevance))
        assert torch.equal(*arriving)
    # the older signature, `unbiased` in the place of the axes
    with flow_through(lambda x: x / torch.std_mean(x, False)[0], data) as flow:
        assert torch.allclose(flow.prediction, data / data.std(correction=0))


def test_what_relevance_does_not_reach_is_not_named() -> None:
    with flow_through(lambda x: x / x.std(1, keepdim=True), generated(2, 4)) as flow:
        assert flow.notes == ()


def test_a_gate_joined_with_a_signal_is_a_signal() -> None:
    """Two signals get half of the product each; the gate alone would get nothing."""

    def joined(x: Tensor) -> Tensor:
        return torch.cat([x[:, :1].sigmoid(), x[:, 1:]], 1) * torch.ones_like(x).add(x.detach())

    def product(x: Tensor) -> Tensor:
        return torch.cat([x[:, :1].sigmoid(), x[:, 1:]], 1) * (x * 1)

    assert down(joined, [2.0, 6.0], [4.0, 8.0]) == pytest.approx([4.0, 8.0])
    assert down(product, [2.0, 6.0], [4.0, 8.0]) == pytest.approx([4.0, 8.0])
    swapped = lambda x: torch.cat([x[:, :1].sigmoid(), x[:, 1:]], 1) * x.flip(1)  # noqa: E731
    assert down(swapped, [2.0, 6.0], [4.0, 8.0]) == pytest.approx([2.0 + 4.0, 4.0 + 2.0])


def test_a_gate_that_is_overwritten_is_a_signal() -> None:
    def changed(x: Tensor) -> Tensor:
        gate = x[:, :1].sigmoid()
        view = gate[:, :]
        gate.add_(x[:, :1])
        return view * x[:, 1:]

    plain = lambda x: (x[:, :1].sigmoid() + x[:, :1]) * x[:, 1:]  # noqa: E731
    assert down(changed, [2.0, 6.0], [4.0]) == pytest.approx(down(plain, [2.0, 6.0], [4.0]))


def test_a_softmax_that_is_no_gate_is_named() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Softmax(1), nn.Linear(4, 2)).double()
    with RelevanceFlow(model, composite_for(model).composite, generated(2, 4)) as flow:
        assert flow.notes == ("Without a rule, run by their gradient: softmax in '1'.",)
    gated = Function(lambda x: torch.softmax(x, 1) * x)
    with RelevanceFlow(gated, RULES_FOR_LINEAR, generated(2, 4)) as flow:
        assert flow.notes == ()


def test_linear_maps_of_attention_weights_are_attention_weights() -> None:
    """Heads mixed by a linear module, as in CaiT: all relevance goes to the values, none to the queries."""

    class TalkingHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(2, 2)

        def forward(self, data: Tensor) -> Tensor:
            heads, values = data[:, :2], data[:, 2:]
            weights = torch.softmax(heads @ heads.transpose(2, 3), -1)
            return self.mix(weights.movedim(1, -1)).movedim(-1, 1) @ values

    torch.manual_seed(0)
    with RelevanceFlow(TalkingHeads().double(), RULES_FOR_LINEAR, generated(1, 4, 3, 3)) as flow:
        assert flow.notes == ()
        relevance = generated(1, *flow.prediction.shape)
        arriving = flow.down(relevance)[0]
    assert not arriving[:, :2].any()
    assert float(arriving[:, 2:].sum()) == pytest.approx(float(relevance.sum()), rel=1e-4)


def test_a_softmax_joined_with_a_signal_is_named() -> None:
    with flow_through(lambda x: torch.cat([x, torch.softmax(x, 1)], 1), generated(2, 4)) as flow:
        assert flow.notes == ("Without a rule, run by their gradient: softmax in 'the model itself'.",)
    with flow_through(lambda x: x[:, :2] * torch.cat([x[:, :1], x[:, :1]], 1).softmax(1), generated(2, 4)) as flow:
        assert flow.notes == ()


def test_a_deviation_that_is_no_divisor_is_named() -> None:
    with flow_through(lambda x: x.std(1, keepdim=True) + x, generated(2, 4)) as flow:
        assert flow.notes == ("Without a rule, run by their gradient: std in 'the model itself'.",)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"kdim": 6, "vdim": 6}, {"add_bias_kv": True}, {"add_zero_attn": True, "add_bias_kv": True, "bias": False}],
    ids=["one projection", "three projections", "appended", "zeros appended"],
)
@pytest.mark.parametrize("masked", [False, True])
def test_multi_head_attention_is_opened(batch_first: bool, options: dict, masked: bool) -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=batch_first, **options).double().eval()

    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = attention

        def forward(self, data: Tensor) -> Tensor:
            other = data[..., :6] if "kdim" in options else data
            lengths = (3, 5) if batch_first else (5, 3)
            padding = torch.zeros(lengths, dtype=torch.bool)
            padding[..., -1] = batch_first
            mask = torch.ones(data.shape[1 if batch_first else 0], data.shape[1 if batch_first else 0]).triu(1).bool()
            extra = {"attn_mask": mask, "key_padding_mask": padding} if masked else {}
            return self.attention(data, other, other, need_weights=False, **extra)[0]

    model, data = Attending(), generated(3, 5, 8)
    with RelevanceFlow(model, RULES_FOR_LINEAR, data, before_activation=False) as flow:
        assert_relevance_close(flow.prediction, model(data), 1e-12)
        assert flow.notes == ()
        started = flow.prediction[None]
        ledger = flow.ledger(started)
    assert abs(ledger.unaccounted) < 1e-9 * float(started.abs().sum())
    assert math.isfinite(ledger.arrived)


class InFloat32(nn.Module):
    """Computes a part of its output with fewer digits than float64 has."""

    def forward(self, data: Tensor) -> Tensor:
        return data.float().square().to(data.dtype) + data


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_conversions_to_fewer_digits_are_named(dtype: torch.dtype) -> None:
    net = nn.Sequential(nn.Linear(4, 4), InFloat32(), nn.Linear(4, 2)).to(dtype).eval()
    with RelevanceFlow(net, composite_for(net).composite, torch.rand(2, 4, dtype=dtype)) as flow:
        lost = "Computed in float32, whatever the dtype of the model, and relevance is only as exact: '1'."
        assert flow.notes == ((lost,) if dtype == torch.float64 else ())


@pytest.mark.parametrize(("tensors", "times"), [(1, 1), (2, 2)])
def test_how_often_a_function_without_a_rule_runs(tensors: int, times: int) -> None:
    """Once; twice if the derivative by one of its tensors could lead through another, as in f(x, x + 1) here."""
    ran = []

    @torch.overrides.wrap_torch_function(lambda *values: values)
    def unknown(*values: Tensor) -> Tensor:
        ran.append(len(values))
        return values[0].sin() * values[-1]

    def function(x: Tensor) -> Tensor:
        return unknown(*[x, x + 1][:tensors])

    data = generated(2, 4)
    model = nn.Sequential(nn.Linear(4, 4), Function(function), nn.GELU(), nn.Linear(4, 2)).double()
    replica = prepare(model, composite_for(model, data).composite)
    RelevanceFlow(replica, None, data, ["0"])  # the first pass is compared with the model
    ran.clear()
    with RelevanceFlow(replica, None, data, ["0"]) as flow:
        assert len(ran) == times
        assert flow.notes == ("Without a rule, run by their gradient: unknown in '1'.",)
        arriving, started = flow.activation("0"), flow.output_relevance([0, 1])
        ranked, mapped = flow.down(started, to="0")[0], flow.down(started)[0]
    leaf = arriving.clone().requires_grad_()
    logits = model[2:](model[1](leaf))
    (gradient,) = torch.autograd.grad(logits, leaf, torch.eye(2, 2, dtype=torch.float64))
    assert_relevance_close(ranked, arriving * gradient, 1e-4)
    assert mapped.shape == data.shape
