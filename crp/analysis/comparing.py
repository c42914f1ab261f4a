"""Similarity of concepts over a data set, and groups of redundant concepts."""

from __future__ import annotations

import numpy as np

from crp.errors import InputError
from crp.library.vectors import Vectors

from .searching import matrix_of


def similarity(vectors: Vectors, *, by: str = "relevance") -> np.ndarray:
    """Compute the cosine similarity of all pairs of concepts over the samples of a data set.

    The file is read in pieces, so memory does not depend on the data set. A concept that no sample uses has the
    similarity 0 to all, including itself.

    Parameters
    ----------
    vectors
        The vectors of one layer.
    by
        `"relevance"` or `"activation"`.

    Returns
    -------
    numpy.ndarray
        float64 `[C, C]`; 1 for two concepts whose values are proportional on all samples.

    Raises
    ------
    InputError
        If there is no such kind of vector.
    """
    matrix = matrix_of(vectors, by)
    products = np.zeros((matrix.shape[1], matrix.shape[1]))
    for chunk in matrix.chunks():
        chunk = chunk.astype(np.float64)
        products += chunk.T @ chunk
    norm = np.sqrt(np.diag(products))
    scale = np.outer(norm, norm)
    return np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)


def redundant(similarity: np.ndarray, *, threshold: float = 0.9) -> list[tuple[int, ...]]:
    """Group concepts so that every two of a group are at least that similar; the largest group comes first.

    The most similar pairs are joined first, and two groups are merged if all their pairs are similar enough (complete
    linkage), so a chain of neighbours is not a group. Concepts that are similar to no other are omitted.

    Parameters
    ----------
    similarity
        `[C, C]`, symmetric.
    threshold
        Smallest similarity, above 0 and at most 1.

    Raises
    ------
    InputError
        If the threshold is out of range.
    """
    if not 0 < threshold <= 1:
        raise InputError(f"threshold is {threshold}; it must be above 0 and at most 1.")
    first, second = np.nonzero(np.triu(similarity >= threshold, 1))
    order = np.argsort(-similarity[first, second], kind="stable")
    group = {concept: [concept] for concept in range(len(similarity))}
    for one, other in zip(first[order].tolist(), second[order].tolist(), strict=True):
        left, right = group[one], group[other]
        if left is not right and (similarity[np.ix_(left, right)] >= threshold).all():
            left += right
            for concept in right:
                group[concept] = left
    found = {tuple(sorted(members)) for members in group.values() if len(members) > 1}
    return sorted(found, key=lambda members: (-len(members), members))
