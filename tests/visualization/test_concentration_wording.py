"""The first sentence about a layer, and which of its cards are open."""

import dataclasses
import math

import numpy as np
import pytest

from crp.explanations import ConceptPart, LayerExplanation
from crp.visualization import concentration_wording as words


def layer(relevance, shown, **options):
    """A layer of these relevances that shows some of its concepts."""
    relevance = np.asarray(relevance, dtype=np.float64)
    shares = relevance / np.abs(relevance).sum()
    parts = [ConceptPart("conv", i, relevance[i], shares[i], np.zeros((2, 2))) for i in shown]
    given = dict(
        layer="conv",
        size=len(relevance),
        supporting=sorted((part for part in parts if part.share > 0), key=lambda part: -part.share),
        opposing=sorted((part for part in parts if part.share < 0), key=lambda part: part.share),
        rest=1 - np.abs(shares[list(shown)]).sum(),
        coverage=0.97,
        relevance=relevance,
    )
    return LayerExplanation(**given | options)


def said(value):
    return words.concentration(value).replace("\N{NO-BREAK SPACE}", " ")


# 100 concepts of equal relevance but for one, which has three times as much: 102 in all.
EVEN = [3.0] + [1.0] * 99


def test_spread_relevance_is_said_to_be_spread():
    # 3 + 48 = 51 of 102: half is reached with the 49th concept
    assert said(layer(EVEN, range(12))) == (
        "Spread over many concepts: the strongest 49 of 100 concepts hold half of the layer’s absolute relevance; "
        "the 12 with cards (12 for) hold 13.7 %, the strongest of them 2.9 %."  # 14 / 102 and 3 / 102
    )


@pytest.mark.parametrize(("count", "spread"), [(20, False), (22, True)])
def test_ten_concepts_are_not_many(count, spread):
    assert said(layer([1.0] * count, [0])).startswith("Spread over many concepts: ") == spread


def test_concentrated_relevance():
    # of 10: 4 + 3 are more than half; relevance against counts as much as relevance for
    assert said(layer([4, -3, 1, 1, 1], [0, 1])) == (
        "The strongest 2 of 5 concepts hold half of the layer’s absolute relevance; the 2 with cards (1 "
        "for, 1 against) hold 70.0 %, the strongest of them 40.0 %."
    )
    assert said(layer([-6, 2, 2], [0])) == (
        "One concept alone holds more than half of the layer’s absolute relevance; the one with a card holds 60.0 %."
    )


def test_without_the_relevance_of_all_concepts_nothing_is_said_about_the_others():
    assert said(dataclasses.replace(layer(EVEN, range(12)), relevance=None)) == (
        "Of the layer’s absolute relevance, the 12 with cards (12 for) hold 13.7 %, the strongest of them 2.9 %."
    )


@pytest.mark.parametrize(
    "lost",
    [dict(first_order=True, coverage=math.nan), dict(coverage=-2.09), dict(coverage=1.2), dict(coverage=math.nan)],
)
def test_no_share_is_claimed_of_relevance_that_does_not_add_up(lost):
    assert said(layer(EVEN, range(12), **lost)) == (
        "12 of 100 concepts are shown, those with most relevance for and against. How much of the output they explain "
        "is not known, because relevance here does not add up to it."
    )
    assert said(layer(EVEN, [0], **lost)).startswith("1 of 100 concepts is shown, ")
    assert said(layer(EVEN, range(100), **lost)).startswith("All 100 concepts are shown. How much of the output they ")


def test_a_layer_that_shows_nothing_says_nothing():
    silent = LayerExplanation("conv", 4, (), (), rest=0.0, coverage=0.0, relevance=np.zeros(4))
    assert words.concentration(silent) == ""
    assert words.open_cards(silent) == 0
    assert words.folded(silent) == ""


def brute_force(shares):
    """The rule once more, card by card."""
    held = 0.0
    for place, share in enumerate(shares):
        if place >= 3 and (held >= 0.5 or share < shares[0] / 4):
            return place
        held += share
    return len(shares)


@pytest.mark.parametrize("seed", range(20))
def test_cards_are_open_until_they_hold_half_or_matter_little(seed):
    random = np.random.default_rng(seed)
    relevance = random.gamma(random.choice([0.1, 1.0, 5.0]), size=30) * random.choice([1, -1], size=30)
    order = np.argsort(-np.abs(relevance))[:12]
    value = layer(relevance, order)
    assert words.open_cards(value) == brute_force([abs(part.share) for part in value.ranked])


def test_examples_of_open_cards():
    assert words.open_cards(layer([40, 12, 12, 12, 12, 12], range(5))) == 3  # the first two hold 52 %: a few are open
    assert words.open_cards(layer([20, 10, 10, 8, 5, 3, 3, 41], range(7))) == 5  # 53 %
    assert words.open_cards(layer([20, 10, 6, 5, 4.9, 4.9] + [1] * 50, range(6))) == 4  # below a quarter of 20
    assert words.open_cards(layer(EVEN, range(12))) == 12
    assert words.open_cards(layer([1, 1], [0, 1])) == 2


def test_what_is_folded_is_counted_by_side():
    value = layer([20, 10, 6, 5, 4, -4, -3] + [1] * 50, range(7))
    assert words.folded(value) == "3 more concepts with smaller shares: 1 for, 2 against"
    assert words.folded(dataclasses.replace(value, opposing=(), rest=value.rest + 7 / 102)) == (
        "1 more concept with smaller shares: 1 for"
    )
    assert words.folded(layer(EVEN, range(12))) == ""
