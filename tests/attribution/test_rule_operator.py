"""Rules as linear operators: the same relevance as zennit's own hooks, and an upward pass that is their transpose."""

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from zennit.composites import LayerMapComposite
from zennit.core import BasicHook, Composite, Stabilizer
from zennit.layer import Sum
from zennit.rules import (
    AlphaBeta,
    Epsilon,
    Flat,
    Gamma,
    Norm,
    Pass,
    ReLUGuidedBackprop,
    WSquare,
    ZBox,
    ZPlus,
)
from zennit.types import Activation, AvgPool, Linear

from crp.attribution import RelevanceFlow, rule_operator
from crp.attribution.operation_composite import ZPlusOrMinus
from crp.attribution.probing import InputFactor, probe, sign_kept, stabilizer
from crp.attribution.rule_operator import RuleCall, RuleOperator, mark_nonnegative_inputs
from crp.errors import ModelError
from tests.oracle.comparing import assert_relevance_close

RULES = {
    "epsilon": Epsilon(),
    "epsilon, large": Epsilon(0.25),
    "epsilon, no bias": Epsilon(zero_params="bias"),
    "z+": ZPlus(),
    "z+ or z-": ZPlusOrMinus(),
    "z+ or z-, without biases": ZPlusOrMinus("bias"),
    "alpha 2 beta 1": AlphaBeta(2, 1),
    "alpha 1 beta 0": AlphaBeta(1, 0),
    "gamma": Gamma(0.5),
    "z-box": ZBox(-4.0, 4.0),
    "w-square": WSquare(),
    "flat": Flat(),
    "norm": Norm(),
}


class Residual(nn.Module):
    """A block with a skip connection made a Sum module."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.sum = Sum()

    def forward(self, data):
        return self.sum(torch.stack([data, self.relu(self.convolution(data))], -1))


def network(seed: int = 0) -> nn.Module:
    """Strides, groups, dilation, a skip connection, both poolings, two linear layers."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=3, bias=False),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2, ceil_mode=True),
        Residual(6),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 7),
        nn.LeakyReLU(),
        nn.Linear(7, 4),
    ).double()


def composite_of(rule: BasicHook) -> Composite:
    return LayerMapComposite([(Activation, Pass()), (AvgPool, Norm()), (Sum, Norm()), (Linear, rule)])


def zennit_relevance(model: nn.Module, composite: Composite, data: torch.Tensor, targets: list[int]) -> torch.Tensor:
    with composite.context(model) as ruled:
        data = data.clone().requires_grad_()
        output = ruled(data)
        start = output.detach() * nn.functional.one_hot(torch.tensor(targets), output.shape[1])
        return torch.autograd.grad(output, data, start)[0]


@pytest.mark.parametrize(
    ("rule", "epsilon"),
    [
        (Epsilon(), 1e-6),
        (Epsilon(0.25), 0.25),
        (ZPlus(), 1e-6),
        (ZBox(-4.0, 4.0), None),
        (Flat(), 1e-6),
        (Epsilon(Stabilizer(1e-3, clip=True)), None),
        (Epsilon(Stabilizer(1e-3, norm_scale=True)), None),
        (AlphaBeta(2, 1), None),
        (Gamma(0.5), None),
    ],
)
def test_the_stabilizer_is_known_by_what_it_does(rule, epsilon):
    assert stabilizer(rule) == (epsilon if epsilon is None else pytest.approx(epsilon, rel=1e-15))


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_down_equals_zennit(rule):
    """One condition and several give what zennit's hooks give, in float64 to the last digits."""
    model, data = network(), torch.randn(3, 2, 13, 13, dtype=torch.float64)
    targets = [[0, 1, 2], [3, 3, 0], [1, 1, 1]]
    with RelevanceFlow(model, composite_of(rule), data) as flow:
        assert flow.linear
        started = torch.cat([flow.output_relevance(row) for row in targets])
        together = flow.down(started)
        alone = torch.cat([flow.down(row[None]) for row in started])
    expected = torch.stack([zennit_relevance(network(), composite_of(rule), data, row) for row in targets])
    assert_relevance_close(together, expected, 1e-12)
    assert_relevance_close(alone, expected, 1e-12)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@settings(max_examples=8)
@given(seed=st.integers(0, 1000), layer=st.sampled_from(["0", "2", "4", "5", "5.convolution", "8", "10"]))
def test_up_is_the_transpose_of_down(rule, seed, layer):
    """<down(R), M> = <R, up(M)> for any relevance, any region, from any layer."""
    model = network(seed)
    torch.manual_seed(seed + 1)
    data = torch.randn(2, 2, 9, 11, dtype=torch.float64)
    with RelevanceFlow(model, composite_of(rule), data, [layer]) as flow:
        relevance = torch.randn(3, *flow.activation(layer).shape, dtype=torch.float64)
        regions = torch.randn(4, *data.shape, dtype=torch.float64)
        down, up = flow.down(relevance, start=layer), flow.up(regions, layer)
    assert_relevance_close(
        up.flatten(1) @ relevance.flatten(1).T, regions.flatten(1) @ down.flatten(1).T, 1e-10
    )


@pytest.mark.parametrize(
    ("convolution", "shape"),
    [
        (nn.Conv1d(3, 4, 3, stride=2), (3, 12)),
        (nn.Conv3d(3, 4, 2), (3, 4, 5, 4)),
        (nn.ConvTranspose2d(3, 4, 3, stride=2), (3, 5, 5)),
        (nn.Conv2d(3, 4, 3, padding="same"), (3, 6, 6)),
        (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (3, 6, 6)),
        (nn.Conv2d(3, 4, (3, 2), padding=(1, 0), dilation=(1, 2)), (3, 6, 7)),
        (nn.Conv2d(3, 4, 2, padding=3), (3, 4, 4)),
        (nn.Conv2d(3, 4, 1, stride=(2, 3)), (3, 6, 7)),
        (nn.Conv2d(3, 4, 1, stride=2, padding=1), (3, 5, 5)),
        (nn.Conv2d(3, 4, 1, stride=2, bias=False), (3, 5, 5)),
        (nn.Conv2d(4, 4, 3, stride=2, groups=2), (4, 8, 8)),
    ],
    ids=[
        "1d", "3d", "transposed", "same padding", "reflecting", "uneven", "more padding than kernel", "pixels, strided",
        "pixels, padded", "pixels, no bias", "groups",
    ],
)
@pytest.mark.parametrize(
    "rule", [Epsilon(), AlphaBeta(2, 1), Gamma(), Flat()], ids=["epsilon", "alpha-beta", "gamma", "flat"]
)
def test_every_kind_of_convolution(convolution, shape, rule):
    model = nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)).double()
    data = torch.randn(2, *shape, dtype=torch.float64)
    model(data)
    with RelevanceFlow(model, composite_of(rule), data) as flow:
        found = flow.down(flow.output_relevance([0, 2]))
    assert_relevance_close(found[0], zennit_relevance(model, composite_of(rule), data, [0, 2]), 1e-12)


def test_sign_that_a_modifier_keeps():
    assert sign_kept(lambda data: data) == "all"
    assert sign_kept(lambda data: data.clamp(min=0)) == sign_kept(torch.relu) == "positive"
    assert sign_kept(lambda data: -torch.relu(-data)) == "negative"
    assert sign_kept(torch.abs) == "magnitude"
    for other in (torch.ones_like, lambda data: data.clamp(0, 1e6), lambda data: data.clamp(min=1e-20), torch.neg):
        assert sign_kept(other) is None
    assert sign_kept(lambda data: data.view(2, 3)) is None


@pytest.mark.parametrize("shift", [0.0, 5.0, -5.0], ids=["both signs", "positive", "negative"])
@pytest.mark.parametrize("rule", [ZPlus(), AlphaBeta(2, 1), Gamma()], ids=["z+", "alpha-beta", "gamma"])
def test_branches_by_the_signs_of_the_input(rule, shift):
    """Branches whose input is the module's own, or zero, are not computed; zennit computes them all."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 2)).double()
    data = torch.randn(2, 2, 4, 4, dtype=torch.float64).clamp(-2, 2) + shift
    with RelevanceFlow(model, composite_of(rule), data) as flow:
        found = flow.down(flow.output_relevance([0, 1]))
    assert_relevance_close(found[0], zennit_relevance(model, composite_of(rule), data, [0, 1]), 1e-12)


def test_probe_reads_the_factors_of_a_rule():
    """Alpha-beta weighs its branches by alpha and -beta times the input; flat by one, whatever the input."""
    alpha, beta = InputFactor(2.0, True), InputFactor(-1.0, True)
    assert probe(AlphaBeta(2, 1)) == [alpha, alpha, beta, beta]
    assert probe(Flat()) == [InputFactor(1.0, False)]
    assert probe(Gamma())[4].scale == 0


def test_rule_that_is_not_linear_runs_as_zennit_runs_it():
    """Guided backpropagation clamps: it is left to zennit's hook, said so, and has no way up."""
    model, data = network(), torch.randn(2, 2, 9, 9, dtype=torch.float64)
    composite = LayerMapComposite([(nn.ReLU, ReLUGuidedBackprop()), (Linear, Epsilon())])
    with RelevanceFlow(model, composite, data) as flow:
        started = torch.cat([flow.output_relevance(row) for row in ([0, 1], [2, 3])])
        found = flow.down(started)
        assert not flow.linear
        assert flow.notes[0] == "'1': ReLUGuidedBackprop is not a linear operator, so zennit's own hook is used."
        with pytest.raises(ModelError, match=r"Regions flow up through linear rules only\."):
            flow.up(torch.ones(1, 9, 9, dtype=torch.float64), "y")
    for row, targets in zip(found, ([0, 1], [2, 3]), strict=True):
        assert_relevance_close(row, zennit_relevance(network(), composite, data, targets), 1e-12)


def test_squaring_mapper_is_not_taken_for_linear():
    """A rule of the caller's own whose mapper squares relevance fails the probe, and still gives zennit's result."""
    rule = BasicHook(gradient_mapper=lambda relevance, outputs: relevance**2 / outputs[0])
    assert probe(rule) is None
    model, data = network(), torch.randn(1, 2, 9, 9, dtype=torch.float64)
    composite = LayerMapComposite([(nn.Linear, rule)])
    with RelevanceFlow(model, composite, data) as flow:
        found = flow.down(flow.output_relevance([1]))
    assert_relevance_close(found[0], zennit_relevance(network(), composite, data, [1]), 1e-12)


@pytest.mark.parametrize("axis", [-1, 1])
def test_a_sum_is_carried_as_it_is(axis):
    """A module that adds up an axis, with the norm rule: each summand takes its share."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.sum = Sum(axis)

        def forward(self, data):
            return self.sum(torch.stack([data, 3 * data, -data], axis))

    composite = LayerMapComposite([(Sum, Norm())])
    data = torch.tensor([[2.0, -4.0]], dtype=torch.float64)
    with RelevanceFlow(nn.Sequential(Block()), composite, data) as flow:
        relevance = torch.tensor([[[9.0, 6.0]], [[1.0, 0.0]]], dtype=torch.float64)
        # The summands x, 3 x and -x take 1/3, 1 and -1/3 of R; then come their gradients 1, 3 and -1.
        torch.testing.assert_close(flow.down(relevance), relevance * 11 / 3, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("value", "nowhere_negative"), [(0.5, True), (0.0, True), (-0.0, True), (-1e-30, False)])
def test_signs_of_all_inputs_are_found_at_once(dtype, value, nowhere_negative):
    data = torch.ones(2, 3, 4, 4, dtype=dtype)
    data[1, 2, 3, 0] = value
    sided, other = (RuleOperator(nn.Conv2d(3, 2, 1), hook, probe(hook)) for hook in (ZPlus(), Epsilon()))
    calls = [RuleCall(rule, data, data) for rule in (sided, other, sided)]
    mark_nonnegative_inputs(calls)
    assert [call.nonnegative for call in calls] == [nowhere_negative, False, nowhere_negative]


def test_what_a_relu_says_is_not_looked_at():
    """Of inputs that come from a ReLU, or from one through max pooling, the sign is known."""

    class Changing(nn.Module):
        def forward(self, data):
            return data - 0.5

    parts = [nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3)]
    model = nn.Sequential(*parts, nn.ReLU(), Changing(), nn.Conv2d(4, 2, 1), nn.Flatten()).double()
    data = torch.randn(2, 2, 11, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    composite = LayerMapComposite([(nn.ReLU, Pass()), (nn.Conv2d, ZPlus())])
    looking = mock.patch.object(rule_operator, "is_nonnegative", side_effect=rule_operator.is_nonnegative)
    with looking as looked, RelevanceFlow(model, composite, data) as flow:
        found = flow.down(flow.output_relevance([0, 1]))
    assert [call.args[0].shape[1:] for call in looked.call_args_list] == [(2, 11, 11), (4, 1, 1)]
    assert_relevance_close(found[0], zennit_relevance(model, composite, data, [0, 1]), 1e-12)


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        (ZPlus(), [True, False]),
        (Epsilon(), [False]),
        (ZBox(-1.0, 1.0), [False, False, False]),
        (BasicHook(input_modifiers=[torch.relu], output_modifiers=[torch.neg]), [False]),
        (BasicHook(param_modifiers=[lambda weight, name: weight.abs()]), [True]),
    ],
    ids=["z+", "epsilon", "z-box", "negated", "absolute"],
)
def test_branches_that_keep_the_sign(rule, kept):
    torch.manual_seed(0)
    operator = RuleOperator(nn.Conv2d(3, 2, 3), rule, [InputFactor(1.0, True)] * len(kept))
    assert [operator.modified.keeps_sign(branch) for branch in range(len(kept))] == kept


@pytest.mark.parametrize("rule", ["epsilon", "z+", "gamma"])
@pytest.mark.parametrize(
    "convolution",
    [nn.Conv2d(3, 12, 1), nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(3, 12, 1, stride=2), nn.Conv2d(3, 12, 3, stride=2)],
    ids=["1x1", "3x3", "1x1, stride 2", "3x3, stride 2"],
)
@pytest.mark.parametrize("chosen", [[[4, 4], [11, 11]], [[0, 2], [2, 0]], [[], []]], ids=["one each", "two", "none"])
def test_channels_without_relevance_are_left_out(monkeypatch, convolution, rule, chosen):
    torch.manual_seed(0)
    model = nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    composite, data = composite_of(RULES[rule]), torch.randn(2, 3, 7, 7)
    relevance = torch.zeros(2, 2, 12)
    for condition, channels in enumerate(chosen):
        for sample, channel in enumerate(channels):
            relevance[condition, sample, channel] = torch.randn(())
    widths, transposed = [], rule_operator.ModifiedModule.transposed

    def recorded(self, branch, values, *arguments):
        widths.append(values.shape[-3])
        return transposed(self, branch, values, *arguments)

    monkeypatch.setattr(rule_operator.ModifiedModule, "transposed", recorded)
    found = []
    for many in (12, 13):
        monkeypatch.setattr(rule_operator, "_MANY", many)
        with RelevanceFlow(model, composite, data) as flow:
            found += [flow.down(relevance), flow.down(relevance[:1])]  # several conditions, and one
    single, both = (len({channel for some in conditions for channel in some}) for conditions in (chosen[:1], chosen))
    assert set(widths[: len(widths) // 2]) == {single or 12, both or 12}
    assert set(widths[len(widths) // 2 :]) == {12}
    for few, every in zip(found[:2], found[2:], strict=True):
        assert torch.equal(few, every)
        assert bool(every.any()) is any(chosen)
