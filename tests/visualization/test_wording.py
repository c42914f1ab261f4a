import dataclasses
import doctest
import math
from importlib import import_module

import numpy as np
import pytest

import example_explanations as examples
from crp.visualization import colours as palette
from crp.visualization import wording


def plain(text):
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ")


@pytest.mark.parametrize("name", ["wording", "page.explanation_page", "figures.renderers.choice"])
def test_examples_in_docstrings(name):
    result = doctest.testmod(import_module(f"crp.visualization.{name}"))
    assert result.attempted > 0
    assert result.failed == 0


def test_headline_names_the_best_class_and_the_explained_one_where_it_is_another():
    value = examples.explanation()
    assert plain("".join(text for text, _ in wording.headline(value))) == "The model sees zebra (90 %)"
    other = dataclasses.replace(value, target=value.classes[1])
    text = plain("".join(text for text, _ in wording.headline(other)))
    assert text == "The model sees zebra (90 %). What speaks for horse (7 %)?"
    assert [text for text, name in wording.headline(other) if name] == ["zebra", "horse"]


def test_a_class_without_name_is_called_by_its_number():
    assert wording.class_name(dataclasses.replace(examples.explanation().target, name="", index=7)) == "class 7"


@pytest.mark.parametrize(
    ("coverage", "sentence"),
    [
        (
            0.97,
            "97 % of the relevance that started at the output arrives here; the rest was absorbed by biases or went "
            "a parallel way.",
        ),
        (1.0, "All relevance that started at the output arrives here."),
        (1.2, "120 % of the relevance that started at the output arrives here: biases on the way added to it."),
        (
            -0.1,
            "What arrives here is −10 % of the relevance that started at the output: biases on the way took more than "
            "all of it.",
        ),
        (math.nan, "No relevance started at the output."),
    ],
)
def test_coverage_in_words(coverage, sentence):
    layer = dataclasses.replace(examples.explanation().layers[0], coverage=coverage)
    assert plain(wording.coverage(layer)) == sentence


@pytest.mark.parametrize(
    ("absorbed", "sentence"),
    [
        (0.04, "On the way from the output to the input 4 % of the relevance was absorbed by biases and stabilisers."),
        (0.0, "All relevance that started at the output reaches the input."),
        (-0.2, "The input holds 20 % more relevance than started at the output: biases added it."),
        (math.nan, "No relevance started at the output."),
    ],
)
def test_absorption_in_words(absorbed, sentence):
    assert plain(wording.absorbed(dataclasses.replace(examples.explanation(), absorbed=absorbed))) == sentence


@pytest.mark.parametrize("seed", range(20))
def test_the_printed_ledger_adds_up_to_one_hundred_and_is_right_to_a_tenth(seed):
    layer = examples.explanation(seed, layers=("conv",), patches=0).layers[0]
    printed = {name: float(text.split("\N{NO-BREAK SPACE}")[0]) for name, text in wording.ledger(layer).items()}
    assert printed["for"] + printed["against"] + printed["rest"] == pytest.approx(100, abs=1e-9)
    assert printed["shown"] == pytest.approx(100 * layer.shown, abs=0.11)
    assert printed["rest"] == pytest.approx(100 * layer.rest, abs=0.11)


def test_hidden_concepts_are_counted():
    layer = examples.explanation(patches=0).layers[0]
    count = layer.size - len(layer.ranked)
    assert wording.hidden(layer) == f"{count} other concepts"
    larger = dataclasses.replace(layer, size=layer.size + 2000, relevance=None)
    assert plain(wording.hidden(larger)) == f"2 0{count} other concepts"


@pytest.mark.parametrize(
    ("row", "column", "words"),
    [
        (0, 0, "in the upper left"),
        (0, 8, "in the upper right"),
        (4, 4, "around the centre"),
        (8, 4, "in the lower part"),
        (4, 0, "on the left"),
    ],
)
def test_where_a_heatmap_gathers(row, column, words):
    heatmap = np.zeros((9, 9))
    heatmap[row, column] = -1
    assert wording.where(heatmap) == words


def test_an_empty_heatmap_is_nowhere():
    assert wording.where(np.zeros((3, 3))) == "nowhere"


def test_hostile_names_become_one_printable_line():
    assert wording.printable("a\u202eb\nc\udc80") == "a\N{REPLACEMENT CHARACTER}b c\N{REPLACEMENT CHARACTER}"


def test_concepts_of_the_map_have_colours_of_their_own_until_they_run_out():
    layer = examples.explanation(patches=0).layers[0]
    colours = palette.concept_colours(layer)
    assert list(colours) == list(layer.concept_map.strength())
    assert len(set(colours.values())) == len(colours)
    concepts = np.arange(16).reshape(4, 4)
    crowded = dataclasses.replace(layer.concept_map, concept=concepts, relevance=16.0 - concepts, table=None)
    colours = palette.concept_colours(dataclasses.replace(layer, concept_map=crowded))
    assert [concept for concept, colour in colours.items() if colour == palette.OTHER] == list(range(10, 16))


def test_ink_on_a_colour_is_the_readable_one():
    assert palette.ink("#ffff00") == "#000000"
    assert palette.ink("#000080") == "#ffffff"


def test_a_layer_without_map_needs_no_colours():
    assert (
        palette.concept_colours(dataclasses.replace(examples.explanation(patches=0).layers[0], concept_map=None)) == {}
    )
