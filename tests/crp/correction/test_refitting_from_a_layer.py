"""Training from a layer upwards: what is exchanged, what is trained, and what the boost of classes is."""

from __future__ import annotations

import math
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from crp import ChannelConcept, InputError, ModelError
from crp.correction import measure_fix, reactive, refit, upper_fit
from crp.correction.boost_choice import HeldOut, chosen_boost
from crp.correction.counterfactuals import Counterfactuals
from crp.correction.presence import find_presence
from crp.correction.upper_samples import UpperSamples, exchanged_at
from crp.layout import Layout
from tests.crp.correction.planted import TAG, planted_data, planted_model


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upper_fit, "_STEPS", 150)
    monkeypatch.setattr(upper_fit, "_RATE", 0.1)


def deeper() -> nn.Sequential:
    """The planted model above a convolution and a batch norm that change nothing."""
    first = nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        first.weight.copy_(torch.eye(3)[:, :, None, None])
        first.bias.zero_()
    below = {"first": first, "norm": nn.BatchNorm2d(3, eps=1e-12)}
    return nn.Sequential(OrderedDict([*below.items(), *planted_model().named_children()])).eval()


def presence_in(model: nn.Module, data: Tensor, layer: str = "conv", reach: int = 1) -> object:
    return find_presence(model, data, layer, 0, ChannelConcept(), reach=reach, progress=False)


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("start", ["norm", "conv", "logits"])
def test_the_shape_decides_and_what_lies_below_stays(start: str, labelled: bool) -> None:
    model, (data, labels) = deeper(), planted_data()
    untouched = {name: value.clone() for name, value in model.state_dict().items()}
    found = refit(model, data, "conv", 0, labels=labels if labelled else None, from_layer=start, progress=False)
    others, truth = planted_data(seed=5)
    cleaned, pasted = others[truth == 1].clone(), others[truth == 0].clone()
    cleaned[:, TAG] = 0
    pasted[:, TAG, 0, 3] = 1
    with torch.no_grad():
        assert float((found.model(cleaned).argmax(1) == 1).double().mean()) > 0.95
        assert float((found.model(pasted).argmax(1) == 1).double().mean()) < 0.05
    assert found.in_weights
    assert found.model.state_dict().keys() == untouched.keys()
    changed = {name for name, value in found.model.state_dict().items() if not torch.equal(value, untouched[name])}
    names = [name for name in untouched if "running" not in name and "batches" not in name]
    assert changed == set(names[[name.partition(".")[0] for name in names].index(start) :])
    assert all(torch.equal(value, untouched[name]) for name, value in model.state_dict().items())
    assert not any(value.grad is not None for value in model.parameters())


@pytest.mark.parametrize("labelled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("start", ["norm", *(pytest.param(one, marks=pytest.mark.slow) for one in ("conv", "logits"))])
def test_the_same_call_gives_the_same_weights(start: str, labelled: bool) -> None:
    model, (data, labels) = deeper(), planted_data()
    given = {"labels": labels if labelled else None, "from_layer": start, "progress": False}
    found, again = (refit(model, data, "conv", 0, **given) for _ in range(2))
    assert all(torch.equal(value, again.model.state_dict()[name]) for name, value in found.model.state_dict().items())
    assert again.method == found.method


def test_figures_are_those_of_the_trained_model() -> None:
    model, (data, _), (others, truth) = deeper(), planted_data(), planted_data(seed=3)
    found = refit(model, data, "conv", 0, from_layer="conv", progress=False)
    figures = measure_fix(model, found, others, "conv", 0, labels=truth, progress=False)
    with torch.no_grad():
        right = float((found.model(others).argmax(1) == truth).double().mean())
    assert figures.after.right == pytest.approx(right)
    assert (figures.before.right_taken_out, figures.before.pulled) == (0.0, 1.0)
    assert figures.after.right_taken_out > 0.95
    assert figures.after.pulled < 0.05


def parts_by_hand(model: nn.Sequential, data: Tensor, made: Counterfactuals, layer: int) -> Tensor:
    """What a layer of the network gives, with positions exchanged one sample after the other."""
    with torch.no_grad():
        given, found = model[:layer](data), []
        for name in ("as they are", "taken out", "put in"):
            for row, other, where in zip(*made.plan(name), strict=True):
                one = given[row].clone()
                one.flatten(1)[:, where] = given[other].flatten(1)[:, where]
                found.append(one)
    return torch.stack(found)


def test_the_concept_is_exchanged_at_the_input_of_the_layer() -> None:
    model, (data, _) = deeper(), planted_data()
    presence = presence_in(model, data)
    found = exchanged_at(model, data, presence, "conv", 0, progress=False)
    made = Counterfactuals(model, data, presence, 0)
    torch.testing.assert_close(found.taken(torch.arange(len(found))), parts_by_hand(model, data, made, 2))
    having = len(made.having)
    assert len(found.stored) == 120  # nothing is computed twice
    assert found.kind.bincount().tolist() == [120, 3 * having, 120 - having]
    assert found.samples[found.lacking].tolist() == made.lacking.tolist()
    tags = found.taken(torch.arange(len(found)))[:, TAG].flatten(1).amax(1) > 0.5
    assert not tags[found.taken_out].any()
    assert tags[found.kind == 2].all()


def test_above_the_concept_it_is_exchanged_at_its_own_layer() -> None:
    model, (data, _) = deeper(), planted_data()
    presence = presence_in(model, data)
    found = exchanged_at(model, data, presence, "logits", 0, progress=False)
    expected = parts_by_hand(model, data, Counterfactuals(model, data, presence, 0), 3)
    with torch.no_grad():
        torch.testing.assert_close(found.taken(torch.arange(len(found))), model[3:-1](expected))


@pytest.mark.parametrize("size", [2, 3])
def test_positions_lie_over_those_of_a_coarser_layer(size: int) -> None:
    model, (data, _) = planted_model(), planted_data()
    model = nn.Sequential(OrderedDict([("pool", nn.AdaptiveMaxPool2d(size)), *model.named_children()])).eval()
    presence = presence_in(model, data, reach=0)
    found = exchanged_at(model, data, presence, "pool", 0, progress=False)
    near = presence.near.unflatten(1, (size, size))
    for row, other, where, kind in zip(found.first, found.second, found.region, found.kind, strict=True):
        if kind == 0:
            assert not where.any()
            continue
        having = near[row if kind == 1 else other].tolist()
        for y in range(8):
            for x in range(8):
                cells = [
                    having[i][j]
                    for i in range(size)
                    for j in range(size)
                    if i * 8 < (y + 1) * size and (i + 1) * 8 > y * size and j * 8 < (x + 1) * size
                    and (j + 1) * 8 > x * size
                ]  # fmt: skip
                assert bool(where[8 * y + x]) == any(cells)


def samples_of(kind: list[int], lacking: list[bool]) -> UpperSamples:
    none = torch.zeros(len(kind), dtype=torch.int64)
    layout = Layout((1,))
    return UpperSamples(
        "m", "m..input", layout, none, none, none, none, none, torch.tensor(kind), torch.tensor(lacking)
    )


def test_a_boost_changes_biases_by_how_much_more_often_a_class_occurs() -> None:
    # as they are: four, of which three lack the concept; one sample has it, of which there are three copies
    samples = samples_of([0, 0, 0, 0, 1, 1, 1, 2, 2, 2], [True] * 3 + [False] * 7)
    wanted = torch.tensor([0, 0, 1, 1, 1, 1, 1, 0, 0, 1])
    assert samples.group.tolist() == [3, 3, 3, 0, 1, 1, 1, 2, 2, 2]
    # drawn as often as the three that lack the concept, the sample that it was taken out of counts 3
    found = upper_fit._shift(samples, wanted, 9.0, (10, 3))
    torch.testing.assert_close(found, torch.tensor([0.0, math.log((1 + 9) / (1 + 3)), 0.0]))
    torch.testing.assert_close(upper_fit._shift(samples, wanted, 3.0, (10, 3)), torch.zeros(3))


def test_held_out_samples_are_counted_in_two_groups() -> None:
    outputs = torch.zeros(11, 2)
    outputs[:5, 0] = torch.tensor([5.0, 5, 5, 5, -1])
    outputs[5:, 1] = torch.tensor([1.0, 1, -1, -1, -1, -1])
    wanted, taken_out = torch.tensor([0] * 5 + [1] * 6), torch.tensor([False] * 5 + [True] * 6)
    # two samples with the concept, of which there are three copies, and five without
    found = upper_fit._right(outputs, wanted, taken_out)
    assert (found.lacking, found.taken_out, found.share) == pytest.approx((4 / 5, 1 / 3, 2 / 7))
    assert found.right == pytest.approx((4 + 2 / 3) / 7)
    assert found.worst == pytest.approx(1 / 3)


def test_the_boost_with_which_the_worse_group_is_best_is_chosen() -> None:
    # of five samples, one has the concept: right are 0.8, 0.92, 0.91, 0.88 and 0.8
    given = {1.0: (1.0, 0.0), 2.0: (0.95, 0.8), 3.0: (0.93, 0.83), 4.0: (0.88, 0.88), 5.0: (0.75, 1.0)}
    found = {boost: HeldOut(*both, share=0.2) for boost, both in given.items()}
    # as much as has to be right, or most if nothing has that much
    for least, boost in {0.0: 4.0, 0.87: 4.0, 0.9: 3.0, 0.915: 2.0, 0.95: 2.0}.items():
        assert chosen_boost(found, least) == boost


class Skipping(nn.Module):
    """A layer inside a block: what runs after it reads the block's input, too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.inner, self.head = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Linear(3, 2)

    def forward(self, data: Tensor) -> Tensor:
        found = self.conv(data).relu()
        return self.head((found + self.inner(found)).mean((2, 3)))


def test_layers_that_cannot_be_trained_alone_are_refused() -> None:
    data, _ = planted_data()
    torch.manual_seed(0)
    skipping = Skipping().eval()
    skipping.conv.load_state_dict(planted_model().conv.state_dict())
    with pytest.raises(ModelError, match="What runs from 'inner' on also reads what was computed before"):
        refit(skipping, data, "conv", 0, from_layer="inner", progress=False)
    tied = deeper()
    tied.conv.weight = tied.first.weight
    with pytest.raises(ModelError, match=r"Layers before 'conv' use weights of those after: name a layer above\."):
        refit(tied, data, "conv", 0, from_layer="conv", progress=False)


def test_mistakes_are_sentences() -> None:
    model, (data, _) = deeper(), planted_data()
    with pytest.raises(InputError, match=r"The model has no layer 'cnv'.*did you mean 'conv'"):
        refit(model, data, "conv", 0, from_layer="cnv", progress=False)
    with pytest.raises(InputError, match="After another correction, the last layer is fitted alone, not from 'conv'"):
        refit(model, data, "conv", 0, from_layer="conv", after=reactive(model, data, "conv", 0), progress=False)
