import numpy as np
import pytest
import torch

from crp.concepts import ChannelConcept, Layout, parts_of
from crp.errors import InputError
from crp.mining.scores import Score


def located(values, concept=None):
    """Values of every concept of a layer with the channels first."""
    return parts_of(concept or ChannelConcept(), values, Layout(values.shape[1:])).activation()


# one sample, three channels, two positions
VALUES = torch.tensor([[[3.0, 1.0], [-2.0, -4.0], [0.0, 0.0]]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sum", [4.0, -6.0, 0.0]),
        ("max", [3.0, -2.0, 0.0]),
        ("sum/divided", [0.4, -0.6, 0.0]),
        ("max/divided", [0.6, -0.4, 0.0]),
    ],
)
def test_scores_by_hand(name, expected):
    scores, positions = Score(name)(located(VALUES))
    np.testing.assert_allclose(scores[0], expected, rtol=1e-10)
    assert positions.tolist() == [[0, 0, 0]]


def test_position_is_that_of_the_largest_signed_value():
    _, positions = Score("sum")(located(torch.tensor([[[1.0, -9.0, 2.0], [-3.0, -1.0, -2.0]]])))
    assert positions.tolist() == [[2, 1]]


def test_linear_layers_have_one_position():
    scores, positions = Score("sum/divided")(located(torch.tensor([[1.0, -3.0]], dtype=torch.float64)))
    np.testing.assert_allclose(scores, [[0.25, -0.75]], rtol=1e-9)
    assert positions.tolist() == [[0, 0]]


def test_unknown_score():
    with pytest.raises(InputError) as caught:
        Score("summ")
    assert str(caught.value) == "There is no score 'summ': did you mean 'sum'?"


class OnlyPeak:
    """A kind of concept without `trough`, as in old code."""

    def size(self, shape):
        return shape[0]

    def peak(self, values):
        return ChannelConcept().peak(values)

    def total(self, values):
        return ChannelConcept().total(values)


@pytest.mark.parametrize("concept", [ChannelConcept(), OnlyPeak()], ids=["trough", "without"])
@pytest.mark.parametrize("name", ["sum", "max", "sum/divided", "max/divided"])
def test_negated_scores_are_those_of_the_negated_values(name, concept):
    values = torch.tensor([[[3.0, 1.0], [-2.0, -4.0], [0.0, -1.0]]], dtype=torch.float64)
    expected, places = Score(name)(located(-values))
    scores, positions = Score(name)(located(values, concept), negated=True)
    np.testing.assert_array_equal(scores, expected)
    assert positions.tolist() == places.tolist() == [[1, 1, 1]]


def test_bfloat16_is_counted_in_float32():
    # 1 + 1/256 is not a bfloat16; the sum of its two parts must not be rounded
    values = torch.tensor([1.0, 1 / 256]).to(torch.bfloat16).view(1, 1, 1, 2)
    scores, places = Score("sum")(located(values))
    assert scores.dtype == torch.float32
    assert scores.item() == 1 + 1 / 256
    assert places.item() == 0
    linear, _ = Score("max")(located(values.flatten(1)))
    assert linear.tolist() == [[1.0, 1 / 256]]
