import numpy as np
import pytest

from crp.analysis import redundant, similarity
from crp.errors import InputError
from crp.library import vectors as stored

from .conftest import vectors_of


def test_cosine_by_hand(monkeypatch):
    monkeypatch.setattr(stored, "_CHUNK", 2)  # sums go over several pieces
    found = similarity(vectors_of([[1, 2, 0, 0], [0, 0, 3, 0], [1, 2, 3, 0]]))
    half = 1 / 2
    np.testing.assert_allclose(found, [[1, 1, half, 0], [1, 1, half, 0], [half, half, 1, 0], [0, 0, 0, 0]])


def test_a_chain_of_neighbours_is_no_group():
    # 0-1 and 1-2 are alike, 0-2 are not; 3-4 most of all; 5 is like nobody
    table = np.eye(6)
    for one, other, value in [(0, 1, 0.95), (1, 2, 0.92), (0, 2, 0.5), (3, 4, 0.99)]:
        table[one, other] = table[other, one] = value
    assert redundant(table) == [(0, 1), (3, 4)]
    assert redundant(table, threshold=0.5) == [(0, 1, 2), (3, 4)]
    assert redundant(table, threshold=0.999) == []


def test_a_threshold_out_of_range_is_refused():
    with pytest.raises(InputError, match=r"^threshold is 0; it must be above 0 and at most 1\.$"):
        redundant(np.eye(2), threshold=0)
