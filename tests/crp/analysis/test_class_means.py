"""How far the shares of a prediction are from the mean of its class."""

from types import SimpleNamespace

import numpy as np
import pytest

from crp.analysis import class_deviation
from crp.errors import InputError
from crp.library.references import ClassStatistics


def library_of(means, count):
    """As much of a library as is asked for: the mean shares and number of samples of each class."""
    means = np.asarray(means, dtype=np.float64)
    zeros = np.zeros_like(means)
    statistics = ClassStatistics(means, zeros, zeros, zeros, zeros.astype(np.int64), np.asarray(count))
    return SimpleNamespace(statistics=lambda layer: statistics)


MEANS = [[0.5, -0.25, 0.25, 0.0], [0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("shares", "target", "expected"),
    [
        ([0.5, -0.25, 0.25, 0.0], 0, 0.0),
        ([0.5, 0.25, 0.25, 0.0], 0, 0.25),  # the sign counts: half of |0.25 + 0.25|
        ([0.0, 0.0, 0.0, -1.0], 1, 1.0),
        ([0.5, 0.5, 0.0, 0.0], 1, 1.0),  # nothing in common
        ([0.25, 0.25, 0.25, -0.25], 0, 0.5),  # (0.25 + 0.5 + 0 + 0.25) / 2
    ],
)
def test_half_of_the_absolute_differences(shares, target, expected):
    assert class_deviation(library_of(MEANS, [5, 9, 9]), "conv", np.array(shares), target) == expected


def test_a_class_of_few_samples_has_no_prototype():
    library = library_of(MEANS, [5, 4, 0])
    assert class_deviation(library, "conv", np.ones(4) / 4, 0) is not None
    assert class_deviation(library, "conv", np.ones(4) / 4, 1) is None
    assert class_deviation(library, "conv", np.ones(4) / 4, 2) is None


def test_refusals():
    library = library_of(MEANS, [5, 9, 9])
    with pytest.raises(InputError, match=r"^'conv' has 4 concepts, given shares of shape \[3\]\.$"):
        class_deviation(library, "conv", np.ones(3), 0)
    with pytest.raises(InputError, match=r"^There is no class 3: the library has 3\.$"):
        class_deviation(library, "conv", np.ones(4), 3)
