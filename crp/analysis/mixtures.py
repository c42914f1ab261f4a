"""Typical concept vectors of a class, and how far a new prediction is from them.

This is PCX (Dreyer et al. 2024, "Understanding the (Extra-)Ordinary: Validating Deep Model Decisions with Prototypical
Concept-based Explanations"): a mixture of Gaussians is fitted to the concept relevance vectors of a class. Its means
are the prototypes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crp.errors import InputError
from crp.extras import optional

# Added to the variance of every concept, as in PCX: with fewer samples than concepts, a covariance is singular.
_LEAST_VARIANCE = 1e-5


@dataclass(frozen=True, eq=False)
class Deviation:
    """A vector compared with its prototype.

    Attributes
    ----------
    prototype
        The prototype under which the vector is most likely.
    difference
        The vector minus the prototype, `[C]`; positive for concepts that count more than usual.
    likelihood
        Logarithm of the vector's density in the mixture.
    rarity
        Fraction of the class's samples that are more likely than this vector, 0 (usual) to 1 (rarer than all of them).
    """

    prototype: int
    difference: np.ndarray
    likelihood: float
    rarity: float


@dataclass(frozen=True, eq=False)
class Prototypes:
    """A mixture of `P` Gaussians over concept vectors.

    Attributes
    ----------
    weight
        Fraction of the samples that each Gaussian stands for, float64 `[P]`, in descending order.
    mean
        The prototypes, `[P, C]`.
    covariance
        `[P, C, C]`.
    assigned
        Prototype of each sample that was fitted, int64 `[n]`.
    typical
        For each prototype the index of the sample nearest to its mean, int64 `[P]`.
    likelihoods
        Logarithm of the density of each sample, `[n]`, sorted.
    """

    weight: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    assigned: np.ndarray
    typical: np.ndarray
    likelihoods: np.ndarray

    def deviation(self, vector: np.ndarray) -> Deviation:
        """Compare a vector `[C]` with its nearest prototype.

        Raises
        ------
        InputError
            If it has another number of concepts.
        """
        vector = np.asarray(vector, dtype=np.float64)
        if vector.shape != self.mean.shape[1:]:
            raise InputError(f"The vector has shape {list(vector.shape)}, the prototypes {list(self.mean.shape[1:])}.")
        (parts,) = _log_parts(vector[None], self.weight, self.mean, self.covariance)
        nearest, likelihood = int(parts.argmax()), float(np.logaddexp.reduce(parts))
        rarer = np.searchsorted(self.likelihoods, likelihood, side="right")
        rarity = 1 - rarer / len(self.likelihoods)
        return Deviation(nearest, vector - self.mean[nearest], likelihood, float(rarity))


def prototypes(vectors: np.ndarray, count: int = 4, *, seed: int = 0) -> Prototypes:
    """Find the prototypes of a class.

    Parameters
    ----------
    vectors
        Concept vectors of its samples, `[n, C]`: `library.vectors(layer).relevance[rows]`.
    count
        Number of prototypes.
    seed
        Seed of the fit; the same vectors and seed give the same prototypes.

    Raises
    ------
    InputError
        If there are fewer samples than prototypes, or scikit-learn is not installed.
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    if not 1 <= count <= len(vectors):
        raise InputError(f"{count} prototypes of {len(vectors)} samples: between 1 and {len(vectors)} are possible.")
    mixture = optional("sklearn.mixture", "scikit-learn", "Finding prototypes")
    fitted = mixture.GaussianMixture(count, reg_covar=_LEAST_VARIANCE, random_state=seed).fit(vectors)
    order = np.argsort(-fitted.weights_, kind="stable")
    parameters = fitted.weights_[order], fitted.means_[order], fitted.covariances_[order]
    parts = _log_parts(vectors, *parameters)
    distances = ((vectors[:, None] - parameters[1]) ** 2).sum(2)
    return Prototypes(
        *parameters,
        assigned=parts.argmax(1),
        typical=distances.argmin(0),
        likelihoods=np.sort(np.logaddexp.reduce(parts, axis=1)),
    )


def _log_parts(vectors: np.ndarray, weight: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Compute the logarithm of each Gaussian's weighted density, `[n, P]`."""
    parts = np.empty((len(vectors), len(weight)))
    for place, (part, centre, spread) in enumerate(zip(weight, mean, covariance, strict=True)):
        lower = np.linalg.cholesky(spread)
        whitened = np.linalg.solve(lower, (vectors - centre).T)
        volume = 2 * np.log(np.diag(lower)).sum() + len(centre) * np.log(2 * np.pi)
        parts[:, place] = np.log(part) - ((whitened**2).sum(0) + volume) / 2
    return parts
