"""What relevance starts as, by hand; and that explaining, mining and conditional attribution start the same."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from crp.attribution import ConditionalAttribution, RelevanceFlow
from crp.attribution.starts import (
    AtClasses,
    Difference,
    Distance,
    Given,
    Logit,
    Logits,
    LogOdds,
    Start,
    Sum,
    starts_at_classes,
)
from crp.errors import InputError
from crp.mining import AttributionTarget
from crp.mining.targets import attribution_targets

OUTPUT = torch.tensor([[2.0, -3.0, 0.5], [4.0, 5.0, -6.0]])
NAMES = ["ant", "bee", "cat"]

STARTS = {
    "logit": (Logit(1), [[0, -3, 0], [0, 5, 0]], "bee"),
    "logits": (Logits([2, 0]), [[0, 0, 0.5], [4, 0, 0]], "the explained class of each sample"),
    "difference": (Difference(Logit(0), Logit(2)), [[2, 0, -0.5], [4, 0, 6]], "ant \N{MINUS SIGN} cat"),
    "sum": (Sum([Logit(0), Logit(2)]), [[2, 0, 0.5], [4, 0, -6]], "ant + cat"),
    "difference of a sum": (Difference(Logit(1), Sum([Logit(0), Logit(2)])), [[-2, -3, -0.5], [-4, 5, 6]],
                            "bee \N{MINUS SIGN} (ant + cat)"),
    "another start": (Given(Logit(1)), [[0, -3, 0], [0, 5, 0]], "bee"),
    "output": (Given(), [[2, -3, 0.5], [4, 5, -6]], "the whole output"),
    "number": (Given(1.5), [[1.5] * 3] * 2, "relevance given by the caller"),
    "tensor": (Given(torch.tensor([[1.0, 2, 3]])), [[1, 2, 3]] * 2, "relevance given by the caller"),
    "function": (Given(lambda output: output.abs()), [[2, 3, 0.5], [4, 5, 6]], "relevance given by the caller"),
    "classes": (AtClasses(Given(), [[2, 0], None]), [[2, 0, 0.5], [4, 5, -6]], "the whole output, at some classes"),
    "mask": (AtClasses(Logit(0), [np.array([True, False, False]), [1]]), [[2, 0, 0], [0] * 3], "ant, at some classes"),
}  # fmt: skip


@pytest.mark.parametrize("kind", STARTS)
def test_relevance_and_name_by_hand(kind):
    start, expected, name = STARTS[kind]
    assert isinstance(start, Start)
    assert start.relevance(OUTPUT).tolist() == expected
    assert start.name(NAMES) == name


def test_names_of_classes_without_names():
    assert Difference(Logit(0), Logit(2)).name([]) == "class 0 \N{MINUS SIGN} class 2"


def test_a_class_against_all_others_by_hand():
    # q over the others of 'bee': e^2 / (e^2 + e^0.5) for 'ant', e^0.5 / (e^2 + e^0.5) for 'cat'
    ant, cat = np.exp(2) / (np.exp(2) + np.exp(0.5)), np.exp(0.5) / (np.exp(2) + np.exp(0.5))
    found = LogOdds(1).relevance(OUTPUT[:1].double())
    np.testing.assert_allclose(found, [[-2 * ant, -3, -0.5 * cat]], rtol=1e-14)
    assert LogOdds(1).name(NAMES) == "bee against all others"
    assert LogOdds([1, 0]).name(NAMES) == "the class of each sample against all others"
    torch.testing.assert_close(LogOdds([1, 0]).relevance(OUTPUT)[1], LogOdds(0).relevance(OUTPUT)[1])


@given(
    logits=arrays(np.float64, (3, 4), elements=st.floats(-20, 20)),
    target=st.integers(0, 3),
    shift=st.floats(-10, 10),
)
def test_log_odds_add_up_to_the_log_odds_and_the_entropy_of_the_others(logits, target, shift):
    logits = torch.from_numpy(logits)
    started = LogOdds(target).relevance(logits).sum(1)
    others = torch.cat([logits[:, :target], logits[:, target + 1 :]], 1)
    weights = others.softmax(1)
    entropy = -(weights * others.log_softmax(1)).sum(1)
    log_odds = logits[:, target] - others.logsumexp(1)
    torch.testing.assert_close(started, log_odds + entropy, rtol=0, atol=1e-12)
    torch.testing.assert_close(LogOdds(target).relevance(logits + shift).sum(1), started, rtol=0, atol=1e-12)
    two = LogOdds(0).relevance(logits[:, :2]).sum(1)
    probability = logits[:, :2].softmax(1)
    torch.testing.assert_close(two, (probability[:, 0].log() - probability[:, 1].log()), rtol=0, atol=1e-12)


def test_which_starts_are_made_of_the_logits_of_classes():
    classes = [Logit(0), Logits([0]), LogOdds(1), Sum([Logit(0), LogOdds(1)]), Difference(Logit(0), Sum([Logit(1)]))]
    others = [Given(), Distance(1.0), Difference(Logit(0), Given()), Sum([Logit(0), Distance(1)])]
    assert [starts_at_classes(start) for start in classes] == [True] * 5
    assert [starts_at_classes(start) for start in others] == [False] * 4


WRONG = {
    "one class": (LogOdds(0), torch.ones(1, 1), "A class against all others needs at least 2 classes; this model has "
                  "one output."),
    "class among others": (LogOdds(3), OUTPUT, "There is no class 3: the model's output has the classes 0 to 2."),
    "class": (Logit(3), OUTPUT, "There is no class 3: the model's output has the classes 0 to 2."),
    "negative class": (Logits([0, -1]), OUTPUT, "There is no class -1: the model's output has the classes 0 to 2."),
    "number of classes": (Logits([0, 1, 0]), OUTPUT, "2 samples need one class each, given 3: [0, 1, 0]."),
    "map": (Logit(0), torch.ones(1, 2, 4, 4), "Targets name classes of an output [N, classes]; this model's output is "
            "[1, 2, 4, 4]."),
    "shape": (Given(torch.ones(7)), OUTPUT, "init_rel has the shape [7]; the relevance that starts has the shape "
              "[2, 3], one row for each result."),
    "lists": (AtClasses(Given(), [[0]]), OUTPUT, "2 samples need as many lists of classes, given 1."),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_does_not_fit_the_output_is_refused(kind):
    start, output, sentence = WRONG[kind]
    with pytest.raises(InputError) as caught:
        start.relevance(output)
    assert str(caught.value) == sentence


def test_every_way_to_start_gives_the_same_relevance():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    data = torch.randn(2, 4, dtype=torch.float64)
    start = Difference(Logit(0), Logit(2))
    weight, output = model[2].weight.detach(), model(data).detach()
    # plain gradient: the start times the weights of the last layer
    by_hand = torch.stack([output[:, 0], torch.zeros_like(output[:, 1]), -output[:, 2]], 1) @ weight
    with RelevanceFlow(model, None, data, ["1"]) as flow:
        torch.testing.assert_close(flow.down(flow.output_relevance(start), to="1")[0], by_hand)
    for init_rel in (start, start.relevance):
        found = ConditionalAttribution(model)(data, [{}], None, ["1"], init_rel=init_rel)
        torch.testing.assert_close(found.relevances["1"], by_hand)
    (target,) = attribution_targets(lambda p, y: AttributionTarget([7, 7], start), output, None, torch.arange(2), 8)
    torch.testing.assert_close(target.relevance @ weight, by_hand)


def test_a_sum_of_nothing_is_refused():
    with pytest.raises(InputError, match=r"^A sum of starts needs at least one\.$"):
        Sum([])
