"""`crp.attribution` as zennit-crp's users know it: equal to theirs where theirs is right."""

from __future__ import annotations

import gc
import re

import pytest
import torch
from torch import nn
from zennit.composites import EpsilonPlus, EpsilonPlusFlat

from crp.attribution import CondAttribution, attrGraphResult, attrResult, composite_for
from crp.errors import InputError
from tests.legacy import scripts
from tests.legacy.golden import assert_as_recorded
from tests.oracle.comparing import assert_relevance_close

COMPOSITE = EpsilonPlusFlat()


def test_attributions_are_theirs():
    found = assert_as_recorded(scripts.attributions)
    assert found["product/heatmap"].shape == (6, 8, 8)
    assert found["pairs/heatmap"].shape == (2, 8, 8)


def test_the_generator_is_theirs():
    assert_as_recorded(scripts.generated)


def test_subclasses_are_theirs():
    """`heatmap_modifier`, `relevance_init`, `MODEL_OUTPUT_NAME`, `backward` and `broadcast`, overridden."""
    found = assert_as_recorded(scripts.subclasses)
    assert found["Signed/heatmap"].shape == (2, 2, 8, 8)
    assert found["Product/heatmap"].shape == (4, 8, 8)


def test_the_input_in_heatmaps_is_theirs():
    assert_as_recorded(scripts.input_in_heatmaps)


def test_methods_replaced_on_an_object_are_theirs():
    assert_as_recorded(scripts.replaced_on_objects)


def test_ids_in_every_form_are_theirs():
    found = assert_as_recorded(scripts.ids)
    assert torch.equal(found["layer/topk"], found["layer/bool tensor"])
    assert not torch.equal(found["layer/topk"], found["layer/list"])
    assert torch.equal(found["y/0-d tensor"], found["y/numpy.int64"])


def heatmap_of(condition):
    return CondAttribution(scripts.skip_net())(scripts.data(), [condition], COMPOSITE).heatmap


MEANT = {
    "tuple": ((0, 2), [0, 2]),
    "set": ({2, 0}, [0, 2]),
    "range": (range(1, 3), [1, 2]),
    "mask of a batch of one": (torch.tensor([[True, False, True, False]]), [0, 2]),
}


@pytest.mark.parametrize("form", MEANT)
def test_bug_ids_meant_something_else(form):
    """concepts.py:57. A tuple was one index for each axis, a one-hot vector the classes 0 and 1."""
    value, ids = MEANT[form]
    assert_relevance_close(heatmap_of({"conv2": value, "y": 1}), heatmap_of({"conv2": ids, "y": [1]}), 1e-12)
    one_hot = heatmap_of({"conv2": ids, "y": torch.tensor([0, 1, 0])})
    assert_relevance_close(one_hot, heatmap_of({"conv2": ids, "y": [1]}), 1e-12)


NO_IDS = {
    "float": ({"y": 1.0}, "A class is a whole number, given 1.0: the model's output has the classes 0 to 2."),
    "bool": ({"y": True}, "A class is a whole number, given True: the model's output has the classes 0 to 2."),
    "table": ({"y": torch.tensor([[0, 1], [1, 2]])}, "Ids form a single row, given an array of shape [2, 2]."),
    "short mask": (
        {"conv2": [True, False], "y": 1},
        "A mask has one boolean for each concept, given 2 for 4: layer 'conv2' has the concepts 0 to 3.",
    ),
    "float concept": (
        {"conv2": torch.tensor([2.7]), "y": 1},
        f"A concept is a whole number, given {torch.tensor(2.7).item()}: layer 'conv2' has the concepts 0 to 3.",
    ),
}


@pytest.mark.parametrize("case", NO_IDS)
def test_what_is_no_id_is_refused(case):
    condition, sentence = NO_IDS[case]
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}$"):
        heatmap_of(condition)


def test_a_mask_of_booleans_is_told_from_the_ids_0_and_1():
    """Both compare as equal in Python, and conditions that start alike share their way down."""
    conditions = [{"conv2": [False, True, True, True], "y": 1}, {"conv2": [0, 1, 1, 1, 0], "y": 1}]
    together = CondAttribution(scripts.skip_net())(scripts.data(), conditions, COMPOSITE).heatmap
    for row, ids in enumerate(([1, 2, 3], [0, 1])):
        assert_relevance_close(together[row], heatmap_of({"conv2": ids, "y": 1})[0], 1e-12)


@pytest.mark.parametrize("name", ["backward", "broadcast"])
def test_a_method_replaced_on_the_class_itself_takes_effect(model, monkeypatch, name):
    calls = []
    own = getattr(CondAttribution, name)
    monkeypatch.setattr(CondAttribution, name, lambda *args, **options: calls.append(name) or own(*args, **options))
    CondAttribution(model)(scripts.data(), [{"y": [1]}], COMPOSITE)
    assert calls == [name]


def test_one_pass_for_layers_and_input_has_one_set_of_rules(model, monkeypatch):
    own = CondAttribution.backward
    monkeypatch.setattr(CondAttribution, "backward", lambda *args, **options: own(*args, **options))
    attribution, conditions = CondAttribution(model), [{"y": [1]}]
    with pytest.raises(InputError, match=r"rules by purpose need one for each: use composite_for"):
        attribution(scripts.data(), conditions, composite_for(model).composite)
    plus = composite_for(model, rules="epsilon-plus-flat").composite
    found = attribution(scripts.data(), conditions, plus).heatmap
    monkeypatch.undo()
    assert_relevance_close(found, attribution(scripts.data(), conditions, plus).heatmap, 1e-12)


def test_a_relevance_init_of_the_users_own_gets_the_classes_as_given(model):
    """As in zennit-crp, where they may be anything that it can read."""

    class Named(CondAttribution):
        def relevance_init(self, prediction, target_list, init_rel):
            return super().relevance_init(prediction, [["ant", "bee"].index(name) for name in target_list], init_rel)

    found = Named(model)(scripts.data(), [{"y": "bee"}], COMPOSITE).heatmap
    assert_relevance_close(found, CondAttribution(model)(scripts.data(), [{"y": [1]}], COMPOSITE).heatmap, 1e-12)


class SideBySide(nn.Module):
    """Two linear layers beside one another, their outputs joined and weighted 1, 2, 3, 4."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.head = nn.Linear(2, 2, False), nn.Linear(2, 2, False), nn.Linear(4, 1, False)
        self.left.weight = nn.Parameter(torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
        self.right.weight = nn.Parameter(torch.tensor([[0.0, 2.0], [1.0, 1.0]]))
        self.head.weight = nn.Parameter(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))

    def forward(self, data):
        return self.head(torch.cat([self.left(data), self.right(data)], 1))


@pytest.mark.parametrize("kind", [CondAttribution, scripts.Doubled])
def test_by_hand(kind):
    """Input (1, 2): left gives (3, 1), right (4, 3), so 3 + 2 + 12 + 12 = 29 is explained."""
    factor = 2 if kind is scripts.Doubled else 1
    attribution, data, conditions = kind(SideBySide()), torch.tensor([[1.0, 2.0]]), [{"left": [0], "y": [0]}]
    through = attribution(data, conditions, EpsilonPlus(), ["right"])
    around = attribution(data, conditions, EpsilonPlus(), ["right"], exclude_parallel=False)
    assert through.prediction.tolist() == [[29]]
    # (3, 2) arrives at the left; of it 3 goes on, to 1 and 2 in proportion; 12 and 12 take the way around
    for result, right, heatmap in ((through, [0, 0], [1, 2]), (around, [12, 12], [1 + 0 + 4, 2 + 12 + 8])):
        assert result.relevances["left"][0].tolist() == pytest.approx([3 * factor, 2 * factor], rel=1e-4)
        assert result.relevances["right"][0].tolist() == pytest.approx([part * factor for part in right], rel=1e-4)
        assert result.heatmap[0].tolist() == pytest.approx([part * factor for part in heatmap], rel=1e-4)


def test_the_results_are_the_same_named_tuples():
    assert attrResult._fields == ("heatmap", "activations", "relevances", "prediction")
    assert attrGraphResult._fields == ("nodes", "connections")


def test_attributes(model):
    attribution = CondAttribution(model, overwrite_data_grad=False)
    assert attribution.model is model
    assert attribution.device == torch.device("cpu")
    assert attribution.MODEL_OUTPUT_NAME == "y"
    assert attribution.overwrite_data_grad is False


@pytest.mark.parametrize("device", ["cpu", "cpu:0", torch.device("cpu"), None])
def test_a_device_may_be_named_with_or_without_its_number(model, device):
    """As "cuda" for a model on cuda:0."""
    assert CondAttribution(model, device).device == torch.device("cpu")


def test_another_device_is_refused(model):
    with pytest.raises(InputError, match=r"^The model is on cpu, not on meta: call model\.to\('meta'\) first\.$"):
        CondAttribution(model, "meta")


def test_subclasses_of_backward_mix_layers_and_keep_the_order(model):
    """One call of `backward` for each set of layers, result i for condition i."""
    several = {"conv2": [1], "conv3": [0], "y": [1]}
    conditions = [{"conv3": [1], "y": [0]}, {"y": [2]}, several, {"conv3": [2], "y": [2]}]
    plain = CondAttribution(model)(scripts.data(), conditions, COMPOSITE, ["conv1"])
    doubled = scripts.Doubled(model)(scripts.data(), conditions, COMPOSITE, ["conv1"])
    assert_relevance_close(doubled.heatmap, 2 * plain.heatmap, 1e-12)
    assert_relevance_close(doubled.prediction, plain.prediction, 1e-12)
    assert doubled.relevances.keys() == plain.relevances.keys()
    for layer in plain.relevances:
        assert_relevance_close(doubled.relevances[layer], 2 * plain.relevances[layer], 1e-12)
        assert_relevance_close(doubled.activations[layer], plain.activations[layer], 1e-12)


def test_a_broadcast_that_does_not_fit_is_refused(model):
    class Uneven(CondAttribution):
        def broadcast(self, data, conditions):
            return data.repeat(3, 1, 1, 1), conditions

    with pytest.raises(InputError, match=r"^broadcast must return as many rows as conditions, given 3 and 2\.$"):
        Uneven(model)(scripts.data(), [{"y": [0]}, {"y": [1]}], COMPOSITE)


def test_relevance_init_of_a_subclass_sees_lists_or_none(model):
    seen = []

    class Watching(CondAttribution):
        def relevance_init(self, prediction, target_list, init_rel):
            seen.append(target_list)
            return super().relevance_init(prediction, target_list, init_rel)

    attribution = Watching(model)
    attribution(scripts.data(), [{"y": [0]}, {"y": [1, 2]}], COMPOSITE)
    attribution(scripts.data(), [{"conv3": [0]}], COMPOSITE, init_rel=1)
    attribution(scripts.data(), [{"conv3": [0]}], COMPOSITE, start_layer="conv3")
    assert seen == [[[0], [1, 2]], None, None]


def test_an_override_that_would_be_without_effect_is_refused(model):
    class Inner(CondAttribution):
        def _collect_hook_activation_relevance(self, layer_out, on_device=None, length=None):
            """As a gradient-times-input convention needs it."""

    sentence = (
        r"^Inner overrides '_collect_hook_activation_relevance', an internal method of zennit-crp that crp-atlas does "
        r"not have: override 'relevance_init', 'heatmap_modifier', 'backward' or 'broadcast' instead\.$"
    )
    with pytest.raises(InputError, match=sentence):
        Inner(model)
    attribution = CondAttribution(model)
    with pytest.raises(InputError, match=r"^CondAttribution overrides '_attribute', an internal method of"):
        attribution._attribute = None


class Ends(nn.Module):
    """A net whose layers are called as the two ends of a flow once were."""

    def __init__(self):
        super().__init__()
        self.input = nn.Linear(3, 4)
        self.y = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, data):
        return self.head(self.y(self.input(data).relu()).relu())


def test_layers_may_be_called_y_and_input():
    """With another `MODEL_OUTPUT_NAME`, as zennit-crp's error said."""
    torch.manual_seed(0)
    model = Ends().double()
    renamed = nn.Sequential(model.input, nn.ReLU(), model.y, nn.ReLU(), model.head)
    data = torch.ones(1, 3, dtype=torch.float64)
    attribution = CondAttribution(model)
    attribution.MODEL_OUTPUT_NAME = "out"
    found = attribution(data, [{"out": [1], "y": [0, 2], "input": [1, 3]}], COMPOSITE)
    expected = CondAttribution(renamed)(data, [{"y": [1], "2": [0, 2], "0": [1, 3]}], COMPOSITE)
    assert_relevance_close(found.heatmap, expected.heatmap, 1e-12)
    assert_relevance_close(found.relevances["input"], expected.relevances["0"], 1e-12)
    assert_relevance_close(found.relevances["y"], expected.relevances["2"], 1e-12)


@pytest.mark.parametrize("kind", [CondAttribution, scripts.Doubled])
def test_nothing_is_left_over(model, kind):
    """Once the results are dropped, no tensor of the pass lives on."""

    def tensors():
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    before = tensors()
    kind(model)(scripts.data(), [{"conv3": [0], "y": [1]}], COMPOSITE)
    assert tensors() <= before
