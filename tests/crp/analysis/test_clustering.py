import numpy as np
import pytest

from crp.analysis import strategies, suspects
from crp.errors import InputError

from .conftest import vectors_of

pytest.importorskip("sklearn", reason="scikit-learn, an optional extra, is not installed")


def groups(*sizes: int, apart: float = 1.0) -> np.ndarray:
    """Clouds of points far from each other, one for each size."""
    noise = np.random.default_rng(1).normal(scale=0.05, size=(sum(sizes), len(sizes)))
    return noise + np.repeat(apart * np.eye(len(sizes)), sizes, axis=0)


@pytest.mark.parametrize("sizes", [(30, 20), (40, 30, 25), (25, 24, 23, 22)])
def test_clouds_and_their_number_are_found(sizes):
    found = strategies(groups(*sizes), neighbours=5)
    # the largest is 0, and so on
    assert found.cluster.tolist() == np.repeat(np.arange(len(sizes)), sizes).tolist()
    assert found.embedding.shape == (sum(sizes), 10)
    np.testing.assert_allclose(found.eigenvalues[: len(sizes)], 0, atol=1e-12)
    assert found.eigenvalues[len(sizes)] > 0.01


def test_order_of_samples_and_a_shift_change_nothing():
    vectors = groups(20, 30)
    order = np.random.default_rng(2).permutation(50)
    found = strategies(vectors)
    assert strategies(vectors[order] + 7).cluster.tolist() == found.cluster[order].tolist()
    # heatmaps are samples with more axes
    assert strategies(vectors.reshape(50, 1, 2)).cluster.tolist() == found.cluster.tolist()


def test_eigenvalues_by_hand():
    # Two pairs far apart, one neighbour each: a graph of two edges, whose Laplacian has 0, 0, 2, 2
    found = strategies(np.array([[0.0], [1.0], [10.0], [11.0]]), neighbours=1)
    np.testing.assert_allclose(found.eigenvalues, [0, 0, 2, 2], atol=1e-12)
    assert sorted([found.cluster[:2].tolist(), found.cluster[2:].tolist()]) == [[0, 0], [1, 1]]


def test_too_few_samples_are_refused():
    with pytest.raises(InputError, match=r"^2 samples: at least 2 clusters and 3 samples are needed\.$"):
        strategies(np.zeros((2, 3)))
    with pytest.raises(InputError, match=r"^5 samples in 6 clusters: at least 2 clusters and 6 samples are needed\.$"):
        strategies(np.zeros((5, 3)), clusters=6)


def test_the_class_whose_part_leans_on_one_concept_comes_first():
    noise = np.random.default_rng(3).normal(scale=0.01, size=(80, 3))
    shares = noise + np.array([0.4, 0.3, 0.3])
    # class 1: 25 of 40 samples give concept 2 nearly all
    hans = np.arange(40, 65)
    shares[hans] = noise[hans] + np.array([0.05, 0.05, 0.9])
    vectors = vectors_of(shares, target=np.repeat([0, 1], 40))
    found = suspects(vectors)
    first = found[0]
    assert (first.target, first.concept, first.others) == (1, 2, 15)
    assert first.samples.tolist() == hans.tolist()
    assert first.share == pytest.approx(shares[hans, 2].mean(), abs=1e-3)
    assert first.share_of_others == pytest.approx(shares[65:, 2].mean(), abs=1e-3)
    assert first.score == first.share - first.share_of_others
    assert all(suspect.score < 0.1 for suspect in found if suspect.target == 0)
    assert [suspect.score for suspect in found] == sorted((suspect.score for suspect in found), reverse=True)
    assert {suspect.target for suspect in suspects(vectors, targets=[0])} == {0}
