"""Reverse search: which samples use a concept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crp.errors import InputError, nearest
from crp.library.vectors import Matrix, Vectors

# What a concept vector may be made of.
KINDS = ("relevance", "activation")


@dataclass(frozen=True, eq=False)
class Hits:
    """Samples, the strongest first; equal ones by index.

    Attributes
    ----------
    sample
        Index in the data set, int64 `[n]`.
    value
        Share or activation score of the concept, float32 `[n]`.
    target, prediction, label
        Explained class, the model's largest output, label (-1: none), int64 `[n]`.
    """

    sample: np.ndarray
    value: np.ndarray
    target: np.ndarray
    prediction: np.ndarray
    label: np.ndarray


def search(
    vectors: Vectors,
    concept: int,
    *,
    by: str = "relevance",
    target: int | None = None,
    prediction: int | None = None,
    label: int | None = None,
    count: int | None = 20,
) -> Hits:
    """The samples that use a concept most.

    Parameters
    ----------
    vectors
        Of the concept's layer.
    concept
        Id of the concept.
    by
        `"relevance"` (signed share in the explained class) or `"activation"`.
    target, prediction, label
        Only samples explained for this class, predicted as it, labelled as it; by default all.
    count
        How many at most; None for all.

    Raises
    ------
    InputError
        If there is no such concept or kind of vector, or the count is below one.
    """
    matrix = matrix_of(vectors, by)
    if not 0 <= concept < matrix.shape[1]:
        raise InputError(f"There is no concept {concept}: the layer has the concepts 0 to {matrix.shape[1] - 1}.")
    if count is not None and count < 1:
        raise InputError(f"count is {count}; at least 1 sample must be asked for.")
    rows = vectors.rows(target=target, prediction=prediction, label=label)
    values = matrix.column(concept)[rows]
    order = np.argsort(-values, kind="stable")[:count]
    found = rows[order]
    return Hits(found, values[order], vectors.target[found], vectors.prediction[found], vectors.label[found])


def matrix_of(vectors: Vectors, by: str) -> Matrix:
    """Relevance or activation, by name.

    Raises
    ------
    InputError
        If it is neither.
    """
    if by not in KINDS:
        raise InputError(f"There are no vectors of {by!r}: {nearest(str(by), KINDS)}")
    return getattr(vectors, by)
