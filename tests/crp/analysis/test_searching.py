import pytest

from crp.analysis import search
from crp.errors import InputError

from .conftest import vectors_of

SHARES = [[0.5, 0.5], [0.25, -0.75], [0.5, 0.25], [0.75, 0.0], [0.0, 1.0]]
VECTORS = vectors_of(
    SHARES,
    activation=[[1, 9], [2, 8], [3, 7], [4, 6], [5, 5]],
    target=[0, 1, 0, 1, 0],
    prediction=[0, 0, 1, 1, 1],
    label=[2, 2, 2, 3, 3],
    mined=[True, True, True, True, False],
)


def test_the_strongest_first_and_equal_ones_by_index():
    found = search(VECTORS, 0)
    assert found.sample.tolist() == [3, 0, 2, 1]
    assert found.value.tolist() == [0.75, 0.5, 0.5, 0.25]
    assert (found.target.tolist(), found.prediction.tolist()) == ([1, 0, 0, 1], [1, 0, 1, 0])
    assert found.label.tolist() == [3, 2, 2, 2]
    assert search(VECTORS, 1, by="activation", count=2).sample.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"target": 1}, [3, 1]),
        ({"prediction": 0}, [0, 1]),
        ({"label": 2, "target": 0}, [0, 2]),
        ({"label": 3, "prediction": 0}, []),
    ],
)
def test_filters(chosen, expected):
    assert search(VECTORS, 0, **chosen).sample.tolist() == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concept": 2}, "There is no concept 2: the layer has the concepts 0 to 1."),
        ({"concept": 0, "count": 0}, "count is 0; it must be a whole number of at least 1."),
        ({"concept": 0, "by": "activations"}, "There are no vectors of 'activations': did you mean 'activation'?"),
    ],
)
def test_what_is_not_there(options, message):
    with pytest.raises(InputError) as caught:
        search(VECTORS, **options)
    assert str(caught.value) == message
