import sys

import numpy as np
import pytest

from crp.analysis import prototypes, strategies
from crp.errors import InputError


def clouds() -> np.ndarray:
    """30 vectors around (0.8, 0.1, 0), then 10 around (0, 0.1, 0.8)."""
    noise = np.random.default_rng(0).normal(scale=0.02, size=(40, 3))
    return noise + np.repeat([[0.8, 0.1, 0.0], [0.0, 0.1, 0.8]], [30, 10], axis=0)


def test_prototypes_are_the_means_of_what_is_apart():
    pytest.importorskip("sklearn", reason="scikit-learn, an optional extra, is not installed")
    vectors = clouds()
    found = prototypes(vectors, 2)
    np.testing.assert_allclose(found.weight, [0.75, 0.25], atol=1e-6)
    np.testing.assert_allclose(found.mean, [vectors[:30].mean(0), vectors[30:].mean(0)], atol=1e-6)
    centred = vectors[:30] - vectors[:30].mean(0)
    np.testing.assert_allclose(found.covariance[0], centred.T @ centred / 30 + 1e-5 * np.eye(3), atol=1e-6)
    assert found.assigned.tolist() == [0] * 30 + [1] * 10
    distances = [np.linalg.norm(vectors - mean, axis=1).argmin() for mean in found.mean]
    assert found.typical.tolist() == distances


def test_densities_are_those_of_the_fitted_mixture():
    mixture = pytest.importorskip("sklearn.mixture", reason="scikit-learn, an optional extra, is not installed")
    vectors = clouds()
    found = prototypes(vectors, 2, seed=3)
    fitted = mixture.GaussianMixture(2, reg_covar=1e-5, random_state=3).fit(vectors)
    np.testing.assert_allclose(found.likelihoods, np.sort(fitted.score_samples(vectors)), rtol=1e-9)
    new = np.array([0.7, 0.2, 0.1])
    assert found.deviation(new).likelihood == pytest.approx(fitted.score_samples(new[None])[0])


def test_a_new_vector_beside_its_prototype():
    pytest.importorskip("sklearn", reason="scikit-learn, an optional extra, is not installed")
    vectors = clouds()
    found = prototypes(vectors, 2)
    usual, odd = found.deviation(found.mean[1]), found.deviation([0.0, 0.9, 0.8])
    assert (usual.prototype, odd.prototype) == (1, 1)
    assert usual.rarity < 0.5
    assert odd.rarity == 1
    np.testing.assert_allclose(odd.difference, [0, 0.9, 0.8] - found.mean[1])
    between = found.deviation(found.mean[0] + 0.02)
    assert between.rarity == (found.likelihoods > between.likelihood).mean()
    assert 0 < between.rarity < 1


def test_what_does_not_fit_is_refused():
    pytest.importorskip("sklearn", reason="scikit-learn, an optional extra, is not installed")
    with pytest.raises(InputError, match=r"^5 prototypes of 4 samples: between 1 and 4 are possible\.$"):
        prototypes(np.zeros((4, 2)), 5)
    with pytest.raises(InputError, match=r"^The vector has shape \[2\], the prototypes \[3\]\.$"):
        prototypes(clouds(), 1).deviation(np.zeros(2))


@pytest.mark.parametrize(
    ("call", "what"), [(prototypes, "Finding prototypes"), (strategies, "Clustering strategies")]
)
def test_a_missing_extra_is_told(monkeypatch, call, what):
    for module in ("sklearn.mixture", "sklearn.cluster"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError) as caught:
        call(np.zeros((8, 2)))
    assert str(caught.value) == (
        f"{what} needs scikit-learn: pip install crp-atlas[analysis] (or scikit-learn itself)."
    )
