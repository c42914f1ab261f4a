import numpy as np
import pytest
import torch

from crp.concepts import ChannelConcept
from crp.errors import InputError
from crp.mining.scores import Score, shares

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
    scores, positions = Score(name)(ChannelConcept(), VALUES)
    np.testing.assert_allclose(scores[0], expected, rtol=1e-10)
    assert positions.tolist() == [[0, 0, 0]]


def test_position_is_that_of_the_largest_signed_value():
    _, positions = Score("sum")(ChannelConcept(), torch.tensor([[[1.0, -9.0, 2.0], [-3.0, -1.0, -2.0]]]))
    assert positions.tolist() == [[2, 1]]


def test_linear_layers_have_one_position():
    scores, positions = Score("sum/divided")(ChannelConcept(), torch.tensor([[1.0, -3.0]], dtype=torch.float64))
    np.testing.assert_allclose(scores, [[0.25, -0.75]], rtol=1e-9)
    assert positions.tolist() == [[0, 0]]


def test_unknown_score():
    with pytest.raises(InputError) as caught:
        Score("summ")
    assert str(caught.value) == "There is no score 'summ': did you mean 'sum'?"


def test_shares_add_up_and_stay_zero_without_relevance():
    found = shares(ChannelConcept(), torch.cat([VALUES, torch.zeros_like(VALUES)]))
    np.testing.assert_allclose(found, [[0.4, -0.6, 0.0], [0.0, 0.0, 0.0]], rtol=1e-15)
