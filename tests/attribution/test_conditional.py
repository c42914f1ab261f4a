"""ConditionalAttribution: result i belongs to condition i, whatever is mixed."""

import pytest
import torch
from torch import nn
from zennit.composites import EpsilonPlusFlat
from zennit.layer import Sum

from crp.attribution import ConditionalAttribution
from crp.concepts import ChannelConcept
from crp.errors import InputError
from tests.oracle.comparing import assert_relevance_close


class Net(nn.Module):
    """A stem, a block with a skip connection, a top, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3)
        self.inside = nn.Conv2d(6, 6, 3, padding=1)
        self.side = nn.Conv2d(6, 6, 1)
        self.sum = Sum()
        self.top = nn.Conv2d(6, 5, 3)
        self.head = nn.Linear(5 * 16, 4)

    def forward(self, data):
        stem = self.stem(data).relu()
        both = self.sum(torch.stack([self.side(stem), self.inside(stem).relu()], -1))
        return self.head(self.top(both).relu().flatten(1))


@pytest.fixture
def model():
    torch.manual_seed(5)
    return Net().double().eval()


@pytest.fixture
def data():
    return torch.randn(3, 2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(6))


ORDER = ("top", "sum", "inside", "side", "stem")


def naive(model, sample, condition, *, around, start=None):
    """zennit's hooks and one autograd pass for a single sample and condition: the slow, plain way."""
    composite = EpsilonPlusFlat()
    outputs, handles = {}, []
    with composite.context(model) as ruled:
        for name in ORDER:
            handles.append(
                dict(model.named_modules())[name].register_forward_hook(
                    lambda module, args, output, name=name: outputs.__setitem__(name, output)
                )
            )
        sample = sample[None].clone().requires_grad_()
        output = ruled(sample)
        for handle in handles:
            handle.remove()

        def mask(gradient, ids):
            kept = torch.zeros_like(gradient)
            kept[:, ids] = gradient[:, ids]
            return kept

        source = output if start is None else outputs[start]
        relevance = source.detach().clone()
        if start is None and "y" in condition:
            relevance = mask(relevance, condition["y"])
        if start in condition:
            relevance = mask(relevance, condition[start])
        layers = [name for name in ORDER if name in condition and name != start]
        arrived = {}
        if around:
            for name in layers:

                def hook(gradient, name=name):
                    arrived[name] = gradient.detach()
                    return mask(gradient, condition[name])

                outputs[name].register_hook(hook)
            heatmap = torch.autograd.grad(source, sample, relevance)[0]
        else:
            for name in layers:
                relevance = torch.autograd.grad(source, outputs[name], relevance, retain_graph=True)[0]
                arrived[name] = relevance
                relevance, source = mask(relevance, condition[name]), outputs[name]
            heatmap = torch.autograd.grad(source, sample, relevance)[0]
    return heatmap[0].sum(0), {name: relevance[0] for name, relevance in arrived.items()}


MIXED = [
    {"top": [1], "y": [2]},
    {"inside": [3, 4], "y": [0]},
    {"y": [1]},
    {"stem": [0], "top": [2], "y": [2]},
    {"top": [2], "stem": [5], "y": [2]},
    {"top": [1], "y": [3, 0]},
    {"side": [2], "sum": [2], "y": [0]},
]


@pytest.mark.parametrize("around", [False, True], ids=["through", "around"])
def test_mixed_conditions_keep_their_place(model, data, around):
    """Different layers, in any order, several classes: row n * K + k is sample n under condition k."""
    result = ConditionalAttribution(model)(data, MIXED, EpsilonPlusFlat(), exclude_parallel=not around)
    assert result.heatmap.shape == (3 * len(MIXED), 8, 8)
    for n, sample in enumerate(data):
        for k, condition in enumerate(MIXED):
            heatmap, arrived = naive(model, sample, condition, around=around)
            row = n * len(MIXED) + k
            assert_relevance_close(result.heatmap[row], heatmap, 1e-9)
            for layer, relevance in arrived.items():
                assert_relevance_close(result.relevances[layer][row], relevance, 1e-9)


def test_equal_numbers_are_paired(model, data):
    """Three samples and three conditions make three results, also with different layers."""
    conditions = [MIXED[0], MIXED[3], MIXED[1]]
    result = ConditionalAttribution(model)(data, conditions, EpsilonPlusFlat())
    assert len(result.heatmap) == 3
    for row, (sample, condition) in enumerate(zip(data, conditions, strict=True)):
        heatmap, arrived = naive(model, sample, condition, around=False)
        assert_relevance_close(result.heatmap[row], heatmap, 1e-9)
        for layer, relevance in arrived.items():
            assert_relevance_close(result.relevances[layer][row], relevance, 1e-9)
        assert_relevance_close(result.prediction[row], model(sample[None])[0], 1e-12)


def test_y_in_only_some_conditions(model, data):
    """Where a condition has no "y", all that init_rel gives starts; the others keep their own class."""
    conditions = [{"top": [1]}, {"top": [1], "y": [2]}, {"top": [0]}, {"top": [3], "y": [0]}]
    attribution = ConditionalAttribution(model)
    result = attribution(data[:1], conditions, EpsilonPlusFlat(), init_rel=lambda prediction: prediction)
    for row, condition in enumerate(conditions):
        assert_relevance_close(result.heatmap[row], naive(model, data[0], condition, around=False)[0], 1e-9)


@pytest.mark.parametrize("conditions", [[{"top": [1]}], [{"top": [1], "stem": [2]}, {"top": [0]}, {"stem": [1, 3]}]])
def test_start_at_a_layer(model, data, conditions):
    """Relevance is the layer's activation there, masked by the layer's own condition; the prediction is the layer's."""
    result = ConditionalAttribution(model)(data[:1], conditions, EpsilonPlusFlat(), start_layer="top")
    for row, condition in enumerate(conditions):
        heatmap, _ = naive(model, data[0], condition, around=False, start="top")
        assert_relevance_close(result.heatmap[row], heatmap, 1e-9)
    assert result.prediction.shape == (len(conditions), 5, 4, 4)
    assert_relevance_close(result.relevances["top"], result.activations["top"], 0)


def test_generate_equals_call(model, data):
    conditions = [{"top": [c], "y": [1]} for c in range(5)] + MIXED
    attribution = ConditionalAttribution(model)
    whole = attribution(data[:1], conditions, EpsilonPlusFlat(), record_layer=["inside"])
    parts = list(attribution.generate(data[:1], conditions, EpsilonPlusFlat(), ["inside"], batch_size=5, verbose=False))
    assert [len(part.heatmap) for part in parts] == [5, 5, 2]
    assert_relevance_close(torch.cat([part.heatmap for part in parts]), whole.heatmap, 1e-12)
    assert_relevance_close(torch.cat([part.relevances["inside"] for part in parts]), whole.relevances["inside"], 1e-12)
    assert_relevance_close(torch.cat([part.prediction for part in parts]), whole.prediction, 1e-12)


INITIAL = {
    "number": (2, lambda prediction: torch.full_like(prediction, 2.0)),
    "tensor": (torch.arange(4.0).double()[None], lambda prediction: torch.arange(4.0).double().expand_as(prediction)),
    "function": (lambda prediction: prediction.clamp(min=0), lambda prediction: prediction.clamp(min=0)),
}


@pytest.mark.parametrize(("init", "expected"), INITIAL.values(), ids=INITIAL)
def test_initial_relevance(model, data, init, expected):
    """A condition without masks is the heatmap of what starts: linear in it."""
    attribution = ConditionalAttribution(model)
    classes = attribution(data[:1], [{"y": [c]} for c in range(4)], EpsilonPlusFlat(), init_rel=1).heatmap
    result = attribution(data[:1], [{"top": range(5)}], EpsilonPlusFlat(), init_rel=init)
    start = expected(model(data[:1]))
    assert_relevance_close(result.heatmap[0], torch.einsum("c,chw->hw", start[0], classes), 1e-9)


def test_recorded_layers(model, data):
    """Relevance above the condition is the unconditioned one, below it the conditional one; a side way is empty."""
    attribution = ConditionalAttribution(model)
    condition = [{"inside": [3], "y": [0]}]
    result = attribution(data[:1], condition, EpsilonPlusFlat(), record_layer=["top", "side", "stem"])
    free = attribution(data[:1], [{"y": [0]}], EpsilonPlusFlat(), record_layer=["top", "inside"])
    assert_relevance_close(result.relevances["top"], free.relevances["top"], 1e-12)
    assert_relevance_close(result.relevances["inside"], free.relevances["inside"], 1e-12)
    assert not result.relevances["side"].any()
    below = attribution(data[:1], [{"inside": [3], "stem": range(6), "y": [0]}], EpsilonPlusFlat())
    assert_relevance_close(result.relevances["stem"], below.relevances["stem"], 1e-12)


def test_mask_map_by_layer_and_single_positions(model, data):
    """Channels at one layer, one position of a channel at another: the parts of a channel add up to it."""
    attribution = ConditionalAttribution(model)
    maps = {"top": ChannelConcept.mask_rf, "stem": ChannelConcept.mask}
    conditions = [{"top": {1: [position]}, "stem": [0, 1], "y": [2]} for position in range(16)]
    parts = attribution(data[:1], conditions, EpsilonPlusFlat(), mask_map=maps).heatmap
    whole = attribution(data[:1], [{"top": [1], "stem": [0, 1], "y": [2]}], EpsilonPlusFlat()).heatmap
    assert_relevance_close(parts.sum(0), whole[0], 1e-9)


@pytest.mark.parametrize("chunk", [2, 64])
def test_a_mask_function_is_told_the_row_of_the_result(model, data, chunk, monkeypatch):
    """Conditions that name the same ids are masked row by row, however many share a pass."""
    monkeypatch.setattr("crp.attribution.flow._LARGEST_CHUNK", chunk)
    channels = [5, 0, 3, 1, 4, 2]

    def of_row(row, concept_ids, layer):
        return ChannelConcept.mask(row, channels[row], layer)

    conditions = [{"inside": "by row", "y": [1]}] * 3
    result = ConditionalAttribution(model)(data[:2], conditions, EpsilonPlusFlat(), mask_map=of_row)
    for row, channel in enumerate(channels):
        heatmap, _ = naive(model, data[row // 3], {"inside": [channel], "y": [1]}, around=False)
        assert_relevance_close(result.heatmap[row], heatmap, 1e-9)


def test_flat_input_keeps_its_features():
    """Input [N, F] has no channels to sum over."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False)).double()
    data = torch.randn(2, 6, dtype=torch.float64)
    result = ConditionalAttribution(model)(data, [{"y": [0]}, {"y": [2]}, {"0": [1], "y": [2]}], EpsilonPlusFlat())
    assert result.heatmap.shape == (6, 6)


def test_subclass_that_changes_the_heatmap(model, data):
    """`heatmap_modifier` sees each row's input, with its relevance as the gradient."""
    seen = []

    class Absolute(ConditionalAttribution):
        def heatmap_modifier(self, data, on_device=None):
            seen.append(data)
            return (data * data.grad).abs().amax(1)

    conditions = [{"y": [1]}, {"top": [2], "y": [0]}]
    found = Absolute(model)(data, conditions, EpsilonPlusFlat()).heatmap
    assert torch.equal(seen[0].detach(), data.repeat_interleave(2, 0))
    assert seen[0].requires_grad
    assert torch.equal(found, (data.repeat_interleave(2, 0) * seen[0].grad).abs().amax(1))
    assert not found.requires_grad
    heatmap = ConditionalAttribution(model)(data, conditions, EpsilonPlusFlat()).heatmap
    assert_relevance_close(seen[0].grad.sum(1), heatmap, 1e-12)


REFUSED = {
    "no start": ([{"top": [1]}], {}, r"^Condition 0 does not say where relevance starts: give it 'y', or give"),
    "class": ([{"y": [4]}], {}, r"^There is no class 4: the model's output has the classes 0 to 3\.$"),
    "negative class": ([{"y": [-1]}], {}, r"^There is no class -1: the model's output has the classes 0 to 3\.$"),
    "concept": ([{"top": [9999], "y": [1]}], {}, r"^There is no concept 9999: layer 'top' has the concepts 0 to 4\.$"),
    "layer": ([{"tob": [1], "y": [1]}], {}, r"^The model has no layer 'tob': did you mean 'top'\?$"),
    "recorded layer": ([{"y": [1]}], {"record_layer": ["stm"]}, r"^The model has no layer 'stm': did you mean 'stem'"),
    "start layer": ([{"top": [1]}], {"start_layer": "nothing"}, r"^The model has no layer 'nothing': "),
    "parallel": (
        [{"y": [1]}, {"inside": [1], "side": [1], "y": [1]}],
        {},
        r"^Condition 1: no relevance of '(inside|side)' reaches '(inside|side)'\. Parallel layers in one",
    ),
    "above the start": ([{"top": [1]}], {"start_layer": "stem"}, r"^Condition 0: no relevance of 'stem' reaches 'top'"),
    "a dict": ({"y": [1]}, {}, r"^Conditions are a list of one dict or more, given dict\.$"),
    "empty": ([], {}, r"^Conditions are a list of one dict or more, given an empty list\.$"),
    "not dicts": ([["top", 1]], {}, r"^Condition 0 is a list, not a dict of layer names to ids\.$"),
    "mask map": ([{"top": [1], "y": [1]}], {"mask_map": {"stem": ChannelConcept.mask}}, r"^mask_map has no entry for"),
    "init shape": (
        [{"top": [1]}],
        {"init_rel": torch.ones(7)},
        r"^init_rel has the shape \[7\]; the relevance that starts has the shape \[1, 4\], one row for each result\.$",
    ),
}


@pytest.mark.parametrize(("conditions", "options", "sentence"), REFUSED.values(), ids=REFUSED)
def test_refused(model, data, conditions, options, sentence):
    with pytest.raises(InputError, match=sentence):
        ConditionalAttribution(model)(data[:1], conditions, EpsilonPlusFlat(), **options)
