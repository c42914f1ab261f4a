"""Starts at a mask, a token and a box, and at embeddings and values, by hand; what does not fit is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from crp.attribution import RelevanceFlow, composite_for
from crp.attribution.starts import (
    AtClasses,
    Box,
    ClassInMask,
    Difference,
    Distance,
    Given,
    Similarity,
    Start,
    Sum,
    Token,
    held,
    starts_at_classes,
)
from crp.concepts import ChannelConcept
from crp.errors import InputError

# [N=2, classes=2, H=2, W=2]
MAP = torch.tensor([[[[1.0, -2], [3, 4]], [[0, 5], [6, -7]]], [[[1, 1], [1, 1]], [[2, 0], [0, 2]]]])
TOKENS = torch.arange(12.0).view(2, 3, 2) - 5
EMBEDDINGS = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
MASK = [[False, True], [True, False]]
NAMES = ["sky", "road"]
ZERO = [[0, 0], [0, 0]]

STARTS = {
    "mask": (ClassInMask(1, MASK), MAP, [[ZERO, [[0, 5], [6, 0]]], [ZERO, ZERO]], "road inside the mask"),
    "mask of numbers": (ClassInMask(0, np.array(MASK, dtype=np.uint8), "the crossing"), MAP,
                        [[[[0, -2], [3, 0]], ZERO], [[[0, 1], [1, 0]], ZERO]], "sky inside the crossing"),
    "a mask for each sample": (ClassInMask(1, torch.tensor([MASK, [[True, False], [False, False]]])), MAP,
                               [[ZERO, [[0, 5], [6, 0]]], [ZERO, [[2, 0], [0, 0]]]], "road inside the mask"),
    "where predicted": (ClassInMask(1), MAP, [[ZERO, [[0, 5], [6, 0]]], [ZERO, [[2, 0], [0, 2]]]],
                        "road where it is predicted"),
    "token": (Token(1, 0), TOKENS, [[[0, 0], [-3, 0], [0, 0]], [[0, 0], [3, 0], [0, 0]]], "sky at token 1"),
    "last token": (Token(-1, 1), TOKENS, [[[0, 0], [0, 0], [0, 0]], [[0, 0], [0, 0], [0, 6]]], "road at token -1"),
    "box": (Box(2, 1, "box 0"), TOKENS, [[[0, 0], [0, 0], [0, 0]], [[0, 0], [0, 0], [0, 6]]], "road in box 0"),
    "dot": (Similarity(torch.tensor([2.0, -1.0]), "photo 3.jpg", cosine=False), EMBEDDINGS, [[6, -4], [2, 0]],
            "dot product with photo 3.jpg"),
    "a reference for each sample": (Similarity(torch.tensor([[1.0, 1], [0, 1]]), cosine=False), EMBEDDINGS,
                                    [[3, 4], [0, 0]], "dot product with the reference"),
    "distance": (Distance(3.5), EMBEDDINGS, [[-0.5, 0], [-2.5, 0]], "sky \N{MINUS SIGN} 3.5"),
    "distance of another output": (Distance(1, 1), EMBEDDINGS, [[0, 3], [0, -1]], "road \N{MINUS SIGN} 1"),
}  # fmt: skip


@pytest.mark.parametrize("kind", STARTS)
def test_relevance_and_name_by_hand(kind):
    start, output, expected, name = STARTS[kind]
    assert isinstance(start, Start)
    assert start.relevance(output).tolist() == expected
    assert start.name(NAMES) == name
    assert not starts_at_classes(start)


def test_a_cosine_similarity_by_hand():
    # |(3, 4)| = 5, |(0, 2)| = 2; the second embedding has length 1
    start = Similarity(torch.tensor([0.0, 2.0]), "photo 3.jpg")
    assert start.relevance(EMBEDDINGS.double()).tolist() == [[0, 0.8], [0, 0]]
    assert start.name(NAMES) == "similarity to photo 3.jpg"


def test_a_cosine_similarity_adds_up_to_the_cosine():
    generator = torch.Generator().manual_seed(0)
    embeddings, reference = (torch.randn(*shape, generator=generator).double() for shape in ((5, 16), (16,)))
    cosine = torch.cosine_similarity(embeddings, reference[None])
    torch.testing.assert_close(Similarity(reference).relevance(embeddings).sum(1), cosine, rtol=0, atol=1e-14)


WRONG = {
    "mask at classes": (ClassInMask(0, MASK), EMBEDDINGS, "A mask needs an output [N, classes, *S], as of a "
                        "segmentation; this model's output is [2, 2]."),
    "size of the mask": (ClassInMask(0, torch.ones(4, 4)), MAP, "The mask has the size [4, 4], and the model's output "
                         "has [2, 2]: a mask has the size of the output, after preprocessing."),
    "number of masks": (ClassInMask(0, torch.ones(3, 2, 2)), MAP, "The mask has the size [3, 2, 2], and the model's "
                        "output has [2, 2]: a mask has the size of the output, after preprocessing."),
    "values of the mask": (ClassInMask(0, [[0.5, 1], [0, 0]]), MAP, "A mask holds booleans, or 0 and 1; this one has "
                           "other values, of dtype float64."),
    "empty mask": (ClassInMask(0, torch.zeros(2, 2)), MAP, "The mask is empty: no relevance would start."),
    "empty mask without a name": (ClassInMask(0, torch.zeros(2, 2), ""), MAP, "The mask is empty: no relevance would "
                                  "start."),
    "class of the mask": (ClassInMask(2, MASK), MAP, "There is no class 2: the model's output has the classes 0 to 1."),
    "token": (Token(3, 0), TOKENS, "There is no position 3: the model's output has the positions 0 to 2."),
    "class of a token": (Token(0, 2), TOKENS, "There is no class 2: the model's output has the classes 0 to 1."),
    "token of a map": (Token(0, 0), MAP, "A token needs an output [N, tokens, outputs]; this model's output is "
                       "[2, 2, 2, 2]."),
    "box of classes": (Box(0, 0), EMBEDDINGS, "A box needs an output [N, proposals, classes]; this model's output is "
                       "[2, 2]."),
    "length of the reference": (Similarity(torch.ones(3)), EMBEDDINGS, "The reference has the shape [3], and the "
                                "model's output [2, 2]: both are embeddings of the same length."),
    "number of references": (Similarity(torch.ones(3, 2)), EMBEDDINGS, "The reference has the shape [3, 2], and the "
                             "model's output [2, 2]: both are embeddings of the same length."),
    "similarity of maps": (Similarity(torch.ones(2)), MAP, "A similarity needs an output [N, D]; this model's output "
                           "is [2, 2, 2, 2]."),
    "NaN": (Similarity(torch.tensor([1.0, torch.nan])), EMBEDDINGS, "The reference holds NaN or infinite values."),
    "zero reference": (Similarity(torch.zeros(2)), EMBEDDINGS, "A cosine similarity needs embeddings that are "
                       "not zero, and the reference is zero."),
    "zero embedding": (Similarity(torch.ones(2)), torch.zeros(1, 2), "A cosine similarity needs embeddings that are "
                       "not zero, and the model's output is zero."),
    "output": (Distance(1, 2), EMBEDDINGS, "There is no class 2: the model's output has the classes 0 to 1."),
    "distance of maps": (Distance(1), MAP, "A distance from a value needs an output [N, outputs]; this model's output "
                         "is [2, 2, 2, 2]."),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_does_not_fit_the_output_is_refused(kind):
    start, output, sentence = WRONG[kind]
    with pytest.raises(InputError) as caught:
        start.relevance(output)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("value", [True, "3", float("nan"), float("inf")])
def test_a_reference_value_is_a_finite_number(value):
    with pytest.raises(InputError, match=r"^A reference value is a "):
        Distance(value)


WHERE_PREDICTED = {
    "alone": lambda start: start,
    "in a difference": lambda start: Difference(start, ClassInMask(0)),
    "in a sum": lambda start: Sum([start, ClassInMask(0)]),
    "in a start of some classes": lambda start: AtClasses(Given(start), [[1]]),
}


@pytest.mark.parametrize("made", WHERE_PREDICTED.values(), ids=WHERE_PREDICTED)
def test_what_is_removed_is_measured_where_the_class_was_predicted(made):
    """Also where the class is predicted nowhere without the concept, in whatever the start is a part of."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 1, bias=False)).double()
    with torch.no_grad():
        model[2].weight.copy_(torch.tensor([[1.0, -1.0, 0.5], [-1.0, 1.0, 0.7]])[..., None, None])
    data = torch.randn(1, 1, 6, 6, dtype=torch.float64)
    start, composite = made(ClassInMask(1)), composite_for(model, data).composite
    with RelevanceFlow(model, composite, data, ["1"]) as flow:
        places = flow.prediction.argmax(1) == 1
        by_hand, moved = [], False
        for removed in range(3):
            values = flow.activation("1").clone()
            values[:, removed] = 0
            whole, without = flow.prediction, model[2](values).detach()
            moved |= not torch.equal(without.argmax(1) == 1, places)
            fall = ((whole - without)[:, 1] * places).sum()
            other = ((whole - without)[:, 0] * ~places).sum()
            by_hand.append(fall + {Difference: -other, Sum: other}.get(type(start), 0))
        assert moved
        effects = flow.removal("1", ChannelConcept()).effects(range(3), start)
    torch.testing.assert_close(effects, torch.stack(by_hand)[None])


def test_a_class_that_is_predicted_nowhere_stays_nowhere():
    without, later = torch.tensor([[[[2.0]], [[1.0]]]]), torch.tensor([[[[0.0]], [[1.0]]]])
    start = held(Sum([ClassInMask(0), ClassInMask(1)]), without)
    assert start.relevance(later).flatten().tolist() == [0.0, 0.0]
    assert start.name(["sky", "road"]) == "sky where it is predicted + road where it is predicted"
