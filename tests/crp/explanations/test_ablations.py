"""Outputs without concepts, one and two at a time, are those of the model with these channels cleared by hooks."""

from __future__ import annotations

import dataclasses
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import crp
from crp import InputError
from crp.attribution.starts import Logit, LogOdds, Sum
from crp.explanations import Ablations, Explanation, LayerExplanation, from_json, numbers, to_json
from tests.ablated import CLASSES, LAYERS, explained, image, library, live, network


@pytest.fixture(scope="module")
def explanation(tmp_path_factory: pytest.TempPathFactory) -> Explanation:
    return explained(tmp_path_factory.mktemp("ablated"))


def strongest(layer: LayerExplanation) -> list[int]:
    return [part.concept for part in layer.ranked]


@pytest.mark.parametrize("at_mean", [False, True])
def test_eight_concepts_and_their_28_pairs_are_live_runs(explanation: Explanation, at_mean: bool) -> None:
    model = network()
    for layer in explanation.layers:
        found, cards = layer.mean_ablations if at_mean else layer.ablations, strongest(layer)
        assert len(cards) >= 8
        pairs = [tuple(sorted(pair)) for pair in combinations(cards[:8], 2)]
        assert found.removed == ((), *((one,) for one in cards), *pairs)
        assert len(pairs) == 28
        probabilities = found.probabilities()
        for row, off in enumerate(found.removed):
            output = live(model, layer.layer, off, at_mean)
            listed = [index for index, _ in found.classes]
            assert found.values[row] == pytest.approx(float(output[explanation.target.index]), abs=1e-5)
            assert found.logits[row] == pytest.approx(output[listed].numpy(), abs=1e-5)
            assert probabilities[row] == pytest.approx(output.softmax(0)[listed].numpy(), abs=1e-6)
            # whatever is predicted then has a name here
            assert int(output.argmax()) in listed
    assert max(map(len, map(strongest, explanation.layers))) > 8  # so that not all pairs are stored


def test_classes_are_those_of_the_page_and_those_that_are_predicted_without_concepts(explanation: Explanation) -> None:
    best = [(score.index, score.name) for score in explanation.classes]
    more = set()
    for layer in explanation.layers:
        classes = layer.ablations.classes
        assert list(classes[:5]) == best
        assert all(name == CLASSES[index] for index, name in classes)
        more |= set(classes[5:])
    assert more  # this net does predict a class that the page did not list


def test_single_concepts_agree_with_the_effects_on_cards(explanation: Explanation) -> None:
    for layer in explanation.layers:
        for part in layer.ranked:
            row = layer.ablations.removed.index((part.concept,))
            assert layer.ablations.values[row] == pytest.approx(part.effect.after, abs=1e-9)
            place = [index for index, _ in layer.ablations.classes].index(explanation.target.index)
            assert layer.ablations.probabilities()[row, place] == pytest.approx(part.effect.probability, abs=1e-9)
            assert layer.mean_ablations.values[row] == pytest.approx(part.effect.at_mean, abs=1e-9)
        assert any(abs(part.effect.at_mean - part.effect.after) > 0.1 for part in layer.ranked)  # they are two answers


def test_without_pairs_there_are_single_concepts_and_without_effects_nothing(tmp_path: Path) -> None:
    model = network()
    mined = library(model, tmp_path / "a.crp")
    for layer in crp.explain(model, image(), mined, pairs=0).layers:
        assert layer.ablations.removed == ((), *((one,) for one in strongest(layer)))
    for layer in crp.explain(model, image(), mined, pairs=3).layers:
        assert len(layer.ablations.removed) == 1 + len(layer.ranked) + 3
    unmeasured = crp.explain(model, image(), mined, effects=False).layers
    assert all(layer.ablations is None and layer.mean_ablations is None for layer in unmeasured)
    with pytest.raises(InputError, match=r"pairs is -1; it must be a whole number of at least 0\."):
        crp.explain(model, image(), mined, pairs=-1)


def test_each_view_has_the_value_of_its_own_start(tmp_path: Path) -> None:
    model = network()
    mined = library(model, tmp_path / "a.crp")
    view = crp.explain(model, image(), mined, target=2, against=7)
    values = (lambda z: z[2], lambda z: z[7], lambda z: z[2] - z[7])
    for one, value in zip((view, *view.beside), values, strict=True):
        for layer in one.layers:
            assert {2, 7} <= {index for index, _ in layer.ablations.classes}
            for off, found in zip(layer.ablations.removed, layer.ablations.values, strict=True):
                assert found == pytest.approx(float(value(live(model, layer.layer, off))), abs=1e-5)


def test_starts_and_the_only_output_of_a_model(tmp_path: Path) -> None:
    model = network()
    mined = library(model, tmp_path / "a.crp")
    both = crp.explain(model, image(), mined, target=Sum([Logit(1), Logit(4)])).layers[0]
    for off, found in zip(both.ablations.removed, both.ablations.values, strict=True):
        output = live(model, both.layer, off)
        assert found == pytest.approx(float(output[1] + output[4]), abs=1e-5)
    odds = crp.explain(model, image(), mined, target=LogOdds(1)).layers[0].ablations
    assert len(odds.classes) >= 5
    single = explained(tmp_path / "one", outputs=1)
    found = single.layers[0].ablations
    assert [index for index, _ in found.classes] == [0]
    assert np.isneginf(found.others).all()
    for off, value in zip(found.removed, found.values, strict=True):
        assert value == pytest.approx(float(live(network(1), single.layers[0].layer, off)[0]), abs=1e-5)


def test_json_keeps_all_of_it(explanation: Explanation) -> None:
    again = from_json(to_json(explanation))
    assert numbers(again) == numbers(explanation)
    for layer, other in zip(explanation.layers, again.layers, strict=True):
        for way in ("ablations", "mean_ablations"):
            for field in dataclasses.fields(Ablations):
                one, two = (getattr(getattr(value, way), field.name) for value in (layer, other))
                assert np.array_equal(one, two) if isinstance(one, np.ndarray) else one == two
    # files of earlier versions have none
    older = to_json(explanation)
    for layer in older["layers"]:
        del layer["ablations"], layer["mean_ablations"]
    assert all(layer.ablations is layer.mean_ablations is None for layer in from_json(older).layers)
    assert [layer.layer for layer in explanation.layers] == list(reversed(LAYERS))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"removed": [(), (1,), (1,)]}, "rows of ablations differ"),
        ({"removed": [(2,), (1,), (0,)]}, "the first removes nothing"),
        ({"removed": [(), (1,), (2, 1)]}, "ascending order"),
        ({"values": np.zeros(2)}, r"the values of ablations have shape \(2,\), and must have \(3,\)"),
        ({"logits": np.zeros((3, 2))}, r"the logits of ablations have shape \(3, 2\), and must have \(3, 1\)"),
        ({"values": np.array([0, 1, np.nan])}, "what is explained without some concepts holds values"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict, sentence: str) -> None:
    fields = {
        "removed": [(), (1,), (1, 2)], "values": np.zeros(3), "classes": [(0, "a")], "logits": np.zeros((3, 1)),
        "others": np.zeros(3),
    }  # fmt: skip
    Ablations(**fields)
    with pytest.raises(InputError, match=sentence):
        Ablations(**{**fields, **change})


def test_behind_a_sigmoid_every_class_has_a_probability_of_its_own(tmp_path: Path) -> None:
    model = network()
    model.add_module("sigmoid", nn.Sigmoid())
    found = crp.explain(model, image(), library(model, tmp_path / "labels.crp"))
    model = network()
    logits = model(image()[None])[0].detach()
    for score in found.classes:
        assert score.probability == pytest.approx(float(logits[score.index].sigmoid()), abs=1e-6)
    for layer in found.layers:
        one = layer.ranked[0]
        output = live(model, layer.layer, (one.concept,))
        assert one.effect.probability == pytest.approx(float(output[found.target.index].sigmoid()), abs=1e-6)
        rows, listed = layer.ablations, [index for index, _ in layer.ablations.classes]
        assert rows.independent
        place = rows.removed.index((one.concept,))
        assert rows.probabilities()[place] == pytest.approx(output[listed].sigmoid().numpy(), abs=1e-6)
    again = from_json(to_json(found))
    assert again.layers[0].ablations.probabilities() == pytest.approx(found.layers[0].ablations.probabilities())
