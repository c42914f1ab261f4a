import dataclasses
import doctest
import math
from importlib import import_module

import numpy as np
import pytest

import example_explanations as examples
from crp.explanations import ClassScore, ClassShare, StartScore
from crp.visualization import conservation_wording, graph_wording, wording


def plain(text):
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ")


@pytest.mark.parametrize("name", ["number_formats", "wording", "page.explanation_page", "figures.renderers.choice"])
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
            "97 % of the relevance that started at the output arrives here; the rest was absorbed by biases or took "
            "a parallel path.",
        ),
        (1.0, "All relevance that started at the output arrives here."),
        (1.03, "103 % of the relevance that started at the output arrives here: biases on the way added to it."),
        (
            -2.09,
            "Relevance is not conserved here: −2.1 times what started at the output arrives at this layer, so shares "
            "are relative to this layer only.",
        ),
        (
            3.76,
            "Relevance is not conserved here: 3.8 times what started at the output arrives at this layer, so shares "
            "are relative to this layer only.",
        ),
        (math.nan, "No relevance started at the output."),
    ],
)
def test_coverage_in_words(coverage, sentence):
    layer = dataclasses.replace(examples.explanation().layers[0], coverage=coverage)
    assert plain(conservation_wording.coverage(layer)) == sentence


def test_first_order_effects_have_no_coverage():
    layer = dataclasses.replace(examples.explanation().layers[0], coverage=float("nan"), first_order=True)
    sentence = conservation_wording.coverage(layer)
    assert sentence.startswith("Relevance here is a first-order effect: about what the output loses without the")
    assert not any(character.isdigit() for character in sentence)


@pytest.mark.parametrize(
    ("absorbed", "sentence"),
    [
        (0.04, "On the way from the output to the input 4 % of the relevance was absorbed by biases and stabilisers."),
        (0.0, "All relevance that started at the output reaches the input."),
        (-0.04, "The input holds 4 % more relevance than started at the output: biases added it."),
        (
            2.76,
            "Relevance is not conserved: at the input it adds up to −1.8 times what started at the output, so the "
            "heatmap shows relative strength only.",
        ),
        (
            0.998,
            "Relevance is not conserved: at the input it adds up to 0.002 times what started at the output, so the "
            "heatmap shows relative strength only.",
        ),
        (math.nan, "No relevance started at the output."),
    ],
)
def test_absorption_in_words(absorbed, sentence):
    explanation = dataclasses.replace(examples.explanation(), absorbed=absorbed)
    assert plain(conservation_wording.absorbed(explanation)) == sentence


def one_output(value, name="output"):
    score = ClassScore(0, name, value, None)
    return dataclasses.replace(examples.explanation(patches=0, layers=()), classes=(score,), target=score)


@pytest.mark.parametrize(
    ("value", "name", "sentence"),
    [
        (-0.1158, "output", "The model sees this input as −0.116"),
        (-0.1158, "class 0", "The model sees this input as −0.116"),
        (12345.6, "price", "The model’s value for price is 12346"),
    ],
)
def test_the_only_output_is_a_value_without_percent(value, name, sentence):
    explanation = one_output(value, name)
    assert "".join(text for text, _ in wording.headline(explanation)) == sentence
    assert "%" not in wording.class_value(explanation.best, explanation.best)
    assert wording.classes_title(explanation) == "Output of the model"


def test_probabilities_below_one_percent_are_spread_over_many_classes():
    scores = tuple(ClassScore(i, f"c{i}", 0.1 - 0.1 * i, p) for i, p in enumerate([0.0043, 0.0012]))
    value = dataclasses.replace(examples.explanation(patches=0, layers=()), classes=scores, target=scores[1])
    assert [plain(wording.class_value(score, scores[0])) for score in scores] == ["0.43 %", "0.12 %"]
    assert plain("".join(text for text, _ in wording.headline(value))) == (
        "The model sees c0 (0.43 %, spread over many classes). What speaks for c1 (0.12 %)?"
    )
    assert wording.classes_title(value) == "Class probabilities, spread over many classes"
    assert wording.classes_title(examples.explanation(patches=0, layers=())) == "Class probabilities"


def test_a_concept_has_two_numbers_with_their_names():
    value = examples.explanation(patches=0)
    part = value.layers[0].ranked[0]
    node = dataclasses.replace(value.graph.node("layer3", part.concept), share=2.5, relevance=5.0, rest=5.0)
    graph = dataclasses.replace(value.graph, nodes=(value.graph.root, node), edges=())
    value = dataclasses.replace(value, graph=graph)
    share = f"{100 * part.share:+.1f}".replace("-", "−")
    assert plain(wording.both_shares(value, part)) == f"{share} % of the layer, +250.0 % of the prediction"
    assert plain(graph_wording.node_sentence(graph, node)) == (
        f"layer3 {part.concept}: +250.0 % of the prediction. More than all of it: other concepts of the layer "
        "oppose and cancel it out."
    )
    assert plain(wording.both_shares(dataclasses.replace(value, graph=None), part)) == f"{share} % of the layer"


def test_the_drawn_part_of_a_graph_is_said_as_it_is():
    graph = examples.explanation(patches=0).graph
    carried = [0.5, 0.11, 0.02, *[math.nan] * (len(graph.nodes) - 3)]
    nodes = [dataclasses.replace(node, carried=part) for node, part in zip(graph.nodes, carried, strict=True)]
    assert plain(graph_wording.edges_drawn(dataclasses.replace(graph, nodes=nodes))) == (
        "Only the strongest edges of each concept are drawn. They carry 11.0 % of the absolute relevance that leaves "
        "it (median; 2.0 % to 50.0 %)."
    )


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (ClassShare(0, "ant", 0.059, samples=1), "+5.9 %, n = 1, few samples"),
        (ClassShare(0, "ant", -0.059, samples=4, spread=0.1), "−5.9 % ± 10.0 %, n = 4, few samples"),
        (ClassShare(0, "ant", 0.059, samples=5, spread=0.0), "+5.9 % ± 0.0 %, n = 5"),
        (ClassShare(0, "ant", 0.059), "+5.9 %"),
    ],
)
def test_a_use_says_how_many_samples_it_rests_on(use, text):
    assert plain(wording.class_use(use)) == text


def test_classes_that_the_model_guessed_are_called_so():
    assert wording.mined_classes({"targets": "label"}) == ""
    assert wording.mined_classes({"targets": "prediction"}) == (
        "Classes are what the model predicted for the mined samples, not labels."
    )


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


def test_the_only_output_is_no_class():
    """A regression: nothing on the page calls its value a class or a probability."""
    explanation = one_output(-0.1158)
    assert wording.subject(explanation) == "the output"
    assert "".join(text for text, _ in wording.question(explanation)) == "What raises or lowers the output"
    assert "".join(wording.lead(explanation)).startswith("The concepts of the network that raise or lower the output, ")
    named = one_output(12345.6, "price")
    assert "".join(text for text, _ in wording.question(named)) == "What raises or lowers price"
    assert wording.question(named)[1] == ("price", True)


def test_a_negative_output_is_said_to_be_one():
    explanation = examples.explanation(patches=0)
    assert wording.negative(explanation) == ""
    target = dataclasses.replace(explanation.target, logit=-0.25)
    assert plain(wording.negative(dataclasses.replace(explanation, target=target))) == (
        "What is explained is negative (−0.25): supporting concepts raise it, opposing ones lower it. "
        "Shares of the prediction have the opposite sign."
    )
    # the logit is positive, the difference is not
    against = dataclasses.replace(explanation.target, logit=7.5)
    text = wording.negative(dataclasses.replace(explanation, against=against, graph=None))
    assert text == "What is explained is negative (−2.5): supporting concepts raise it, opposing ones lower it."


def test_a_share_beside_its_side_is_never_zero_if_the_concept_has_relevance():
    part = examples.explanation(patches=0).layers[0].ranked[0]
    shown = {
        share: plain(f"{wording.side(tiny)} {wording.share_of_side(tiny)}")
        for share in (0.0004, -0.0004, 0.0006, -0.0006, 0.0)
        for tiny in [dataclasses.replace(part, share=share, relevance=share)]
    }
    assert shown == {
        0.0004: "supports under 0.1 %", -0.0004: "opposes under 0.1 %",
        0.0006: "supports +0.1 %", -0.0006: "opposes −0.1 %", 0.0: "is silent 0.0 %",
    }  # fmt: skip


ROAD = StartScore("road inside the mask", -142.4)


def test_a_start_without_classes_is_named_with_its_value():
    value = dataclasses.replace(examples.explanation(patches=0, layers=()), classes=(), target=ROAD, graph=None)
    assert wording.headline(value) == (("road inside the mask", True), (": −142", False))
    assert wording.question(value) == (("What raises or lowers ", False), ("road inside the mask", True))
    assert wording.lead(value)[:2] == ("The concepts of the network that raise or lower ", "road inside the mask")
    assert wording.classes_title(value) == "What is explained"
    assert wording.negative(value).startswith("What is explained is negative (−142): ")
    other = dataclasses.replace(value, against=StartScore("sky inside the mask", -150.0))
    assert wording.subject(other) == "road inside the mask rather than sky inside the mask"
    asked = "".join(text for text, _ in wording.question(other))
    assert asked == "Why road inside the mask and not sky inside the mask"
    assert wording.negative(other) == ""  # −142.4 + 150


def test_the_number_of_a_start_is_explained():
    value = examples.explanation(patches=0, layers=())
    assert wording.number_means(value) == ""  # of a class

    def said(outputs):
        target = StartScore("road where it is predicted", 6486.0, outputs)
        return wording.number_means(dataclasses.replace(value, classes=(), target=target, graph=None))

    assert said(1934) == "6486 is the sum of 1934 outputs of the model, 3.35 on average."
    assert said(1) == "6486 is the model’s output there, before a softmax or sigmoid."
    assert said(None) == "6486 is the sum of the relevance that starts at the model’s outputs."


def test_a_start_beside_classes_does_not_hide_what_the_model_sees():
    value = examples.explanation(patches=0, layers=())
    value = dataclasses.replace(value, target=StartScore("horse against all others", 1.25))
    assert plain("".join(text for text, _ in wording.headline(value))) == (
        "The model sees zebra (90 %). What raises or lowers horse against all others (1.25)?"
    )
    assert wording.classes_title(value) == "Class probabilities, and what is explained"


def test_users_of_a_concept_have_names_only_where_the_library_has_several_classes():
    def used_by(*uses):
        value = examples.explanation(patches=0, layers=("layer4",), supporting=1, opposing=0, names=("cat",))
        (layer,) = value.layers
        part = dataclasses.replace(layer.supporting[0], classes=uses)
        layer = dataclasses.replace(layer, supporting=(part,))
        return wording.used_by(dataclasses.replace(value, target=ROAD, layers=(layer,), graph=None))

    assert used_by(ClassShare(0, "road inside the mask", 0.5)) == "Mean over mined samples"
    assert used_by(ClassShare(0, "sky", 0.5), ClassShare(1, "road", 0.25)) == "Used most by"
