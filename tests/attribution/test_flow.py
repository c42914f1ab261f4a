"""One forward pass held open: what arrives, what adds up, what is refused."""

import gc

import pytest
import torch
from torch import nn
from zennit.composites import EpsilonPlusFlat, LayerMapComposite
from zennit.layer import Sum
from zennit.rules import Epsilon

from crp.attribution import INPUT, OUTPUT, RelevanceFlow, prepare
from crp.attribution.backward_graph import graph_below
from crp.attribution.rule_operator import RuleCall
from crp.concepts import ChannelConcept
from crp.errors import InputError, ModelError
from tests.oracle.comparing import assert_relevance_close


class Block(nn.Module):
    """A residual block that adds in place, and hands its input on unchanged beside two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.side = nn.Conv2d(4, 4, 1)
        self.sum = Sum()

    def forward(self, data):
        return self.sum(torch.stack([self.side(data), self.second(self.relu(self.first(data)))], -1))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.block = Block()
        self.top = nn.Sequential(nn.Conv2d(4, 5, 3), nn.ReLU(inplace=True))
        self.head = nn.Linear(5 * 16, 3)

    def forward(self, data):
        return self.head(self.top(self.block(self.relu(self.stem(data)))).flatten(1))


@pytest.fixture
def model():
    torch.manual_seed(3)
    return Net().double().eval()


@pytest.fixture
def data():
    return torch.randn(2, 2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


LAYERS = ["stem", "block.first", "block.side", "block", "top", "top.1"]


def test_layers_stand_in_the_order_in_which_they_complete(model, data):
    """Whatever the order asked; a block completes after its parts, and both are there even as one tensor."""
    with RelevanceFlow(model, None, data, ["top", "stem", "block", "top.1", "block.first"]) as flow:
        assert flow.layers == ("stem", "block.first", "block", "top.1", "top")


def test_reaches(model, data):
    with RelevanceFlow(model, EpsilonPlusFlat(), data, LAYERS) as flow:
        assert flow.reaches("block", "block.first")
        assert flow.reaches("top", "top.1")
        assert flow.reaches("stem", INPUT)
        assert not flow.reaches("block.first", "block")
        assert not flow.reaches("block.first", "block.side")
        assert not flow.reaches("stem", "stem")


def test_conditional_heatmaps_of_all_channels_add_up(model, data):
    """The ledger: a partition of a layer's channels carries the layer's whole heatmap, to 1e-9."""
    with RelevanceFlow(model, EpsilonPlusFlat(), data, LAYERS) as flow:
        arriving = flow.down(flow.output_relevance([0, 2]), to=LAYERS)
        for layer in LAYERS:
            whole = flow.down(arriving[layer], start=layer)
            count = arriving[layer].shape[2]
            parts = flow.down(ChannelConcept().masked(arriving[layer][0], [[c] for c in range(count)]), start=layer)
            assert_relevance_close(parts.sum(0), whole[0], 1e-9)


def test_blocked_and_through_make_the_whole(model, data):
    """What goes through a layer and what goes around it is everything."""
    with RelevanceFlow(model, EpsilonPlusFlat(), data, LAYERS) as flow:
        start = flow.output_relevance([1, 1])
        whole = flow.down(start)
        around = flow.down(start, blocked=["block.first"])
        through = flow.down(flow.down(start, to="block.first"), start="block.first")
        assert_relevance_close(around + through, whole, 1e-12)
        assert around.abs().max() > 0.01 * whole.abs().max()
        assert_relevance_close(flow.down(start), whole, 0)  # the block is lifted


def test_sweep_visits_what_down_brings(model, data):
    """Every layer once, from the output down, with the relevance that arrives; it need not reach the input."""
    visited = {}
    with RelevanceFlow(model, EpsilonPlusFlat(), data, LAYERS) as flow:
        start = flow.output_relevance([2, 0])
        flow.sweep(start, LAYERS, visited.__setitem__)
        expected = flow.down(start, to=LAYERS)
    assert set(visited) == set(LAYERS)
    assert list(visited)[:3] == ["top", "top.1", "block"]
    for layer in LAYERS:
        assert_relevance_close(visited[layer], expected[layer][0], 0)


def test_the_last_sweep_brings_the_same_and_keeps_nothing(model, data):
    """Each module's factors and its input are freed when relevance has passed it; then the flow is closed."""
    kept, counts, last = {}, {}, {}
    others = [thing for thing in gc.get_objects() if type(thing) is RuleCall]
    alive = lambda: sum(type(thing) is RuleCall for thing in gc.get_objects()) - len(others)  # noqa: E731
    with RelevanceFlow(model, EpsilonPlusFlat(), data, LAYERS) as flow:
        start = flow.output_relevance([2, 0])
        flow.sweep(start, LAYERS, kept.__setitem__)
        assert alive() == 7

        def visit(layer, arriving):
            last[layer], counts[layer] = arriving, alive()

        flow.sweep(start, LAYERS, visit, last=True)
        assert list(counts.values()) == sorted(counts.values(), reverse=True)
        assert counts["top"] == 6
        assert counts["stem"] == 1
        with pytest.raises(InputError, match=r"^This flow is closed\.$"):
            flow.down(start)
    assert all(torch.equal(last[layer], kept[layer]) for layer in LAYERS)


def test_regions_equal_channel_by_channel(model, data):
    """Relevance of every concept in every cell, from upward passes, is what each conditional heatmap holds there."""
    cells = torch.zeros(4, 8, 8, dtype=torch.float64)
    for index, (rows, columns) in enumerate([(slice(0, 4), slice(0, 4)), (slice(0, 4), slice(4, 8))]):
        cells[index, rows, columns] = 1
    cells[2] = torch.rand(8, 8, dtype=torch.float64)
    cells[3] = 1
    with RelevanceFlow(model, EpsilonPlusFlat(), data, ["block"], chunk=3) as flow:
        arriving = flow.down(flow.output_relevance([0, 1]), to="block")[0]
        table = flow.regions("block", cells, arriving)
        heatmaps = flow.down(ChannelConcept().masked(arriving, [[c] for c in range(4)]), start="block").sum(2)
    assert_relevance_close(table, torch.einsum("knhw,rhw->rnk", heatmaps, cells), 1e-9)


def test_a_pass_that_ends_at_its_layers(model, data):
    """Nothing above them runs, except in the first pass of a replica; what they send down is the same, bit for bit."""
    layers, replica, calls = ["block.side", "block", "stem"], prepare(model, EpsilonPlusFlat()), []
    replica.model.head.register_forward_hook(lambda *_: calls.append(1))
    heatmaps = {}
    for whole in (False, True, False):
        with RelevanceFlow(replica, None, data, layers, whole=whole) as flow:
            assert flow.layers == ("stem", "block.side", "block")
            own = {layer: flow.down(flow.activation(layer)[None], start=layer) for layer in layers}
            heatmaps.setdefault(len(calls), []).append(own)
    assert len(calls) == 2
    (first,), (second, third) = heatmaps.values()
    for layer in layers:
        assert torch.equal(first[layer], second[layer])
        assert torch.equal(first[layer], third[layer])


def test_chunks_do_not_change_results(model, data):
    results = []
    for chunk in (1, 2, 5, 16):
        with RelevanceFlow(model, EpsilonPlusFlat(), data, ["block"], chunk=chunk) as flow:
            start = torch.randn(5, *flow.activation("block").shape, generator=torch.Generator().manual_seed(1)).double()
            results.append(flow.down(start, start="block"))
    for result in results[1:]:
        assert_relevance_close(result, results[0], 1e-13)


class Overwriting(nn.Module):
    """An addition in place: on the output of one convolution, which is the input of another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 3, 1), nn.Linear(3 * 36, 2)

    def forward(self, data):
        first = self.first(data)
        second = self.second(first)
        first += second
        return self.head(nn.functional.relu_(first).flatten(1))


class NotOverwriting(Overwriting):
    """The same without overwriting."""

    def forward(self, data):
        first = self.first(data)
        return self.head((first + self.second(first)).relu().flatten(1))


def test_model_that_overwrites_in_place(data):
    """A recorded output and a rule's input survive what the model does to them later."""
    torch.manual_seed(0)
    model, twin = Overwriting().double(), NotOverwriting().double()
    twin.load_state_dict(model.state_dict())
    found = []
    for network in (model, twin):
        with RelevanceFlow(network, EpsilonPlusFlat(), data, ["first", "second"]) as flow:
            arriving = flow.down(flow.output_relevance([0, 1]), to=["first", "second", INPUT])
            found.append([flow.activation("first"), flow.activation("second"), *arriving.values()])
    for left, right in zip(*found, strict=True):
        assert_relevance_close(left, right, 1e-12)


def test_module_used_twice(data):
    """Each call of a shared module keeps its own input: the same as two modules with the same weights."""

    class Shared(nn.Module):
        def __init__(self, second: nn.Module | None = None) -> None:
            super().__init__()
            self.a = nn.Conv2d(2, 2, 3, padding=1)
            self.b = second or self.a
            self.head = nn.Linear(128, 2)

        def forward(self, data):
            return self.head(self.b(self.a(data).relu()).relu().flatten(1))

    torch.manual_seed(0)
    shared = Shared().double()
    apart = Shared(nn.Conv2d(2, 2, 3, padding=1)).double()
    apart.load_state_dict(shared.state_dict())
    heatmaps = []
    for network in (shared, apart):
        with RelevanceFlow(network, LayerMapComposite([((nn.Conv2d, nn.Linear), Epsilon())]), data) as flow:
            heatmaps.append(flow.down(flow.output_relevance([0, 1])))
    assert_relevance_close(heatmaps[0], heatmaps[1], 1e-12)


def test_replica_serves_many_flows(model, data):
    replica = prepare(model, EpsilonPlusFlat())
    found = []
    for sample in data:
        with RelevanceFlow(replica, None, sample[None], ["block"]) as flow:
            found.append(flow.down(flow.output_relevance([1]))[0, 0])
    with RelevanceFlow(model, EpsilonPlusFlat(), data) as flow:
        assert_relevance_close(torch.stack(found), flow.down(flow.output_relevance([1, 1]))[0], 1e-12)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.jit")  # torch.compile's own imports
def test_wrapped_models(model, data):
    """DataParallel and torch.compile wrap a model; what they wrap is explained, under its own names."""
    with RelevanceFlow(model, EpsilonPlusFlat(), data, ["block"]) as flow:
        expected = flow.down(flow.output_relevance([0, 1]))
    # no backend runs here, and the default one takes seconds to import
    for wrapped in (nn.DataParallel(model), torch.compile(model, backend="eager")):
        with RelevanceFlow(wrapped, EpsilonPlusFlat(), data, ["block"]) as flow:
            assert_relevance_close(flow.down(flow.output_relevance([0, 1])), expected, 0)


def test_bfloat16_model(model, data):
    """Half precision that can hold LRP's denominators runs; see the next test for the one that cannot."""
    with RelevanceFlow(model.bfloat16(), EpsilonPlusFlat(), data.bfloat16()) as flow:
        assert flow.down(flow.output_relevance([0, 0])).isfinite().all()


REFUSED = {
    "unknown layer": (dict(layers=["blok"]), InputError, r"^The model has no layer 'blok': did you mean 'block' or"),
    "whole model": (dict(layers=[""]), InputError, r"^The model has no layer '': there are 'stem', "),
    "integers": (
        dict(data=torch.ones(1, 2, 8, 8, dtype=torch.int64)),
        InputError,
        r"^Model input must be a tensor of floating point numbers, given torch.int64\.$",
    ),
    "list": (dict(data=[1.0]), InputError, r"^Model input must be a tensor of floating point numbers, given list\.$"),
    "too small": (
        dict(data=torch.ones(1, 2, 1, 1).double()),
        ModelError,
        r"^The model cannot run on input of shape \[1, 2, 1, 1\]: Calculated padded input size per channel: \(1 x 1\)",
    ),
    "channels": (
        dict(data=torch.ones(1, 5, 8, 8).double()),
        ModelError,
        r"^The model cannot run on input of shape \[1, 5, 8, 8\]: .*expected input\[1, 5, 8, 8\] to have 2 channels",
    ),
    "model": (dict(model="resnet18"), InputError, r"^A model is a torch.nn.Module, given 'resnet18'\.$"),
    "empty": (dict(data=torch.ones(0, 2, 8, 8).double()), InputError, r"^Model input is empty: \[0, 2, 8, 8\]\.$"),
    "dtype": (
        dict(data=torch.ones(1, 2, 8, 8)),
        InputError,
        r"^Model input is torch.float32, the model's weights are torch.float64: call data\.to\(torch\.float64\), also "
        r"for a model that converts its input itself, or convert the model\.$",
    ),
    "not finite": (
        dict(data=torch.full((1, 2, 8, 8), torch.nan, dtype=torch.float64)),
        ModelError,
        r"^The model's output is not finite \(NaN or infinite\) for this input\.$",
    ),
}


@pytest.mark.parametrize(("arguments", "error", "sentence"), REFUSED.values(), ids=REFUSED)
def test_refused(model, data, arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        RelevanceFlow(**{"model": model, "composite": EpsilonPlusFlat(), "data": data, **arguments})


def test_refused_while_open(model, data):
    with RelevanceFlow(model, EpsilonPlusFlat(), data, ["block"]) as flow:
        with pytest.raises(InputError, match=r"^There is no class 3: the model's output has the classes 0 to 2\.$"):
            flow.output_relevance([0, 3])
        with pytest.raises(InputError, match=r"^There is no class -1: "):
            flow.output_relevance([0, -1])
        with pytest.raises(InputError, match=r"^2 samples need one class each, given 3: \[0, 1, 0\]\.$"):
            flow.output_relevance([0, 1, 0])
        with pytest.raises(InputError, match=r"^This flow does not hold layer 'stem': there are 'block', '\(outp"):
            flow.down(flow.output_relevance([0, 1]), to="stem")
        with pytest.raises(InputError, match=r"^Relevance at 'block' must be \[K, 2, 4, 6, 6\], given \[1, 2, 3\]\.$"):
            flow.down(torch.ones(1, 2, 3).double(), start="block")
        with pytest.raises(InputError, match=r"^Regions of this input must be \[R, 8, 8\] or \[R, 2, 2, 8, 8\], given"):
            flow.up(torch.ones(1, 7, 8).double(), "block")
    with pytest.raises(InputError, match=r"^This flow is closed\.$"):
        flow.activation("block")


def test_float16_is_refused(model, data):
    with pytest.raises(ModelError, match=r"^LRP divides by numbers near 1e-6, too small for float16: call model"):
        RelevanceFlow(model.half(), EpsilonPlusFlat(), data.half())


class Odd(nn.Module):
    """Parts that no relevance can be read from."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.linear, self.unused = kind, nn.Linear(4, 4), nn.Linear(4, 4)
        self.pair = nn.LSTM(4, 4)

    def forward(self, data):
        if self.kind == "tuple":
            return self.pair(data)
        if self.kind == "pair inside":
            return self.pair(data)[0]
        if self.kind == "twice":
            return self.linear(self.linear(data))
        if self.kind == "constant":
            return torch.ones(2, 3)
        return self.linear(data)


@pytest.mark.parametrize(
    ("kind", "layers", "sentence"),
    [
        ("tuple", [], r"^The model's output is a tuple with 0, 1, not a tensor: select the part to explain with"),
        ("pair inside", ["pair"], r"^Layer 'pair' gives a tuple, not a tensor; its relevance cannot be read\.$"),
        ("twice", ["linear"], r"^Layer 'linear' is called more than once in one forward pass, so its relevance is"),
        ("constant", [], r"^The model's output does not depend on its input, or only through what has no gradient"),
        ("unused", ["unused"], r"^The model never calls 'unused', or calls it in a function that was made outside of"),
    ],
)
def test_models_that_cannot_be_explained(kind, layers, sentence):
    with pytest.raises(ModelError, match=sentence):
        RelevanceFlow(Odd(kind), None, torch.randn(2, 4), layers)


def test_plain_gradient_without_a_composite(model, data):
    start = data.clone().requires_grad_()
    output = model(start)
    expected = torch.autograd.grad(output[:, 1].sum(), start)[0]
    with RelevanceFlow(model, None, data) as flow:
        one = torch.zeros(1, 2, 3, dtype=torch.float64)
        one[..., 1] = 1
        assert_relevance_close(flow.down(one, start=OUTPUT)[0], expected, 1e-12)


def test_without_the_input_nothing_is_kept_below_the_layers(model, data):
    kept = []
    for to_input in (True, False):
        with RelevanceFlow(model, EpsilonPlusFlat(), data, ["top"], to_input=to_input) as flow:
            kept.append(sum(1 for _ in graph_below(flow.tensors(OUTPUT)[1])))
    assert kept[1] < kept[0]
