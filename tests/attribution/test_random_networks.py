"""Random small networks: whatever a model is made of, relevance is neither lost nor doubled without a note."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
import torch
from torch import nn
from zennit.core import Hook
from zennit.rules import Epsilon, Flat, Gamma, Norm

from crp.attribution import RelevanceFlow, composite_for, prepare, stabilizing
from crp.attribution.composites import RULES
from crp.attribution.observation import LinearCall, observe
from crp.attribution.operation_composite import (
    GammaComposite,
    NetworkKind,
    OperationComposite,
    RankingComposite,
    network_kind,
)
from crp.errors import ModelError
from tests.oracle.by_gradient import Convolutions
from tests.oracle.comparing import assert_relevance_close

from .random_networks import SHAPE, STEPS, RandomNet, generated


def check(seed: int) -> None:
    """Output, ledger, several conditions, parts of layers, both directions, another input, and what stays as it was."""
    net, data = RandomNet(seed, STEPS), generated(seed, *SHAPE) + 0.2
    before = {name: value.clone() for name, value in net.state_dict().items()}
    expected = net(data).detach()
    composite = composite_for(net, data if seed % 2 else None, rules=RULES[seed // 6 % 3])
    replica = prepare(net, composite.composite)
    layers = [name for name in net.once if not seed % 3]
    with RelevanceFlow(replica, None, data, layers) as flow:
        assert_relevance_close(flow.prediction, expected, 1e-12)
        started = flow.output_relevance([0, 1])
        ledger = flow.ledger(started)
        size = abs(ledger.started) + abs(ledger.arrived) + sum(abs(entry.absorbed) for entry in ledger.entries)
        assert flow.notes == ()
        assert abs(ledger.unaccounted) <= 1e-9 * size
        relevance = generated(seed + 1, 3, *expected.shape)
        carried = flow.down(relevance)
        each = torch.cat([flow.down(relevance[k : k + 1]) for k in range(3)])
        assert_relevance_close(carried, each, 1e-10)
        regions = generated(seed + 2, 2, *data.shape)
        for layer in layers:
            if not flow.reaches("(output)", layer):
                continue
            arriving = flow.down(started, to=layer)[0]
            whole = flow.down(arriving[None], start=layer)
            masks = torch.eye(4, dtype=torch.float64)[:, None, :, None, None]
            masked = flow.down(arriving * masks, start=layer)
            scale = float(masked.abs().max())
            assert float((masked.sum(0) - whole[0]).abs().max()) <= 1e-10 * scale
            lifted = flow.up(regions, layer)
            down = flow.down(generated(seed + 3, 2, *arriving.shape), start=layer)
            products = (down * regions), (generated(seed + 3, 2, *arriving.shape) * lifted)
            assert abs(float(products[0].sum() - products[1].sum())) <= 1e-9 * float(products[0].abs().sum())
    other = generated(seed + 4, *SHAPE) - 0.2
    # explained as it is, or refused because it takes another path
    with suppress(ModelError), RelevanceFlow(replica, None, other) as flow:
        assert_relevance_close(flow.prediction, net(other), 1e-12)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


# Every rule set, with and without data, with and without layers; two thousand are among the slow tests.
SEEDS = [pytest.param(seed, marks=[] if seed < 36 else pytest.mark.slow) for seed in range(100)]


@pytest.mark.parametrize("seed", SEEDS)
def test_no_relevance_is_lost(seed: int) -> None:
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(1, 20))
def test_no_relevance_is_lost_in_two_thousand_networks(block: int) -> None:
    for seed in range(100 * block, 100 * block + 100):
        check(seed)


class EpsilonEverywhere(OperationComposite):
    """Epsilon at every linear operation, also at convolutions."""

    def linear_rule(self, module: nn.Module, name: str, first: bool) -> Hook:
        return Epsilon(epsilon=1e-13)


def check_by_hand(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relevance equals the input times the gradient of the network by hand."""
    monkeypatch.setattr(stabilizing, "EPSILON", 1e-13)
    net, data = RandomNet(seed, STEPS), generated(seed, *SHAPE) + 0.2
    composite = EpsilonEverywhere(network_kind([LinearCall("", nn.Linear, False)]))
    with RelevanceFlow(net, composite, data) as flow:
        found = flow.down(flow.prediction[None])[0]
    net.by_hand, leaf = True, data.clone().requires_grad_()
    output = net(leaf)
    assert_relevance_close(output, flow.prediction, 1e-12)
    try:
        (gradient,) = torch.autograd.grad(output, leaf, torch.ones_like(output))
    except RuntimeError:
        return  # plain autograd does not allow to overwrite what a ReLU returned
    assert_relevance_close(found, data * gradient, 1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_epsilon_is_the_input_times_a_gradient_by_hand(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    check_by_hand(seed, monkeypatch)


class ExactGamma(GammaComposite):
    """The default rules with a vanishing stabiliser."""

    def __init__(self, network: NetworkKind, ranking: OperationComposite | None = None) -> None:
        super().__init__(network, ranking)
        self._flat, self._plus, self._norm = Flat(1e-13), Gamma(0.25, 1e-13), Norm(1e-13)
        self._epsilon = self._one_input = Epsilon(1e-13)


def check_gamma_by_hand(seed: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Relevance by the rules for maps equals the input times the gradient of the network by hand.

    Of one condition and of several, and of all for which relevance starts at a layer.
    """
    monkeypatch.setattr(stabilizing, "EPSILON", 1e-13)
    net, data = RandomNet(seed, STEPS), generated(seed, *SHAPE) + 0.2
    calls = observe(net, data).linear
    if network_kind(calls).depthwise:
        return False  # which have z+
    replica = prepare(net, ExactGamma(network_kind(calls), RankingComposite(network_kind(calls))))
    with RelevanceFlow(replica, None, data) as flow:
        prediction = flow.prediction
        relevance = torch.stack([prediction, prediction * torch.eye(3, dtype=data.dtype)[0], -2 * prediction])
        found = flow.down(relevance)
        single = flow.down(relevance[:1])
    for name, norm in replica.merges:
        linear, norm = net.get_submodule(name), net.get_submodule(norm)
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        shift = norm.bias - norm.running_mean * scale
        linear.bias = nn.Parameter(shift if linear.bias is None else linear.bias * scale + shift)
        along = (1, -1, 1, 1) if isinstance(linear, nn.ConvTranspose2d) else (-1, 1, 1, 1)
        linear.weight = nn.Parameter(linear.weight * scale.view(along))
        norm.forward = lambda values: values
    convolutions = sum(call.kind is not nn.Linear for call in calls)
    net.by_hand, leaf = True, data.clone().requires_grad_()
    with Convolutions(0.25, first_flat=True, last_epsilon=convolutions - 1 if net.head == "convolution" else None):
        output = net(leaf)
    assert_relevance_close(output, prediction, 1e-12)
    for arriving, started in zip(found, relevance, strict=True):
        try:
            (gradient,) = torch.autograd.grad(output, leaf, started / prediction, retain_graph=True)
        except RuntimeError:
            return False  # plain autograd does not allow to overwrite what a ReLU returned
        assert_relevance_close(arriving, data * gradient, 1e-4)
    assert_relevance_close(single[0], found[0], 1e-9)
    return True


@pytest.mark.parametrize("block", [0, 1, 2, *(pytest.param(block, marks=pytest.mark.slow) for block in range(3, 10))])
def test_gamma_is_the_input_times_a_gradient_by_hand(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = [check_gamma_by_hand(seed, monkeypatch) for seed in range(10 * block, 10 * block + 10)]
    assert any(compared)


@pytest.mark.slow
@pytest.mark.parametrize("check", [check_by_hand, check_gamma_by_hand])
@pytest.mark.parametrize("block", range(1, 20))
def test_rules_are_the_input_times_a_gradient_by_hand_in_two_thousand_networks(
    block: int, check: Callable[[int, pytest.MonkeyPatch], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(100 * block, 100 * block + 100):
        check(seed, monkeypatch)
