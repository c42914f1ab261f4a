"""Clusters of samples that a model decides alike, and which of them look like Clever Hans.

After Lapuschkin et al. 2019, "Unmasking Clever Hans predictors and assessing what machines really learn" (SpRAy):
spectral clustering of the samples of a class by their explanations, on a graph of nearest neighbours, with the number
of clusters read from the gap between eigenvalues.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crp.errors import InputError
from crp.library.vectors import Vectors

from .extras import optional

# Eigenvalues below it are zero, but for rounding and a few loose edges.
_ZERO = 1e-4
# Clusters at most, where their number is read from the eigenvalues.
_MOST_CLUSTERS = 8
# Of larger classes evenly spaced samples are clustered: a table of distances grows with the square.
_MOST_SAMPLES = 2000


@dataclass(frozen=True, eq=False)
class Strategies:
    """A clustering of `n` samples.

    Attributes
    ----------
    cluster
        Of each sample, int64 `[n]`; the largest cluster is 0.
    eigenvalues
        The smallest of the graph's normalised Laplacian, ascending, float64 `[m]`.
    embedding
        Their eigenvectors, `[n, m]`, of which the first ones, as many as there are clusters, were clustered.
    """

    cluster: np.ndarray
    eigenvalues: np.ndarray
    embedding: np.ndarray


@dataclass(frozen=True, eq=False)
class Suspect:
    """A cluster that leans on one concept more than the rest of its class.

    Attributes
    ----------
    target
        The class.
    samples
        Indices in the data set, int64 `[m]`.
    others
        How many samples of the class are in other clusters.
    concept
        Whose mean share is most above that of the rest of the class.
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
        """What suspects are ordered by: how much more relevance goes to that concept than in the rest, 0 to 2."""
        return self.share - self.share_of_others


def strategies(
    vectors: np.ndarray, *, clusters: int | None = None, neighbours: int = 10, seed: int = 0
) -> Strategies:
    """Cluster the samples of a class by their concept vectors or heatmaps.

    Parameters
    ----------
    vectors
        `[n, ...]`, one row a sample; heatmaps are flattened. Memory is `n * n` numbers.
    clusters
        How many; by default where the relative gap `1 - e[k] / e[k + 1]` between eigenvalues is largest, of 2 to 8.
    neighbours
        Edges of each sample to those nearest to it (Euclidean). A strategy of fewer samples is not told apart.
    seed
        Where k-means begins; the same vectors and seed give the same clusters.

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
    """Cluster every class by relevance vectors; clusters that lean most on one concept first.

    A Clever Hans strategy rests on something that only part of a class shows, so its samples give a concept a share
    that the others do not (`Suspect.score`). The first rows are where to look; a high score may have an honest reason.

    Parameters
    ----------
    vectors
        Of one layer.
    targets
        Explained classes to look at; by default all with more samples than `neighbours`. Of classes with more than
        2,000 samples, 2,000 evenly spaced ones are clustered.
    clusters, neighbours, seed
        As in `strategies`.
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
    """Symmetric normalised Laplacian of the graph of nearest neighbours, `[n, n]`."""
    count = len(vectors)
    squares = (vectors**2).sum(1)
    distances = squares[:, None] + squares - 2 * vectors @ vectors.T
    np.fill_diagonal(distances, -np.inf)  # itself first, whatever the rounding
    nearest = np.argsort(distances, axis=1, kind="stable")[:, 1 : neighbours + 1]
    edges = np.zeros((count, count))
    edges[np.arange(count)[:, None], nearest] = 1
    edges = (edges + edges.T) / 2
    scale = 1 / np.sqrt(edges.sum(1))
    return np.eye(count) - scale[:, None] * edges * scale
