import copy
import dataclasses
import json
import math

import numpy as np
import pytest

import example_explanations as examples
from crp.errors import InputError
from crp.explanations import (
    ClassScore,
    ConceptMap,
    ConceptPart,
    Explanation,
    LayerExplanation,
    Patch,
    from_json,
    numbers,
    to_json,
)
from crp.explanations.plausibility import absorbed_is_a_share, coverage_is_a_share
from crp.graphs import GraphNode

BLACK = np.zeros((4, 6, 3), dtype=np.uint8)
FLAT = np.zeros((4, 6), dtype=np.float32)


def part(concept, share, **changes):
    return ConceptPart(
        **({"layer": "conv", "concept": concept, "relevance": share * 8, "share": share, "heatmap": FLAT} | changes)
    )


def layer(supporting=(), opposing=(), rest=0.0, **changes):
    fields = {"layer": "conv", "size": 8, "supporting": supporting, "opposing": opposing, "rest": rest, "coverage": 1.0}
    return LayerExplanation(**(fields | changes))


def assert_same(first, second):
    """Equal dataclasses, arrays to the last bit, nan equal to nan."""
    assert type(first) is type(second)
    if dataclasses.is_dataclass(first):
        for field in dataclasses.fields(first):
            assert_same(getattr(first, field.name), getattr(second, field.name))
    elif isinstance(first, np.ndarray):
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)
    elif isinstance(first, tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    elif isinstance(first, dict):
        assert list(first) == list(second)
        for name in first:
            assert_same(first[name], second[name])
    elif first is None:
        assert second is None
    elif isinstance(first, str | int):
        assert first == second
    else:
        assert first == second or (math.isnan(first) and math.isnan(second))


def test_ranked_puts_the_largest_absolute_share_first_and_shown_adds_up():
    value = layer((part(1, 0.3), part(2, 0.1)), (part(5, -0.2),), rest=0.4)
    assert [entry.concept for entry in value.ranked] == [1, 5, 2]
    assert value.shown == pytest.approx(0.6)


@pytest.mark.parametrize("seed", range(5))
def test_shares_and_rest_of_every_layer_are_one(seed):
    for value in examples.explanation(seed).layers:
        assert math.fsum(abs(entry.share) for entry in value.ranked) + value.rest == pytest.approx(1, abs=1e-9)


def test_a_layer_without_relevance_has_neither_shares_nor_rest():
    assert layer((part(1, 0.0),), rest=0.0).shown == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"supporting": (part(1, 0.5),), "rest": 0.4},
            "layer 'conv' shows 0.500000 of the relevance and leaves 0.400000: together that must be 1.",
        ),
        (
            {"supporting": (part(1, -0.5),), "rest": 0.5},
            "layer 'conv' lists a concept as supporting whose share is -0.5.",
        ),
        ({"opposing": (part(1, 0.5),), "rest": 0.5}, "layer 'conv' lists a concept as opposing whose share is 0.5."),
        (
            {"supporting": (part(1, 0.2), part(2, 0.3)), "rest": 0.5},
            "the supporting concepts of layer 'conv' are not sorted by share.",
        ),
        ({"supporting": (part(1, 0.3), part(1, 0.2)), "rest": 0.5}, "layer 'conv' lists concept 1 twice."),
        ({"supporting": (part(8, 0.5),), "rest": 0.5}, "layer 'conv' lists concept 8; it has 0..7."),
    ],
)
def test_a_layer_that_breaks_its_promise_is_refused(fields, message):
    with pytest.raises(InputError) as error:
        layer(**fields)
    assert str(error.value) == message


def test_signs_of_share_and_relevance_agree():
    with pytest.raises(InputError) as error:
        part(3, 0.5, relevance=-1.0)
    assert str(error.value) == "concept 3 of 'conv' has relevance -1.0 and share 0.5: signs differ."


def test_a_share_above_one_is_refused():
    with pytest.raises(InputError) as error:
        part(3, 1.5)
    assert str(error.value) == "the share of concept 3 of 'conv' is 1.5, outside -1..1."


def test_pictures_are_rgb_and_grey_is_converted():
    patch = Patch(0, 1.0, 0, (), (0, 0, 4, 6), BLACK[..., 0] + np.uint8(7), FLAT)
    assert patch.picture.shape == (4, 6, 3)
    assert (patch.picture == 7).all()
    with pytest.raises(InputError) as error:
        Patch(0, 1.0, 0, (), (0, 0, 4, 6), np.zeros((4, 6, 2), dtype=np.uint8), FLAT)
    assert str(error.value) == "a picture is uint8 [h, w, 3] or grey [h, w]; this one is uint8 [4, 6, 2]."


def test_a_heatmap_fits_its_picture():
    with pytest.raises(InputError) as error:
        Patch(0, 1.0, 0, (), (0, 0, 4, 6), BLACK, FLAT.T)
    assert str(error.value) == "a heatmap of shape (6, 4) does not fit a picture of shape (4, 6, 3)."


def test_arrays_are_read_only_and_the_callers_array_is_not():
    heatmap = FLAT.copy()
    value = part(0, 0.5, heatmap=heatmap)
    with pytest.raises(ValueError, match="read-only"):
        value.heatmap[0, 0] = 1
    heatmap[0, 0] = 1


def test_concept_map_ranks_concepts_by_the_relevance_of_their_cells():
    value = ConceptMap("conv", [[4, -1], [2, 4]], [[1.0, 0.0], [2.5, 1.0]], (8, 8))
    assert value.strength() == {2: 2.5, 4: 2.0}
    assert list(value.strength()) == [2, 4]


def test_concept_map_tables_have_one_shape_and_ids_from_minus_one():
    with pytest.raises(InputError) as error:
        ConceptMap("conv", [[1, 2]], [[1.0], [2.0]], (8, 8))
    assert str(error.value) == (
        "the concept map of 'conv' has concepts of shape (1, 2) and relevance of shape (2, 1); "
        "both are [rows, columns]."
    )
    with pytest.raises(InputError) as error:
        ConceptMap("conv", [[-2]], [[1.0]], (8, 8))
    assert str(error.value) == "the concept map of 'conv' has concept -2; ids start at 0, -1 is blank."


def test_classes_come_best_first():
    worse, better = ClassScore(0, "a", 1.0, 0.3), ClassScore(1, "b", 2.0, 0.7)
    with pytest.raises(InputError) as error:
        Explanation(BLACK, FLAT, (worse, better), worse, (), 0.0, {})
    assert str(error.value) == "an explanation's classes must be sorted, best first; these have the logits [1.0, 2.0]."


def test_a_concepts_heatmap_has_the_shape_of_the_input():
    score = ClassScore(0, "a", 1.0, 1.0)
    odd = layer((part(1, 1.0, heatmap=FLAT.T),))
    with pytest.raises(InputError) as error:
        Explanation(BLACK, FLAT, (score,), score, (odd,), 0.0, {})
    assert str(error.value) == "the heatmap of concept 1 of 'conv' has shape (6, 4), the picture (4, 6)."


@pytest.mark.parametrize(
    "options", [{}, {"shape": (20, 48), "patches": 2}, {"names": (examples.HOSTILE, "b"), "supporting": 0}]
)
def test_json_round_trip_is_exact(options):
    value = examples.explanation(**options)
    assert_same(from_json(json.loads(json.dumps(to_json(value), allow_nan=False))), value)


def test_what_stands_beside_survives_json_too():
    value = examples.beside(examples.explanation(layers=("conv",), patches=1), layers=("conv",), patches=1)
    read = from_json(json.loads(json.dumps(to_json(value), allow_nan=False)))
    assert_same(read, value)
    assert [other.against is None for other in read.beside] == [True, False]


def test_what_was_added_later_may_be_missing():
    """Explanations saved before there were tables, graphs and second classes are read as they were."""
    content = to_json(examples.explanation(layers=("conv",), patches=1))
    for name in ("against", "graph", "beside"):
        content.pop(name)
    for name in ("relevance", "glimpses"):
        content["layers"][0].pop(name)
    for side in ("supporting", "opposing"):
        for part in content["layers"][0][side]:
            part.pop("classes")
    content["arrays"] = {name: array for name, array in content["arrays"].items() if "table" not in name}
    read = from_json(content)
    assert (read.graph, read.beside, read.layers[0].concept_map.table) == (None, (), None)
    assert numbers(read)["layers"][0]["supporting"][0]["classes"] == []


def test_a_region_is_ranked_by_its_sums():
    table = np.zeros((2, 2, 3), dtype=np.float32)
    table[0, 0], table[0, 1], table[1, 1] = [1, -3, 0], [0.5, 1, 0], [9, 9, 9]
    value = ConceptMap("conv", np.zeros((2, 2)), np.ones((2, 2)), (4, 4), table)
    assert value.ranking([[True, True], [False, False]]) == ((1, -2.0), (0, 1.5))
    assert value.ranking(np.zeros((2, 2))) == ()
    with pytest.raises(InputError, match=r"has cells of shape \(2, 2\)\.$"):
        value.ranking([[True]])
    with pytest.raises(InputError, match=r"^A region is True or False for each cell, given 0\.3; "):
        value.ranking([[1, 0.3], [0, 0]])
    with pytest.raises(InputError, match=r"has no table of all concepts\.$"):
        dataclasses.replace(value, table=None).ranking(np.ones((2, 2)))
    with pytest.raises(InputError, match=r"the table is \[rows, columns, C\]\.$"):
        dataclasses.replace(value, table=table[0])


def test_other_pictures_do_not_stand_beside():
    value = examples.explanation(layers=())
    with pytest.raises(InputError, match=r"^all explanations in `beside` must be of the same input; "):
        dataclasses.replace(value, beside=(examples.explanation(1, layers=()),))


def test_all_relevance_is_that_of_all_concepts():
    with pytest.raises(InputError, match=r"^layer 'conv' has 8 concepts and relevance of shape \(2,\)\.$"):
        layer((part(1, 1.0),), relevance=[1.0, 0.0])


def test_undefined_numbers_survive_json_as_null():
    score = ClassScore(0, "a", 0.0, None)
    value = Explanation(BLACK, FLAT, (score,), score, (layer(coverage=math.nan),), math.nan, {})
    content = json.loads(json.dumps(to_json(value), allow_nan=False))
    assert content["absorbed"] is None
    assert content["layers"][0]["coverage"] is None
    assert_same(from_json(content), value)


def test_numbers_are_json_without_the_arrays():
    value = examples.explanation()
    whole = to_json(value)
    assert whole.pop("arrays")
    assert numbers(value) == whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda content: content.update(format="x"),
            "this is not an explanation: its \"format\" is not 'crp-atlas explanation'.",
        ),
        (lambda content: content.update(version=2), "this explanation has version 2; this program reads version 1."),
        (
            lambda content: content.pop("arrays"),
            "this explanation holds numbers only (as embedded in a page); the file saved as .json holds the "
            "arrays too.",
        ),
        (lambda content: content["arrays"].pop("heatmap"), "this explanation is damaged: KeyError 'heatmap'."),
        (
            lambda content: content["arrays"]["heatmap"].update(dtype="|O"),
            "this explanation is damaged: ValueError array of dtype '|O'.",
        ),
    ],
)
def test_damaged_json_is_refused_with_a_sentence(change, message):
    content = copy.deepcopy(to_json(examples.explanation(layers=("conv",), patches=1)))
    change(content)
    with pytest.raises(InputError) as error:
        from_json(content)
    assert str(error.value) == message


def test_an_array_unpacks_no_further_than_its_shape():
    content = to_json(examples.explanation(layers=()))
    content["arrays"]["heatmap"]["shape"] = [2, 2]
    with pytest.raises(InputError, match=r"^this explanation is damaged: ValueError"):
        from_json(content)


def test_a_list_is_no_explanation():
    with pytest.raises(InputError, match=r"^this is not an explanation"):
        from_json([])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_heatmaps_and_tables_that_are_not_finite_are_refused(value):
    flat = np.where(np.arange(24).reshape(4, 6) == 5, value, 0)
    with pytest.raises(InputError, match=r"^the heatmap of concept 3 of 'conv' holds values that are not finite \(NaN"):
        part(3, 0.5, heatmap=flat)
    with pytest.raises(InputError, match=r"^a heatmap holds values that are not finite \(NaN or infinite\)\.$"):
        dataclasses.replace(examples.explanation(patches=0), heatmap=np.full((64, 64), value))
    with pytest.raises(InputError, match=r"^the table of the concept map of 'conv' holds values that are not finite"):
        ConceptMap("conv", np.zeros((4, 6)), np.zeros((4, 6)), (4, 6), table=flat[..., None])
    with pytest.raises(InputError, match=r"^the heatmap of \('conv', 3\) holds values that are not finite"):
        GraphNode("conv", 3, relevance=1.0, share=1.0, rest=1.0, heatmap=flat)


def test_the_only_output_has_no_probability_in_json_and_none_is_read_from_earlier_files():
    score = ClassScore(0, "output", -0.12, None)
    value = Explanation(BLACK, FLAT, (score,), score, (layer(),), 0.0, {})
    content = json.loads(json.dumps(to_json(value), allow_nan=False))
    assert content["classes"] == [{"index": 0, "name": "output", "logit": -0.12, "probability": None}]
    assert_same(from_json(content), value)
    # an earlier version wrote the softmax of one number
    for written in (content["target"], *content["classes"]):
        written["probability"] = 1.0
    assert from_json(content).best.probability is None


def test_uses_of_earlier_files_have_no_samples():
    value = examples.explanation(patches=1)
    content = json.loads(json.dumps(to_json(value)))
    written = content["layers"][0]["supporting"][0]["classes"]
    assert written[0] == {"index": 0, "name": "zebra", "share": 0.25, "samples": 40, "spread": 0.0625}
    for use in written:
        del use["samples"], use["spread"]
    read = from_json(content).layers[0].supporting[0].classes
    assert [(use.share, use.samples, use.spread) for use in read] == [(0.25, None, None), (0.125, None, None)]


@pytest.mark.parametrize(
    ("coverage", "plausible"),
    [(-2.09, False), (-0.001, False), (0.0, True), (1.05, True), (1.06, False), (math.nan, False), (math.inf, False)],
)
def test_coverage_is_a_share_from_0_to_105_percent(coverage, plausible):
    assert coverage_is_a_share(coverage) is plausible


@pytest.mark.parametrize(
    ("absorbed", "plausible"),
    [(2.76, False), (1.0, False), (0.99, True), (0.0, True), (-0.05, True), (-0.06, False), (math.nan, False)],
)
def test_absorption_is_a_share_from_minus_5_to_99_percent(absorbed, plausible):
    assert absorbed_is_a_share(absorbed) is plausible
