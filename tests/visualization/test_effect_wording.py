"""What cards say about the measured effect of a concept."""

from __future__ import annotations

import dataclasses

import pytest

import example_explanations as examples
from crp.errors import InputError
from crp.explanations import ConceptEffect, ConceptPart, Explanation
from crp.explanations.entries import Entry
from crp.values import ClassScore, StartScore
from crp.visualization import effect_wording
from crp.visualization.atlases import Atlas
from crp.visualization.page.explanation_page import render

FAR = "Far from its effect: removing it changes the output by"


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


def test_both_ways_of_removing_a_concept_are_said() -> None:
    explanation, part = measured(3.0, 7.0)
    effect = ConceptEffect(10.0, 7.0, 0.4, 9.0, 0.61)
    part = dataclasses.replace(part, effect=effect)
    said = "without it: 90 % → 40 %, logit 10 → 7; at its mean 61 %, 9"
    assert plain(effect_wording.effect(explanation, part)) == said
    started = dataclasses.replace(explanation, target=StartScore("road inside the mask", 10))
    assert plain(effect_wording.effect(started, part)) == "without it: 10 → 7; at its mean 9"
    against = dataclasses.replace(explanation, against=explanation.classes[1])
    assert plain(effect_wording.effect(against, part)) == "without it: difference 10 → 7; at its mean 9"
    alike = dataclasses.replace(part, effect=ConceptEffect(10.0, 7.0, 0.4, 7.001, 0.4))
    said = "without it, or at its mean: 90 % → 40 %, logit 10 → 7"
    assert plain(effect_wording.effect(explanation, alike)) == said
    assert "mean over" not in effect_wording.effect_means(explanation)
    first, *others = explanation.layers
    shown = dataclasses.replace(first.supporting[0], effect=effect)
    first = dataclasses.replace(first, supporting=(shown, *first.supporting[1:]))
    layers = (first, *others)
    assert "its mean over the mined data set" in effect_wording.effect_means(
        dataclasses.replace(explanation, layers=layers)
    )


@pytest.mark.parametrize(
    ("relevance", "after", "at_mean", "says"),
    [
        (3.0, 10.2, 10.3, "Disagrees with its effect: it supports, but removing it raises the output."),
        (0.3, 10.2, 9.9, ""),  # the mean says that it supports
        (0.3, 9.9, 10.2, ""),
        (3.0, 10.2, 10.05, f"{FAR} 0.067 times its relevance."),
        (3.0, -2.0, 0.0, f"{FAR} 3.3 times its relevance."),
        (3.0, -2.0, 9.5, ""),  # too much by one way, too little by the other
        (3.0, 10.0, 7.0, ""),  # the mean agrees
    ],
)
def test_relevance_and_effect_disagree_if_zero_and_mean_say_so(relevance, after, at_mean, says) -> None:
    _, part = measured(relevance, after)
    part = dataclasses.replace(part, effect=ConceptEffect(10.0, after, 0.4, at_mean, 0.4))
    assert plain(effect_wording.disagreement(part)) == says


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
        (3.0, 10.05, "Far from its effect: removing it changes the output by 0.017 times its relevance."),
        (3.0, 10.2, "Disagrees with its effect: it supports, but removing it raises the output."),
        (-3.0, 9.0, "Disagrees with its effect: it opposes, but removing it lowers the output."),
        (3.0, -2.0, "Far from its effect: removing it changes the output by 4 times its relevance."),
        (0.2, 9.99, ""),  # too small to matter
        (0.2, 10.09, ""),
    ],
)
def test_cards_say_where_relevance_and_effect_disagree(relevance: float, after: float, says: str) -> None:
    _, part = measured(relevance, after)
    assert plain(effect_wording.disagreement(part)) == says


def entry(target: ClassScore | StartScore, *falls: float) -> Entry:
    effects = {("conv", 3): falls} if falls else {}
    return Entry("a", "a", (), target, {}, effects=effects)


def test_a_concept_page_says_what_the_predictions_of_the_site_lose() -> None:
    owl, elk = ClassScore(0, "owl", 9.0, 0.9), ClassScore(1, "elk", 9.0, 0.9)
    say = effect_wording.mean_effect
    assert say([entry(owl, 1.0), entry(owl)], ("conv", 4)) == ""
    assert say([entry(owl, 3.0, 1.0), entry(owl)], ("conv", 3)) == (
        "Without it, the logit of owl falls by 3 (set to zero) or falls by 1 (set to its mean) in the one prediction "
        "on this site that has a card for it."
    )
    assert say([entry(owl, 3.0, -1.0), entry(elk, 1.0, -2.0)], ("conv", 3)) == (
        "Without it, the logit of the explained class falls by 2 ± 1 (set to zero) or rises by 1.5 ± 0.5 (set to its "
        "mean): mean and standard deviation over the 2 predictions on this site that have a card for it."
    )
    # equal in the digits that are shown
    assert say([entry(owl, 3.0, 3.001)], ("conv", 3)) == (
        "Without it (set to zero or to its mean), the logit of owl falls by 3 in the one prediction on this site that "
        "has a card for it."
    )
    started = entry(StartScore("owl - elk", 1.0), -0.5)
    said = say([started, entry(owl, 0.5, 1.0)], ("conv", 3))
    assert said.startswith("Without it, what is explained falls by 0 ± 0.5 (set to zero): mean")


def test_the_page_shows_both(tmp_path) -> None:
    explanation, part = measured(0.5, 10.2)
    layer = explanation.layers[0]
    part = dataclasses.replace(part, relevance=layer.supporting[0].relevance)
    layer = dataclasses.replace(layer, supporting=(part, *layer.supporting[1:]))
    page = Atlas(dataclasses.replace(explanation, layers=(layer, *explanation.layers[1:])))._repr_html_()
    assert "without it: 90" in page


def test_pages_name_concepts_that_relevance_overlooks() -> None:
    explanation = examples.explanation()
    first, *others = explanation.layers
    shown = {part.concept for part in first.ranked}
    hidden = next(concept for concept in range(first.size) if concept not in shown)
    first = dataclasses.replace(first, overlooked={hidden: ConceptEffect(5.78, -2.08)})
    said = plain(effect_wording.overlooked(first))
    assert said.startswith(
        "Relevance overlooks a concept whose removal changes the output more than that of any concept shown here "
        f"(without concept {hidden}: 5.78 → −2.08)."
    )
    assert effect_wording.overlooked(others[0]) == ""
    page = render(dataclasses.replace(explanation, layers=(first, *others)))
    assert page.count("Relevance overlooks a concept") == 1
    assert "Relevance overlooks" not in render(explanation)
    with pytest.raises(InputError, match=f"shows concept {min(shown)}, and lists it as overlooked"):
        dataclasses.replace(first, overlooked={min(shown): ConceptEffect(5.78, -2.08)})
