"""What cards say about the measured effect of a concept."""

from __future__ import annotations

import dataclasses

import pytest

import example_explanations as examples
from crp.explanations import ConceptEffect, ConceptPart, Explanation
from crp.values import StartScore
from crp.visualization import effect_wording
from crp.visualization.atlases import Atlas


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def measured(relevance: float, after: float, probability: float | None = 0.4) -> tuple[Explanation, ConceptPart]:
    """An explanation of the zebra, logit 10, and a concept of it with an effect."""
    explanation = examples.explanation()
    part = explanation.layers[0].supporting[0]
    share = abs(part.share) * (1 if relevance > 0 else -1)
    effect = ConceptEffect(10.0, after, probability)
    return explanation, dataclasses.replace(part, relevance=relevance, share=share, effect=effect)


def test_a_class_has_its_probability_and_its_logit() -> None:
    explanation, part = measured(3.0, 7.0)
    assert plain(effect_wording.effect(explanation, part)) == "without it: 90 % → 40 %, logit 10 → 7"
    assert effect_wording.effect(explanation, dataclasses.replace(part, effect=None)) == ""


def test_differences_and_values_have_no_probability() -> None:
    explanation, part = measured(3.0, 7.0, None)
    assert effect_wording.effect(explanation, part) == "without it: 10 → 7"
    started = dataclasses.replace(explanation, target=StartScore("road inside the mask", 10))
    assert effect_wording.effect(started, part) == "without it: 10 → 7"
    against = dataclasses.replace(explanation, against=explanation.classes[1])
    assert effect_wording.effect(against, part) == "without it: difference 10 → 7"


@pytest.mark.parametrize(
    ("relevance", "after", "says"),
    [
        (3.0, 7.0, ""),
        (3.0, 8.9, ""),  # less than its relevance, but not by far
        (3.0, 10.05, "Differs from its effect by far: removing it changes the output by 0.017 times its relevance."),
        (3.0, 10.2, "Disagrees with its effect: it supports, but removing it raises the output."),
        (-3.0, 9.0, "Disagrees with its effect: it opposes, but removing it lowers the output."),
        (3.0, -2.0, "Differs from its effect by far: removing it changes the output by 4 times its relevance."),
        (0.2, 9.99, ""),  # too small to matter
        (0.2, 10.09, ""),
    ],
)
def test_cards_say_where_relevance_and_effect_disagree(relevance: float, after: float, says: str) -> None:
    _, part = measured(relevance, after)
    assert plain(effect_wording.disagreement(part)) == says


def test_the_page_shows_both(tmp_path) -> None:
    explanation, part = measured(0.5, 10.2)
    layer = explanation.layers[0]
    part = dataclasses.replace(part, relevance=layer.supporting[0].relevance)
    layer = dataclasses.replace(layer, supporting=(part, *layer.supporting[1:]))
    page = Atlas(dataclasses.replace(explanation, layers=(layer, *explanation.layers[1:])))._repr_html_()
    assert "without it: 90" in page
