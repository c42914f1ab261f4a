"""Clusters of samples that a model decides by the same strategy, and which of them may be Clever Hans strategies.

This is SpRAy (Lapuschkin et al. 2019, "Unmasking Clever Hans predictors and assessing what machines really learn"):
spectral clustering of the explanations of a class on a graph of nearest neighbours. The number of clusters is chosen
from the gap between eigenvalues.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crp.errors import InputError
from crp.extras import optional
from crp.library.vectors import Vectors

# Eigenvalues below this are treated as 0.
_ZERO = 1e-4
# Largest number of clusters that is chosen from the eigenvalues.
_MOST_CLUSTERS = 8
# Of larger classes, evenly spaced samples are clustered: the table of distances is quadratic.
_MOST_SAMPLES = 2000


@dataclass(frozen=True, eq=False)
class Strategies:
    """A clustering of `n` samples.

    Attributes
    ----------
    cluster
        Cluster of each sample, int64 `[n]`; the largest cluster is 0.
    eigenvalues
        The smallest eigenvalues of the graph's normalised Laplacian, ascending, float64 `[m]`.
    embedding
        Their eigenvectors, `[n, m]`. The first ones, as many as there are clusters, were clustered.
    """

    cluster: np.ndarray
    eigenvalues: np.ndarray
    embedding: np.ndarray


@dataclass(frozen=True, eq=False)
class Suspect:
    """A cluster that depends on one concept more than the rest of its class.

    Attributes
    ----------
    target
        The class.
    samples
        Indices in the data set, int64 `[m]`.
    others
        Number of samples of the class in other clusters.
    concept
        The concept whose mean share exceeds that in the rest of the class the most.
    share, share_of_others
        Its mean share in the cluster, and in the rest of the class.
    """

    target: int
    samples: np.ndarray
    others: int
    concept: int
    share: float
    share_of_others: float

    @property
    def score(self) -> float:
        """Sort key: the concept's mean share in the cluster minus that in the rest of the class, 0 to 2."""
        return self.share - self.share_of_others


def strategies(vectors: np.ndarray, *, clusters: int | None = None, neighbours: int = 10, seed: int = 0) -> Strategies:
    """Cluster the samples of a class by their concept vectors or heatmaps.

    Parameters
    ----------
    vectors
        `[n, ...]`, one row per sample; heatmaps are flattened. Needs memory for `n * n` numbers.
    clusters
        Number of clusters; by default the `k` of 2 to 8 with the largest relative gap `1 - e[k] / e[k + 1]` between
        eigenvalues.
    neighbours
        Number of edges from each sample to its nearest neighbours (Euclidean). A strategy of fewer samples cannot be
        found.
    seed
        Seed of k-means; the same vectors and seed give the same clusters.

    Raises
    ------
    InputError
        If there are too few samples, or scikit-learn is not installed.
    """
    vectors = np.asarray(vectors, dtype=np.float64).reshape(len(vectors), -1)
    least = max(3, clusters or 0)
    if len(vectors) < least or (clusters is not None and clusters < 2):
        asked = "" if clusters is None else f" in {clusters} clusters"
        raise InputError(f"{len(vectors)} samples{asked}: at least 2 clusters and {least} samples are needed.")
    cluster = optional("sklearn.cluster", "scikit-learn", "Clustering strategies")
    laplacian = _laplacian(vectors, min(neighbours, len(vectors) - 1))
    eigenvalues, eigenvectors = np.linalg.eigh(laplacian)
    kept = max(_MOST_CLUSTERS + 2, clusters or 0)
    eigenvalues, embedding = np.maximum(eigenvalues[:kept], 0), eigenvectors[:, :kept]
    if clusters is None:
        known = np.maximum(eigenvalues, _ZERO)
        clusters = 2 + int(np.argmax(1 - known[1:-1] / known[2:])) if len(known) > 3 else 2
    points = embedding[:, :clusters]
    length = np.linalg.norm(points, axis=1, keepdims=True)
    directions = np.divide(points, length, out=np.zeros_like(points), where=length > 0)
    found = cluster.KMeans(clusters, n_init=10, random_state=seed).fit_predict(directions)
    by_size = np.argsort(-np.bincount(found, minlength=clusters), kind="stable")
    return Strategies(np.argsort(by_size)[found], eigenvalues, embedding)


def suspects(
    vectors: Vectors,
    *,
    targets: list[int] | None = None,
    clusters: int | None = None,
    neighbours: int = 10,
    seed: int = 0,
) -> list[Suspect]:
    """Cluster every class by relevance vectors, and sort the clusters by how much they depend on one concept.

    A Clever Hans strategy uses something that only part of a class shows, so a concept has a larger share in these
    samples than in the others (`Suspect.score`). A high score may also have a legitimate reason.

    Parameters
    ----------
    vectors
        The vectors of one layer.
    targets
        Explained classes, as indices; by default all with more samples than `neighbours`. Of classes with more than
        2,000 samples, 2,000 evenly spaced ones are clustered.
    clusters, neighbours, seed
        As in `strategies`.

    Returns
    -------
    list of Suspect
        The highest score first.
    """
    if targets is None:
        counts = np.bincount(vectors.target[vectors.mined & (vectors.target >= 0)])
        targets = np.flatnonzero(counts > neighbours).tolist()
    found = []
    for target in targets:
        rows = vectors.rows(target=target)
        if len(rows) > _MOST_SAMPLES:
            rows = rows[np.linspace(0, len(rows) - 1, _MOST_SAMPLES).astype(int)]
        shares = vectors.relevance[rows].astype(np.float64)
        cluster = strategies(shares, clusters=clusters, neighbours=neighbours, seed=seed).cluster
        for number in np.unique(cluster):
            own = cluster == number
            if own.all():
                continue
            here, elsewhere = shares[own].mean(0), shares[~own].mean(0)
            concept = int(np.argmax(here - elsewhere))
            size = int((~own).sum())
            found.append(Suspect(target, rows[own], size, concept, float(here[concept]), float(elsewhere[concept])))
    return sorted(found, key=lambda suspect: (-suspect.score, suspect.target))


def _laplacian(vectors: np.ndarray, neighbours: int) -> np.ndarray:
    """Compute the symmetric normalised Laplacian of the graph of nearest neighbours, `[n, n]`."""
    count = len(vectors)
    squares = (vectors**2).sum(1)
    distances = squares[:, None] + squares - 2 * vectors @ vectors.T
    np.fill_diagonal(distances, -np.inf)  # each sample is nearest to itself, whatever the rounding
    nearest = np.argsort(distances, axis=1, kind="stable")[:, 1 : neighbours + 1]
    edges = np.zeros((count, count))
    edges[np.arange(count)[:, None], nearest] = 1
    edges = (edges + edges.T) / 2
    scale = 1 / np.sqrt(edges.sum(1))
    return np.eye(count) - scale[:, None] * edges * scale
