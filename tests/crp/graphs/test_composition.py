"""Attribution graphs against the slow way: each edge as a conditional attribution of its own."""

import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn
from zennit.composites import EpsilonPlusFlat

import crp
from crp.attribution import OUTPUT, CondAttribution
from crp.attribution.starts import Difference, Logit, Logits, LogOdds
from crp.concepts import ChannelConcept
from crp.errors import InputError, LibraryError
from crp.graphs.composition import apart, compose
from oracle.nets import SkipNet, plain_net, with_random_weights

TOTAL = ChannelConcept().total


class Diamond(nn.Module):
    """A stem, two branches of different depth that are joined again, and a way around both."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.left = nn.Conv2d(4, 3, 3, padding=1)
        self.right1 = nn.Conv2d(4, 5, 1)
        self.right2 = nn.Conv2d(5, 3, 3, padding=1)
        self.around = nn.Conv2d(4, 2, 1)
        self.join = nn.Conv2d(8, 4, 2, stride=2)
        self.head = nn.Linear(64, 3)

    def forward(self, data):
        stem = self.stem(data).relu()
        left = self.left(stem).relu()
        right = self.right2(self.right1(stem).relu()).relu()
        if stem.sum() > 1e9:  # control flow, which a tracer would freeze
            return left
        joined = torch.cat([left, right, self.around(stem).relu()], 1)
        return self.head(self.join(joined).relu().flatten(1))


NETS = {
    "chain": (
        plain_net,
        ["linear1", "conv2", "conv1"],
        [(OUTPUT, "linear1"), ("linear1", "conv2"), ("conv2", "conv1")],
    ),
    # relu1 feeds conv2 and, around it, the sum: what lies above conv2 reaches conv1 both ways
    "skip": (
        SkipNet,
        ["conv3", "conv2", "conv1"],
        [(OUTPUT, "conv3"), ("conv3", "conv2"), ("conv3", "conv1"), ("conv2", "conv1")],
    ),
    "diamond": (
        Diamond,
        ["join", "right2", "right1", "left", "stem"],
        [
            (OUTPUT, "join"),
            ("join", "left"),
            ("join", "right2"),
            ("join", "stem"),
            ("right2", "right1"),
            ("right1", "stem"),
            ("left", "stem"),
        ],
    ),
}


def samples(count=1):
    return torch.randn(count, 2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


def explicit_edge(model, composite, data, layers, upper, lower, masked):
    """Relevance at `lower` when `masked` starts at `upper` and every other layer lets nothing through.

    Plain autograd with zennit's own hooks on the model: none of RelevanceFlow.
    """
    modules = dict(model.named_modules())
    outputs = {}

    def record(name):
        def hook(module, args, output):
            outputs[name] = output
            # what lies above sees a copy whose gradient is what arrives; only the masked layer's own input goes on
            above = output.clone()
            above.retain_grad()
            outputs[f"{name} above"] = above
            return above

        return hook

    handles = []
    with composite.context(model) as modified:
        for name in layers:
            handles.append(modules[name].register_forward_hook(record(name)))
        try:
            prediction = modified(data.clone().requires_grad_())
        finally:
            for handle in handles:
                handle.remove()
        source = prediction if upper == OUTPUT else outputs[upper]
        for name in layers:
            if name not in (upper, lower):
                outputs[name].register_hook(torch.zeros_like)
        (arrived,) = torch.autograd.grad(source, outputs[f"{lower} above"], masked, allow_unused=True)
    return arrived


@pytest.mark.parametrize(("build", "layers", "connections"), NETS.values(), ids=NETS)
@pytest.mark.parametrize("root", [None, "top"])
def test_edges_are_explicit_conditional_attributions(build, layers, connections, root):
    model, data, target = with_random_weights(build(), 5), samples(), 0
    composite = EpsilonPlusFlat()
    options = {"target": target, "coverage": 1, "breadth": 99, "composite": composite}
    graph, of = compose(model, data, layers, **options), None
    if root is not None:
        of = max((node for node in graph.nodes if node.layer == layers[0]), key=lambda node: node.relevance).key
        graph = compose(model, data, layers, of=of, **options)
    expected = [pair for pair in connections if root is None or pair[0] != OUTPUT]
    assert sorted({(edge.upper[0], edge.lower[0]) for edge in graph.edges}) == sorted(expected)

    # what arrives at each layer under the root's condition, again by plain autograd
    start = torch.zeros(1, 3, dtype=torch.float64)
    start[0, target] = model(data)[0, target].detach()
    attribution = CondAttribution(model)
    condition = {"y": [target]} if of is None else {"y": [target], of[0]: [of[1]]}
    arriving = attribution(data, [condition], EpsilonPlusFlat(), record_layer=list(layers)).relevances
    count = 0
    for node in graph.nodes:
        upper, concept = node.key
        masked = start if upper == OUTPUT else torch.zeros_like(arriving[upper])
        if upper != OUTPUT:
            masked[:, concept] = arriving[upper][:, concept]
        for lower in {edge.lower[0] for edge in graph.out_of(node)}:
            arrived = explicit_edge(model, EpsilonPlusFlat(), data, layers, upper, lower, masked)
            values = TOTAL(arrived)[0].tolist()
            scale = max(map(abs, values))
            edges = {edge.lower[1]: edge.relevance for edge in graph.out_of(node) if edge.lower[0] == lower}
            for other, value in enumerate(values):
                assert edges.get(other, 0.0) == pytest.approx(value, abs=1e-9 * scale)
                count += 1
        if upper != OUTPUT:
            assert node.relevance == pytest.approx(TOTAL(arriving[upper])[0, concept].item(), rel=1e-9)
    assert count >= 20


@pytest.mark.parametrize(("build", "layers", "connections"), NETS.values(), ids=NETS)
def test_with_every_edge_nothing_is_left_over(build, layers, connections):
    """All edges into a concept are all its relevance: direct connections count each way once, and miss none."""
    model = with_random_weights(build(), 5)
    graph = compose(model, samples(), layers, target=0, coverage=1, breadth=99, composite=EpsilonPlusFlat())
    scale = max(abs(node.relevance) for node in graph.nodes)
    assert len(graph.nodes) > 8
    for node in graph.nodes[1:]:
        assert abs(node.rest) < 1e-9 * scale
        assert math.fsum(edge.part for edge in graph.into(node)) == pytest.approx(1, abs=1e-6)
        assert math.isnan(node.carried) or node.carried == pytest.approx(1, abs=1e-12)
    assert graph.root.rest == graph.root.relevance == graph.started


@pytest.mark.parametrize("coverage", [0.3, 0.8])
def test_kept_edges_carry_the_coverage_and_no_fewer_would(coverage):
    model = with_random_weights(Diamond(), 3)
    layers = NETS["diamond"][1]
    whole = compose(model, samples(), layers, target=1, coverage=1, breadth=99, composite=EpsilonPlusFlat())
    graph = compose(model, samples(), layers, target=1, coverage=coverage, breadth=99, composite=EpsilonPlusFlat())
    assert len(graph.edges) < len(whole.edges)
    for node in graph.nodes:
        every = sorted((abs(edge.relevance) for edge in whole.out_of(whole.node(*node.key))), reverse=True)
        kept = sorted((abs(edge.relevance) for edge in graph.out_of(node)), reverse=True)
        assert kept == pytest.approx(every[: len(kept)])
        if every:
            assert node.carried == pytest.approx(sum(kept) / sum(every))
            assert node.carried >= coverage - 1e-12
            assert sum(kept[:-1]) < coverage * sum(every)
        into = math.fsum(edge.relevance for edge in graph.into(node))
        assert into + node.rest == pytest.approx(node.relevance, abs=1e-12)
        assert node.relevance == pytest.approx(whole.node(*node.key).relevance, rel=1e-9)


def test_a_shared_concept_is_one_node_and_breadth_says_what_it_left():
    graph = compose(
        with_random_weights(Diamond(), 5),
        samples(),
        NETS["diamond"][1],
        target=0,
        coverage=0.95,
        breadth=2,
        composite=EpsilonPlusFlat(),
    )
    assert len({node.key for node in graph.nodes}) == len(graph.nodes)
    for layer in graph.layers[1:]:
        assert sum(node.layer == layer for node in graph.nodes) <= 2
    assert any(len(graph.into(node)) > 1 for node in graph.nodes)
    assert min(node.carried for node in graph.nodes if graph.out_of(node)) < 0.95


@pytest.mark.parametrize("batch", [2, 8])
def test_over_samples_numbers_are_means(batch):
    model, data = with_random_weights(SkipNet(), 5), samples(5)
    layers = NETS["skip"][1]
    options = {"target": 0, "coverage": 1, "breadth": 99, "composite": EpsilonPlusFlat()}
    graph = compose(model, data, layers, batch=batch, **options)
    single = [compose(model, data[i : i + 1], layers, **options) for i in range(5)]
    assert graph.samples == 5
    assert all(node.heatmap is None for node in graph.nodes)
    assert graph.started == pytest.approx(np.mean([one.started for one in single]))
    ends = {(edge.upper, edge.lower) for edge in graph.edges}
    assert ends == {(edge.upper, edge.lower) for one in single for edge in one.edges}
    assert len(ends) > 20
    for edge in graph.edges:
        values = [
            next((e.relevance for e in one.edges if (e.upper, e.lower) == (edge.upper, edge.lower)), 0.0)
            for one in single
        ]
        assert edge.relevance == pytest.approx(np.mean(values), abs=1e-9)
        assert edge.share == pytest.approx(np.mean(values) / graph.started, abs=1e-9)


def test_heatmaps_are_the_conditional_ones():
    model, data = with_random_weights(SkipNet(), 5), samples()
    graph = compose(model, data, ["conv3", "conv1"], target=0, composite=EpsilonPlusFlat())
    for node in graph.nodes:
        condition = {"y": [0]} if node.layer == OUTPUT else {"y": [0], node.layer: [node.concept]}
        heatmap = CondAttribution(model)(data, [condition], EpsilonPlusFlat()).heatmap[0]
        assert np.abs(node.heatmap - heatmap.numpy()).max() <= 1e-6 * float(heatmap.abs().max())


def test_a_library_gives_patches_and_the_name(tmp_path):
    model = with_random_weights(plain_net(), 1).float()
    data = [(samples(1)[0].float() + i, i % 3) for i in range(6)]
    options = {"k": 2, "patches": 1, "class_names": ["a", "b", "c"], "progress": False}
    library = crp.mine(model, data, layers=["conv1"], path=tmp_path / "a.crp", **options)
    graph = compose(model, data[0][0][None], ["conv1"], target=2, library=library)
    assert graph.root.name == "c"
    best = library.references("conv1", "relevance").sample[:, 0]
    assert [node.patch.sample for node in graph.nodes[1:]] == [best[node.concept] for node in graph.nodes[1:]]
    more = compose(model, data[0][0][None], ["conv2", "conv1"], target=2, library=library)
    assert {node.patch is None for node in more.nodes if node.layer == "conv2"} == {True}
    with pytest.raises(LibraryError, match=r" was mined with other weights "):
        compose(with_random_weights(plain_net(), 2).float(), data[0][0][None], ["conv1"], target=2, library=library)


REFUSED = {
    "nested": (
        {"layers": ["conv1", "block", "block.conv"]},
        r"^Layers of a graph must not contain one another, but 'block' contains 'block\.conv'\.$",
    ),
    "coverage": ({"coverage": 0}, r"^coverage is 0; it must be above 0 and at most 1\.$"),
    "breadth": ({"breadth": 0}, r"^breadth is 0; it must be a whole number of at least 1\.$"),
    "nothing below": ({"of": ("conv1", 0)}, r"^No layer of the graph is below 'conv1'\.$"),
    "no such concept": ({"of": ("conv2", 9)}, r"^There is no concept 9: "),
}


@pytest.mark.parametrize(("change", "sentence"), REFUSED.values(), ids=REFUSED)
def test_refused(change, sentence):
    model = with_random_weights(plain_net(), 1)
    with pytest.raises(InputError, match=sentence):
        compose(**{"model": model, "data": samples(), "layers": ["conv2", "conv1"], "target": 0, **change})


def test_layers_apart():
    assert apart(["layer1", "layer10", "layer1.0"]) == ["layer10", "layer1.0"]


def test_nothing_started_nothing_arrives():
    model = with_random_weights(plain_net(), 1)
    nn.init.zeros_(model.linear2.weight)
    nn.init.zeros_(model.linear2.bias)
    graph = compose(model, samples(), ["linear1", "conv1"], target=0)
    assert [node.key for node in graph.nodes] == [(OUTPUT, 0)]
    assert not graph.edges
    assert math.isnan(graph.root.share)


def test_control_flow_that_leaves_a_layer_out():
    """The pass that happened counts, not the code."""

    class Choosing(nn.Sequential):
        def forward(self, data):
            return self.head((self.first(data) if data.mean() > 0 else self.second(data)).flatten(1))

    model = Choosing(
        OrderedDict(first=nn.Conv2d(2, 3, 3), second=nn.Conv2d(2, 3, 3), head=nn.Linear(108, 2))
    )
    with_random_weights(model, 2)
    for sign, layer in ((1, "first"), (-1, "second")):
        graph = compose(model, sign * samples().abs(), [layer], target=0, composite=EpsilonPlusFlat())
        assert graph.layers == (OUTPUT, layer)


def test_a_graph_of_a_start():
    torch.manual_seed(0)
    model, data = Diamond().double().eval(), torch.randn(3, 2, 8, 8, dtype=torch.float64)
    layers, given = ["join", "stem"], {"composite": EpsilonPlusFlat()}
    by_name, by_start = (
        compose(model, data, layers, target=target, **given) for target in ("2 - 0", Difference(Logit(2), Logit(0)))
    )
    assert by_name.root.name == by_start.root.name == "class 2 − class 0"
    assert (by_name.root.key, by_name.started) == ((OUTPUT, 0), by_start.started)
    with torch.no_grad():
        output = model(data)
    assert by_start.started == pytest.approx(float((output[:, 2] - output[:, 0]).mean()), rel=1e-12)
    assert compose(model, data, layers, target=Logit(2), **given).root.key == (OUTPUT, 2)
    # a batch of one sample at a time gives the same means
    whole, single = (compose(model, data, layers, target=LogOdds(1), batch=batch, **given) for batch in (3, 1))
    assert single.started == pytest.approx(whole.started, rel=1e-12)
    for edge, other in zip(whole.edges, single.edges, strict=True):
        assert edge.relevance == pytest.approx(other.relevance, rel=1e-9)


def test_a_class_for_each_sample_does_not_fit_several_batches():
    torch.manual_seed(0)
    model, data = Diamond().double().eval(), torch.randn(4, 2, 8, 8, dtype=torch.float64)
    with pytest.raises(InputError, match=r"^1 samples need one class each, given 2: \[0, 1\]\.$"):
        compose(model, data, ["join"], target=Logits([0, 1]), composite=EpsilonPlusFlat(), batch=2)
