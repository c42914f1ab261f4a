"""How alike concepts are over a data set, and which of them say the same."""

from __future__ import annotations

import numpy as np

from crp.errors import InputError
from crp.library.vectors import Vectors

from .searching import matrix_of


def similarity(vectors: Vectors, *, by: str = "relevance") -> np.ndarray:
    """Cosine of the columns of two concepts, float64 `[C, C]`: 1 where they are used alike on all samples.

    Sums go through the file in pieces, so memory is `C * C` numbers whatever the data set. A concept that no sample
    uses is like none, itself included: 0.

    Parameters
    ----------
    vectors
        Of one layer.
    by
        `"relevance"` or `"activation"`.

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
    """Groups of concepts of which every two are at least that similar, the largest group first.

    The most similar pairs are joined first, and two groups become one if all their pairs allow it (complete linkage),
    so a chain of neighbours is no group. Concepts that are like no other are left out.

    Parameters
    ----------
    similarity
        `[C, C]`, symmetric.
    threshold
        Between 0 and 1.

    Raises
    ------
    InputError
        If the threshold is not above 0, or above 1.
    """
    if not 0 < threshold <= 1:
        raise InputError(f"threshold is {threshold}; a similarity above 0 and at most 1 is needed.")
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
