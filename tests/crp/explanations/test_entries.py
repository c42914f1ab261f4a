"""What several explanations say together, against sums by hand."""

import dataclasses
import json

import pytest

import example_explanations as examples
from crp.errors import InputError
from crp.explanations.entries import (
    UNIT,
    Entry,
    Neighbour,
    appearances,
    entry_from,
    entry_numbers,
    entry_of,
    in_units,
    neighbours,
)
from crp.graphs.concept_graph import OUTPUT
from crp.values import ClassScore, ConceptEffect

ZEBRA, HORSE = ClassScore(0, "zebra", 2.0, 0.8), ClassScore(1, "horse", 1.0, 0.2)


def entry(name, target, shares, edges):
    return Entry(name, name, (ZEBRA, HORSE), target, {"conv": shares}, edges, OUTPUT)


ENTRIES = [
    entry("a", ZEBRA, ((3, 0.5), (1, -0.25)), (((OUTPUT, 0), ("conv", 3), 0.5), (("conv", 3), ("low", 7), 0.25))),
    entry("b", HORSE, ((3, -0.75),), (((OUTPUT, 1), ("conv", 3), -0.75), (("conv", 3), ("low", 7), 0.5))),
    entry("c", ZEBRA, ((1, 0.125),), ((("conv", 3), ("low", 8), -1.0),)),
]


def assert_kept(found):
    """Written and read, an entry is the same, and so are the units of all shares."""
    again = entry_from(json.loads(json.dumps(entry_numbers(found))))
    assert dataclasses.replace(again, uses=found.uses) == found
    for layer, uses in found.uses.items():
        assert [concept for concept, _ in again.uses[layer]] == [concept for concept, _ in uses]
        for (_, read), (_, share) in zip(again.uses[layer], uses, strict=True):
            assert read == pytest.approx(share, abs=0.51 / UNIT)
            assert in_units(read) == in_units(share)


def test_shares_of_any_size_keep_their_units():
    shares = [sign * units / UNIT for units in (50, 290, 1160, 99_999) for sign in (1, -1)]
    written = entry("a", ZEBRA, (), ())
    assert_kept(dataclasses.replace(written, uses={"conv": tuple(enumerate(shares))}))


def test_appearances_stand_in_the_order_of_absolute_share():
    found = appearances(ENTRIES)
    assert [(shown.name, share) for shown, share in found["conv", 3]] == [("b", -0.75), ("a", 0.5)]
    assert [(shown.name, share) for shown, share in found["conv", 1]] == [("a", -0.25), ("c", 0.125)]
    assert found.keys() == {("conv", 3), ("conv", 1)}


def test_neighbours_are_means_over_the_graphs_that_draw_the_edge():
    found = neighbours(ENTRIES)
    above, below = found["conv", 3]
    assert above == (Neighbour(OUTPUT, 1, "horse", 1, -0.75), Neighbour(OUTPUT, 0, "zebra", 1, 0.5))
    # in the order of the absolute sums 1.0 and 0.75
    assert below == (Neighbour("low", 8, "", 1, -1.0), Neighbour("low", 7, "", 2, 0.375))
    assert found["low", 7] == ((Neighbour("conv", 3, "", 2, 0.375),), ())
    assert found[OUTPUT, 0][0] == ()


def test_an_entry_keeps_what_the_explanation_says_and_comes_back_from_json():
    explanation = examples.explanation(patches=1)
    found = entry_of(explanation, "zebra.jpg", "zebra")
    layer = explanation.layers[0]
    assert found.shares["layer3"] == tuple((part.concept, part.share) for part in layer.ranked)
    assert found.edges == tuple((edge.upper, edge.lower, edge.share) for edge in explanation.graph.edges)
    assert (found.target, found.output) == (explanation.target, OUTPUT)
    assert_kept(found)


def test_an_entry_keeps_the_effects_that_were_measured():
    explanation = examples.explanation(patches=1)
    first, *others = explanation.layers
    part = dataclasses.replace(first.supporting[0], effect=ConceptEffect(10.0, 7.0, 0.4, 9.0, 0.6))
    first = dataclasses.replace(first, supporting=(part, *first.supporting[1:]))
    found = entry_of(dataclasses.replace(explanation, layers=(first, *others)), "zebra.jpg", "zebra")
    assert found.effects == {(first.layer, part.concept): (3.0, 1.0)}
    assert_kept(found)


def test_something_else_is_no_entry():
    with pytest.raises(InputError, match=r"^this is not an entry of a site: KeyError 'name'\.$"):
        entry_from({"page": "a"})
