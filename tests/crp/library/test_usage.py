"""Rows of the hand-written library: share of class t and concept c is t * C + c, count is the class's number."""

import numpy as np
import pytest

from crp.errors import InputError
from crp.library import open_library


def test_concepts_of_a_class(folder):
    library = open_library(folder)
    first, second = library.concepts_of("newt", "features.3")
    assert library.concepts_of(3, "features.3") == library.concepts_of("3", "features.3") == (first, second)
    assert (first.target, first.target_name, first.concept, first.share) == (3, "newt", 1, 7)
    assert (first.share_variance, first.activation, first.activation_variance) == (7 / 8, 8, 7 / 4)
    assert (first.frequency, first.samples) == (7 / 3, 3)
    assert second.concept == 0
    assert library.concepts_of("newt", "features.3", order="frequency", count=1) == (first,)


def test_classes_of_a_concept(folder):
    found = open_library(folder).classes_of("features.3", 0)
    # cats were never explained
    rows = [(row.target_name, row.share, row.samples) for row in found]
    assert rows == [("newt", 6, 3), ("<owl>", 4, 2), ("dog", 2, 1)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda library: library.concepts_of("dgo", "features.3"), "There is no class 'dgo': did you mean 'dog'?"),
        (lambda library: library.concepts_of(4, "features.3"), "There is no class 4: the library has the classes"),
        (lambda library: library.concepts_of("-1", "features.3"), "There is no class -1: the library has the"),
        (lambda library: library.classes_of("features.3", 2), "There is no concept 2: layer 'features.3' has the"),
        (lambda library: library.classes_of("features.3", 0, order="shares"), "There is no order 'shares': did you"),
        (
            lambda library: library.concepts_of(0, "features.3", count=0),
            "count is 0; it must be a whole number of at least 1.",
        ),
    ],
)  # fmt: skip
def test_what_is_not_there(folder, call, message):
    with pytest.raises(InputError) as caught:
        call(open_library(folder))
    assert str(caught.value).startswith(message)


def test_dead_concepts_of_the_hand_written_library(folder):
    # the best scores by activation are -1, 0 and 1; concept 0 has none by relevance, but all have a negative reference
    dead = open_library(folder).dead_concepts("block/one")
    assert dead.never_active.tolist() == [0, 1]
    assert not np.size(dead.never_relevant)
