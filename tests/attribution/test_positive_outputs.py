"""The gamma rule with fewer convolutions: zennit's relevance, whatever comes to which output, in both directions.

The other side of each comparison runs all five branches of zennit's rule.
"""

from collections.abc import Iterator, Sequence
from unittest import mock

import pytest
import torch
from torch import nn
from zennit.composites import LayerMapComposite
from zennit.core import BasicHook, Composite, Stabilizer
from zennit.layer import Sum
from zennit.rules import AlphaBeta, Epsilon, Flat, Gamma, Norm, Pass
from zennit.types import Activation, AvgPool, Convolution

from crp.attribution import RelevanceFlow, composite_for, replica
from crp.attribution.backward_graph import graph_below
from crp.attribution.positive_outputs import shorter_calls
from crp.attribution.purposes import Purpose
from crp.attribution.ruled_module import ModuleCall
from crp.attribution.rules import GammaRule, ZPlusOrMinus, in_fewer_branches
from tests.oracle.comparing import assert_relevance_close


class Block(nn.Module):
    """Two convolutions with a skip connection; no ReLU follows the second one alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu = nn.ReLU()
        self.second = nn.Conv2d(channels, channels, 1)
        self.sum = Sum()

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        return self.sum(torch.stack([data, self.second(self.relu(self.first(data)))], -1))


class Fork(nn.Module):
    """Two convolutions side by side; their outputs are concatenated, as in SqueezeNet."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.small, self.large = nn.Conv2d(channels, 3, 1), nn.Conv2d(channels, 2, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.relu(self.small(data)), self.relu(self.large(data))], 1)


def network() -> nn.Module:
    torch.manual_seed(0)
    parts = [
        ("stem", nn.Conv2d(2, 4, 3)), ("relu0", nn.ReLU()), ("block", Block(4)), ("signed", nn.Conv2d(4, 4, 3)),
        ("relu1", nn.ReLU()), ("squeeze", nn.Conv2d(4, 3, 1)), ("relu2", nn.ReLU()), ("fork", Fork(3)),
        ("pool", nn.MaxPool2d(2)), ("last", nn.Conv2d(5, 4, 1)), ("relu3", nn.ReLU()),
        ("mean", nn.AdaptiveAvgPool2d(1)), ("flat", nn.Flatten()), ("linear", nn.Linear(4, 3)),
    ]  # fmt: skip
    model = nn.Sequential()
    for name, part in parts:
        model.add_module(name, part)
    return model.double()


LAYERS = ["relu0", "block.first", "block.relu", "block.second", "block", "signed", "relu1", "squeeze", "fork", "last"]
DATA = torch.randn(2, 2, 11, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
ALWAYS = {"block.first", "signed", "squeeze", "fork.small", "fork.large", "last"}
"""Convolutions that a ReLU follows, whose input has no negative value; of 'signed' the input has both signs."""


def composite(rule: BasicHook) -> Composite:
    return LayerMapComposite(
        [(Activation, Pass()), (AvgPool, Norm()), (Sum, Norm()), (Convolution, rule), (nn.Linear, Epsilon())]
    )


GAMMA = composite(Gamma(0.25))


def all_branches(model: nn.Module, rules: Composite, data: torch.Tensor, layers: Sequence[str] = ()) -> RelevanceFlow:
    """Open a flow with the rule as zennit states it."""
    with mock.patch.object(replica, "in_fewer_branches", lambda hook: hook):
        return RelevanceFlow(model, rules, data, layers)


def generated(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def calls(flow: RelevanceFlow) -> Iterator[ModuleCall]:
    nodes = graph_below(flow._taps["(output)"].below)
    return (node.call for node in nodes if isinstance(getattr(node, "call", None), ModuleCall))


def shorter(flow: RelevanceFlow, layer: str, relevance: torch.Tensor | None) -> set[str]:
    """Names of the modules that use the shorter form for relevance that starts at a layer."""
    found = shorter_calls([flow._at(layer).below], [relevance], Purpose.MAPS)
    return {call.module.name for call in calls(flow) if call.by_purpose[Purpose.MAPS] in found}


def test_the_rule_is_zennits_gamma():
    """On inputs, weights, biases and outputs of both signs, with zennit's own hook."""
    torch.manual_seed(0)
    for module, shape in ((nn.Conv2d(3, 4, 3), (2, 3, 6, 6)), (nn.ConvTranspose1d(3, 2, 3, stride=2), (2, 3, 5))):
        model = nn.Sequential(module.double())
        data = generated(3, *shape).requires_grad_()
        found = []
        for rule in (Gamma(0.25), GammaRule(0.25)):
            with LayerMapComposite([(Convolution, rule)]).context(model) as ruled:
                output = ruled(data)
                found.append(torch.autograd.grad(output, data, generated(4, *output.shape))[0])
        assert_relevance_close(found[1], found[0], 1e-12)


def test_rules_that_do_what_gamma_does_are_known_by_it():
    """Those that leave out biases or stabilise in another way do something else."""
    layer, data = nn.Linear(3, 4).double(), generated(14, 5, 3)
    for gamma, epsilon in ((0.25, 1e-6), (3.0, 0.1), (0.0, 1e-6)):
        rule = Gamma(gamma, stabilizer=epsilon)
        assert type(in_fewer_branches(rule)) is GammaRule
        rules = LayerMapComposite([(nn.Linear, rule)])
        with all_branches(layer, rules, data) as theirs, RelevanceFlow(layer, rules, data) as flow:
            relevance = generated(15, 1, 5, 4)
            assert_relevance_close(flow.down(relevance), theirs.down(relevance), 1e-10)
    others = (
        Gamma(zero_params="bias"), Gamma(stabilizer=Stabilizer(1e-3, clip=True)),
        Gamma(stabilizer=Stabilizer(1e-3, norm_scale=True)), ZPlusOrMinus(), AlphaBeta(2, 1), Epsilon(),
    )  # fmt: skip
    for rule in others:
        assert in_fewer_branches(rule) is rule


def test_an_output_of_zero_gets_and_sends_nothing():
    model = nn.Sequential(nn.Conv1d(2, 1, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[[1.0], [-2.0]]]))
    data = torch.tensor([[[4.0, 4.0], [2.0, 1.0]]], dtype=torch.float64)  # 4 - 4 = 0 and 4 - 2 = 2
    # z = 2 is 5 - 2 = 3 with gamma
    expected = torch.tensor([[[[0.0, 5.0], [0.0, -2.0]]]], dtype=torch.float64)
    for make in (all_branches, RelevanceFlow):
        with make(model, GAMMA, data) as flow:
            assert_relevance_close(flow.down(torch.full((1, 1, 1, 2), 3.0).double())[0], expected[0], 1e-5)


@pytest.mark.parametrize("together", [True, False], ids=["together", "one at a time"])
def test_relevance_of_any_layer_is_zennits(together):
    """Relevance that arrives there, and any other; in this order and in the other, because factors are kept."""
    model = network()
    with (
        all_branches(model, GAMMA, DATA, LAYERS) as theirs,
        RelevanceFlow(model, GAMMA, DATA, LAYERS, chunk=3 if together else 1) as ours,
    ):
        for times in range(2):
            for layer in LAYERS:
                arriving = theirs.down(theirs.output_relevance([0, 1]), to=layer)
                masks = generated(5, 3, 1, arriving.shape[2], 1, 1)
                anything = generated(6, 3, *arriving.shape[1:])
                for relevance in (arriving * masks, anything)[:: 1 - 2 * times]:
                    expected = theirs.down(relevance, start=layer)
                    assert_relevance_close(ours.down(relevance, start=layer), expected, 1e-10)


def test_up_is_the_transpose_for_any_relevance():
    with RelevanceFlow(network(), GAMMA, DATA, LAYERS) as flow:
        regions = generated(7, 4, *DATA.shape)
        for layer in LAYERS:
            relevance = generated(8, 3, *flow.activation(layer).shape)
            down, up = flow.down(relevance, start=layer), flow.up(regions, layer)
            assert_relevance_close(
                up.flatten(1) @ relevance.flatten(1).T, regions.flatten(1) @ down.flatten(1).T, 1e-10
            )


def test_regions_and_the_graph_of_several_layers_count_relevance_that_arrives():
    """Below a ReLU they may use the shorter form; times relevance, the result is that of the whole transpose."""
    with RelevanceFlow(network(), GAMMA, DATA, LAYERS) as flow:
        cells = torch.zeros(4, 11, 11, dtype=torch.float64)
        for index in range(4):
            cells[index, index * 3 : index * 3 + 2] = 1
        arriving = {layer: found[0] for layer, found in flow.down(flow.output_relevance([0, 1]), to=LAYERS).items()}
        graph = flow.upward_graph(LAYERS, arriving)
        whole = cells[:, None, None].expand(-1, 2, 2, -1, -1)
        lifted = dict(zip(graph.layers, graph.up(whole, [*graph.layers.values()]), strict=True))
        assert lifted.keys() == set(LAYERS)
        for layer, relevance in arriving.items():
            expected = flow.up(cells, layer) * relevance
            assert_relevance_close(lifted[layer] * relevance, expected, 1e-10)
            assert_relevance_close(flow.regions(layer, cells, relevance), expected.sum((3, 4)), 1e-10)


def test_which_calls_are_shorter():
    with RelevanceFlow(network(), GAMMA, DATA, LAYERS) as flow:
        assert shorter(flow, "(output)", None) == ALWAYS - {"signed"}
        arriving = flow.down(flow.output_relevance([0, 1]), to="fork")
        below = {"block.first", "squeeze"}
        assert shorter(flow, "fork", arriving) == below | {"fork.small", "fork.large"}
        assert shorter(flow, "fork", torch.ones_like(arriving)) == below  # also at zeros
        assert shorter(flow, "fork", None) == below
        # a convolution as the layer: at its negative outputs there is relevance or not
        arriving = flow.down(flow.output_relevance([0, 1]), to="squeeze")
        assert shorter(flow, "squeeze", arriving) == {"block.first", "squeeze"}
        assert shorter(flow, "squeeze", arriving + 1) == {"block.first"}
        # no ReLU follows the end of the block, and relevance comes to its negative outputs
        arriving = flow.down(flow.output_relevance([0, 1]), to="block.second")
        assert shorter(flow, "block.second", arriving) == {"block.first"}


@pytest.mark.parametrize(
    ("reader", "shorter_below"),
    [
        (nn.Conv2d(3, 2, 1), True),
        (nn.Sequential(nn.MaxPool2d(2), nn.Identity(), nn.Conv2d(3, 2, 1)), True),
        (nn.AvgPool2d(2), True),
        (nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1)), True),
        (nn.Softplus(), False),
        (nn.Sigmoid(), False),
    ],
    ids=["convolution", "max pooling", "average", "convolutions", "softplus", "gradient"],
)
def test_what_gives_relevance_to_zeros_is_told_from_what_does_not(reader, shorter_below):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1), nn.ReLU(), reader, nn.Flatten()).double()
    data = generated(9, 1, 2, 4, 4)
    with (
        all_branches(model, GAMMA, data) as theirs,
        RelevanceFlow(model, GAMMA, data) as flow,
    ):
        relevance = generated(10, 2, *flow.prediction.shape)
        assert ("2" in shorter(flow, "(output)", None)) is shorter_below
        assert_relevance_close(flow.down(relevance), theirs.down(relevance), 1e-10)


@pytest.mark.parametrize(
    "function",
    [
        lambda values: nn.functional.interpolate(values, scale_factor=2),
        lambda values: values.cumsum(2),
        lambda values: values.neg(),
        lambda values: torch.zeros_like(values).index_add(2, torch.arange(4), values),
        lambda values: torch.einsum("nchw,hv->ncvw", values, torch.ones(4, 2, dtype=values.dtype)),
    ],
    ids=["interpolate", "cumsum", "neg", "index_add", "einsum"],
)
def test_functions_that_share_relevance_in_proportion_give_none_to_zeros(function):
    class Reading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = nn.Conv2d(2, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 1)

        def forward(self, data: torch.Tensor) -> torch.Tensor:
            return self.third(function(self.second(self.first(data).relu()).relu())).mean((2, 3))

    torch.manual_seed(0)
    model, data = Reading().double(), generated(16, 1, 2, 4, 4)
    fitting = composite_for(model, data).composite
    with all_branches(model, fitting, data) as theirs, RelevanceFlow(model, fitting, data) as flow:
        relevance = generated(17, 3, *flow.prediction.shape)
        assert shorter(flow, "(output)", None) == {"second"}
        assert_relevance_close(flow.down(relevance), theirs.down(relevance), 1e-10)


def test_flat_above_gives_relevance_to_zeros():
    """No rule of this package's own does; a composite of the caller may."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 2, 1)).double()
    data = generated(11, 1, 2, 4, 4)
    hooks = {"0": Gamma(0.25), "1": Pass(), "2": Gamma(0.25), "3": Pass(), "4": Flat()}
    rules = Composite(module_map=lambda context, name, module: hooks.get(name))
    with all_branches(model, rules, data) as theirs, RelevanceFlow(model, rules, data) as flow:
        relevance = generated(12, 2, 1, 2, 4, 4)
        assert_relevance_close(flow.down(relevance), theirs.down(relevance), 1e-10)
        assert shorter(flow, "(output)", None) == set()


def test_the_shorter_form_is_used():
    """Only what has no shorter form runs the two branches, once for 3 conditions."""
    with RelevanceFlow(network(), GAMMA, DATA, ["last"]) as flow:
        arriving = flow.down(flow.output_relevance([0, 1]), to="last")
        applied: dict[str, mock.Mock] = {}
        for call in calls(flow):
            modified = call.by_purpose[Purpose.MAPS].operator.modified
            transposed = modified.transposed
            counted = mock.Mock(side_effect=transposed)
            modified.transposed, applied[call.module.name] = counted, counted
        flow.down(arriving * generated(13, 3, 1, 4, 1, 1), start="last")
    counts = {name: counted.call_count for name, counted in applied.items() if counted.call_count}
    assert counts == {"stem": 2, "block.second": 2, "signed": 2, "block.sum": 1}


def test_functions_in_a_net_with_merged_norms():
    """By the rules of `composite_for`, with ReLU, sum, pooling and concatenation as functions."""

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.first, self.second = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
            self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(3))
            self.wide, self.linear = nn.Conv2d(8, 4, 1), nn.Linear(4, 3)

        def forward(self, data: torch.Tensor) -> torch.Tensor:
            data = torch.relu(self.norms[0](self.stem(data)))
            inner = torch.relu(self.norms[1](self.first(data)))
            data = torch.relu(data + self.norms[2](self.second(inner)))
            pooled = nn.functional.max_pool2d(data, 2)
            data = torch.relu(self.wide(torch.cat([pooled, pooled], 1)))
            return self.linear(nn.functional.adaptive_avg_pool2d(data, 1).flatten(1))

    torch.manual_seed(0)
    model = Functional().double().eval()
    fitting = composite_for(model, DATA, rules="by-purpose-gamma").composite
    with all_branches(model, fitting, DATA) as theirs, RelevanceFlow(model, fitting, DATA) as flow:
        started = flow.output_relevance([0, 1])
        assert_relevance_close(flow.down(started), theirs.down(started), 1e-10)
        assert shorter(flow, "(output)", None) == {"first", "wide"}
