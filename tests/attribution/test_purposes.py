"""Relevance that ends at layers and relevance that ends at the input follow rules of their own."""

import pytest
import torch
from torch import nn
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import LayerMapComposite, SpecialFirstLayerMapComposite
from zennit.rules import Epsilon, Flat, Gamma, Norm, Pass
from zennit.types import Activation, AvgPool, Convolution, Linear

from crp.attribution import INPUT, OUTPUT, ConditionalAttribution, RelevanceFlow, composite_for, prepare
from crp.errors import InputError
from crp.graphs import compose
from tests.oracle.comparing import assert_relevance_close

BY_PURPOSE, GAMMA, PLUS = "by-purpose", "by-purpose-gamma", "epsilon-plus-flat"
EPSILON = [(Activation, Pass()), (AvgPool, Norm()), (Linear, Epsilon())]


def with_weights(layer: nn.Module, *rows: list[float]) -> nn.Module:
    layer.weight = nn.Parameter(torch.tensor(rows, dtype=torch.float64).view_as(layer.weight))
    return layer


def small_net() -> nn.Sequential:
    """Computes [1, 1] -> [3, 2] -> [4, 5] -> [3, 5]; the second channel of "1" inhibits the first of "3"."""
    return nn.Sequential(
        with_weights(nn.Conv1d(2, 2, 1, bias=False), [1, 2], [3, -1]),
        nn.ReLU(),
        with_weights(nn.Conv1d(2, 2, 1, bias=False), [2, -1], [1, 1]),
        nn.ReLU(),
        nn.Flatten(),
        with_weights(nn.Linear(2, 2, bias=False), [2, -1], [0, 1]),
    ).double()


ONES = torch.ones(1, 2, 1, dtype=torch.float64)


def by_purpose(model: nn.Module, data: torch.Tensor, layers: list[str]) -> RelevanceFlow:
    return RelevanceFlow(model, composite_for(model, rules=BY_PURPOSE).composite, data, layers)


def flat(values: torch.Tensor) -> list[float]:
    return values.flatten().tolist()


def test_a_small_net_by_hand():
    """Epsilon from the output to the layer; z+ (and flat at the first one) from there to the input."""
    with by_purpose(small_net(), ONES, ["1", "3"]) as flow:
        start = flow.output_relevance([0])
        arriving = flow.down(start, to=["1", "3", INPUT])
        assert flat(arriving["3"]) == pytest.approx([8, -5], abs=1e-4)
        # 3 * (2 * 8 / 4 - 5 / 5) and 2 * (-8 / 4 - 5 / 5); with z+ it would be [5, -2]
        assert flat(arriving["1"]) == pytest.approx([9, -6], abs=1e-4)
        # z+ down to [5, -2], then flat
        assert flat(arriving[INPUT]) == pytest.approx([1.5, 1.5], abs=1e-4)
        masked = arriving["3"] * torch.tensor([1.0, 0.0])[:, None]
        # between layers by epsilon: 8 goes to [12, -4]; to the input by z+: [8, 0]
        assert flat(flow.down(masked, start="3", to="1")) == pytest.approx([12, -4], abs=1e-4)
        assert flat(flow.down(masked, start="3")) == pytest.approx([4, 4], abs=1e-4)
        assert flow.ledger(start).arrived == pytest.approx(3, abs=1e-4)
        swept = {}
        flow.sweep(start, ["1", "3"], swept.__setitem__)
        assert torch.equal(swept["1"], arriving["1"][0])
        assert torch.equal(swept["3"], arriving["3"][0])


def test_one_set_of_rules_serves_both_purposes():
    model = small_net()
    with RelevanceFlow(model, composite_for(model, rules=PLUS).composite, ONES, ["1", "3"]) as flow:
        arriving = flow.down(flow.output_relevance([0]), to=["1", INPUT])
        assert flat(arriving["1"]) == pytest.approx([5, -2], abs=1e-4)
        assert flat(arriving[INPUT]) == pytest.approx([1.5, 1.5], abs=1e-4)


def test_a_lower_concept_that_inhibits_has_a_negative_edge():
    model = small_net()
    edges = {}
    for rules in (BY_PURPOSE, PLUS):
        composite = composite_for(model, rules=rules).composite
        graph = compose(model, ONES, ["1", "3"], target=0, coverage=1, composite=composite)
        edges[rules] = {(edge.upper, edge.lower): edge.relevance for edge in graph.edges}
    inhibiting = ("3", 0), ("1", 1)
    assert edges[BY_PURPOSE][inhibiting] == pytest.approx(-4, abs=1e-4)
    assert edges[BY_PURPOSE][("3", 0), ("1", 0)] == pytest.approx(12, abs=1e-4)
    assert inhibiting not in edges[PLUS]


def test_conditions_chained_over_layers_are_ranked_and_end_as_maps():
    model = small_net()
    composite = composite_for(model, rules=BY_PURPOSE).composite
    result = ConditionalAttribution(model)(ONES, [{"y": [0], "3": [0], "1": [1]}], composite)
    assert flat(result.relevances["1"]) == pytest.approx([12, -4], abs=1e-4)
    assert flat(result.heatmap) == pytest.approx([-4], abs=1e-4)


class Branching(nn.Module):
    """Convolutions with a skip connection, pooling, functional layers and two layers below."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2))
        self.block = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1))
        self.top = nn.Sequential(nn.Conv2d(6, 8, 3), nn.ReLU())
        self.kernel = nn.Parameter(torch.randn(8, 8, 1, 1))
        self.head = nn.Linear(8, 3)

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        stem = self.stem(data)
        top = self.top(torch.relu(self.block(stem) + stem))
        return self.head(torch.relu(nn.functional.conv2d(top, self.kernel)).mean((2, 3)))


LAYERS = ["stem", "block.1", "block", "top"]


@pytest.fixture(scope="module")
def branching() -> nn.Module:
    torch.manual_seed(0)
    model = Branching().double().eval()
    model.stem[1].running_mean.uniform_(-0.5, 0.5)
    return model


@pytest.fixture(scope="module")
def data() -> torch.Tensor:
    return torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def flows(branching, data):
    """Three flows: both sets of rules, and each set alone."""
    rules = composite_for(branching, data, rules=BY_PURPOSE).composite
    plus = composite_for(branching, data, rules=PLUS).composite
    with (
        RelevanceFlow(branching, rules, data, LAYERS) as both,
        RelevanceFlow(branching, rules.ranking, data, LAYERS) as ranking,
        RelevanceFlow(branching, plus, data, LAYERS) as maps,
    ):
        yield both, ranking, maps


def test_each_purpose_has_the_relevance_of_its_rules_alone(flows):
    """In any order of passes: the factors that neighbouring rules share are kept for each purpose."""
    both, ranking, maps = flows
    cells = torch.eye(4, dtype=torch.float64).repeat_interleave(16, 1).view(4, 8, 8)
    for conditions in (1, 5, 1):
        one = both.output_relevance([1, 2]) * torch.arange(1, conditions + 1, dtype=torch.float64)[:, None, None]
        arriving = both.down(one, to=[INPUT, *LAYERS])
        for layer in LAYERS:
            assert_near(arriving[layer], ranking.down(one, to=layer))
        assert_near(arriving[INPUT], maps.down(one))
        for layer in LAYERS:
            assert_near(both.down(arriving[layer], start=layer), maps.down(arriving[layer], start=layer))
            assert_near(both.up(cells, layer), maps.up(cells, layer))
        between = both.down(arriving["top"], start="top", to=["block.1", "stem"], blocked=["block"])
        expected = ranking.down(arriving["top"], start="top", to=["block.1", "stem"], blocked=["block"])
        for layer in between:
            assert_near(between[layer], expected[layer])
        assert both.ledger(one[:1]).entries == maps.ledger(one[:1]).entries
    assert not torch.allclose(arriving["stem"], maps.down(one, to="stem"))


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_heatmaps_of_all_concepts_add_up(flows):
    """To the heatmap of all that arrives at the layer; not to the heatmap of the prediction, which is all maps."""
    both, *_ = flows
    start = both.output_relevance([1, 2])
    arriving = both.down(start, to="top")
    single = both.down(torch.eye(8, dtype=torch.float64)[:, None, :, None, None] * arriving, start="top")
    layer = both.down(arriving, start="top")
    torch.testing.assert_close(single.sum(0, keepdim=True), layer, rtol=1e-9, atol=1e-9)
    cells = torch.ones(1, 8, 8, dtype=torch.float64)
    table = both.regions("top", cells, arriving[0])
    torch.testing.assert_close(table[0], single.sum((2, 3, 4)).T, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(layer, both.down(start))


def test_regions_flow_up_by_the_transpose_of_the_maps(flows):
    both, *_ = flows
    regions = torch.rand(3, 2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    relevance = torch.rand(3, 2, 8, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    inner = (both.down(relevance, start="top") * regions).sum()
    assert float((both.up(regions, "top") * relevance).sum()) == pytest.approx(float(inner), rel=1e-12)


def test_ranking_is_zennits_epsilon(branching, data):
    """Computed by zennit itself, on a net of modules."""
    torch.manual_seed(4)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5, 3)
    ).double()
    with (
        by_purpose(model, data, ["1", "4"]) as ours,
        RelevanceFlow(model, LayerMapComposite(EPSILON), data, ["1", "4"]) as theirs,
    ):
        for layer in ("1", "4"):
            start = ours.output_relevance([0, 2])
            assert torch.equal(ours.down(start, to=layer), theirs.down(start, to=layer))


def test_a_flow_that_ends_at_layers_keeps_no_rules_for_maps(branching, data):
    replica = prepare(branching, composite_for(branching, data, rules=BY_PURPOSE).composite)
    with RelevanceFlow(replica, None, data, ["top"], to_input=False) as flow:
        calls = {purpose for call in module_calls(flow) for purpose in call.by_purpose}
        assert [purpose.value for purpose in calls] == ["ranking"]
        assert flow.down(flow.output_relevance([0, 0]), to="top").abs().sum() > 0
    with RelevanceFlow(replica, None, data, ["top"]) as flow:
        calls = {purpose.value for call in module_calls(flow) for purpose in call.by_purpose}
        assert calls == {"ranking", "maps"}


def module_calls(flow: RelevanceFlow) -> list:
    from crp.attribution.backward_graph import graph_below

    nodes = graph_below(flow.tensors(OUTPUT)[1])
    return [node.call for node in nodes if hasattr(getattr(node, "call", None), "by_purpose")]


@pytest.mark.parametrize("net", [nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))], ids=["dense"])
def test_a_net_without_convolutions_has_one_set_of_rules(net):
    fitting = composite_for(net, rules=BY_PURPOSE)
    assert fitting.name == "epsilon"
    assert not prepare(net, fitting.composite).by_purpose


def test_rules_are_named():
    model = small_net()
    assert composite_for(model, rules=BY_PURPOSE).name == "epsilon; maps: epsilon-plus-flat"
    assert composite_for(model, rules=PLUS).name == "epsilon-plus-flat"
    assert composite_for(model, rules=GAMMA).name == "epsilon; maps: epsilon-gamma-flat"
    with pytest.raises(InputError, match=r"^There are no rules 'by_purpose': did you mean 'by-purpose' or "):
        composite_for(model, rules="by_purpose")


def test_gamma_for_maps_by_hand():
    """The convolution makes 4 of 2 · 3 − 1 · 2; gamma weighs it as 2.5 · 3 − 1 · 2 = 5.5, and z+ as 2 · 3."""
    model = nn.Sequential(
        with_weights(nn.Conv1d(1, 1, 1, bias=False), [1]), nn.ReLU(),
        with_weights(nn.Conv1d(1, 1, 2, bias=False), [2, -1]), nn.ReLU(), nn.Flatten(),
        with_weights(nn.Linear(1, 1, bias=False), [1]),
    ).double()  # fmt: skip
    data = torch.tensor([[[3.0, 2.0]]], dtype=torch.float64)
    expected = {BY_PURPOSE: [4, 0], GAMMA: [4 * 7.5 / 5.5, -4 * 2 / 5.5]}
    for rules, heatmap in expected.items():
        with RelevanceFlow(model, composite_for(model, rules=rules).composite, data, ["1"]) as flow:
            start = flow.output_relevance([0])
            assert flat(flow.down(start)) == pytest.approx(heatmap, rel=1e-5)
            assert flat(flow.down(start, to="1")) == pytest.approx([6, -2], rel=1e-5)  # ranked by epsilon in both


def test_gamma_for_maps_is_zennits():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    ).double().eval()  # fmt: skip
    data = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        model[3].running_mean.uniform_(-0.2, 0.2)
        model[3].running_var.uniform_(0.5, 2)
    zennits = SpecialFirstLayerMapComposite(
        [(Activation, Pass()), (AvgPool, Norm()), (Convolution, Gamma(0.25)), (nn.Linear, Epsilon())],
        [(Convolution, Flat())],
        canonizers=[SequentialMergeBatchNorm()],
    )
    model[3].eps = 0.0  # zennit's canonizer leaves it out
    with RelevanceFlow(model, composite_for(model, data, rules=GAMMA).composite, data) as flow:
        ours = flow.down(flow.output_relevance([0, 2]))
        assert not flow.notes
    with RelevanceFlow(model, zennits, data) as flow:
        assert_relevance_close(ours, flow.down(flow.output_relevance([0, 2])), 1e-9)


@pytest.mark.parametrize(
    ("net", "name"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), "epsilon"),
        (
            nn.Sequential(nn.Conv2d(3, 3, 1, groups=3), nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)),
            "epsilon; maps: epsilon-plus-flat, without biases of convolutions",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)),
            "epsilon; maps: epsilon-plus-flat",
        ),
    ],
    ids=["dense", "depthwise", "first layer alone"],
)
def test_gamma_is_left_out_where_it_has_no_place(net, name):
    data = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    found = {}
    for rules in (GAMMA, BY_PURPOSE):
        fitting = composite_for(net, rules=rules)
        assert fitting.name == name
        with RelevanceFlow(net, fitting.composite, data) as flow:
            found[rules] = flow.down(flow.output_relevance([0, 1]))
    assert torch.equal(found[GAMMA], found[BY_PURPOSE])


def test_gamma_is_the_default():
    model = small_net()
    assert composite_for(model).name == composite_for(model, rules=GAMMA).name == "epsilon; maps: epsilon-gamma-flat"
