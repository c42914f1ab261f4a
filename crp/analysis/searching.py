"""Reverse search: which samples use a concept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crp.arguments import whole_number
from crp.errors import InputError, nearest
from crp.indices import concept_id
from crp.library.vectors import Matrix, Vectors

# Kinds of concept vectors.
KINDS = ("relevance", "activation")


@dataclass(frozen=True, eq=False)
class Hits:
    """Samples in descending order of their value; ties are sorted by index.

    Attributes
    ----------
    sample
        Index in the data set, int64 `[n]`.
    value
        Share or activation score of the concept, float32 `[n]`.
    target, prediction, label
        Explained class, largest output of the model, label (-1 for none), int64 `[n]`.
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
    """Find the samples that use a concept most.

    Parameters
    ----------
    vectors
        The vectors of the concept's layer.
    concept
        Id of the concept.
    by
        Sort key: `"relevance"` (signed share for the explained class) or `"activation"`.
    target, prediction, label
        Only samples with this explained class, prediction or label; by default all.
    count
        Largest number of samples; None for all.

    Raises
    ------
    InputError
        If there is no such concept or kind of vector, or the count is below one.
    """
    matrix = matrix_of(vectors, by)
    concept = concept_id(concept, matrix.shape[1])
    count = None if count is None else whole_number("count", count, 1)
    rows = vectors.rows(target=target, prediction=prediction, label=label)
    values = matrix.column(concept)[rows]
    order = np.argsort(-values, kind="stable")[:count]
    found = rows[order]
    return Hits(found, values[order], vectors.target[found], vectors.prediction[found], vectors.label[found])


def matrix_of(vectors: Vectors, by: str) -> Matrix:
    """Return the matrix of relevance or activation, by name.

    Raises
    ------
    InputError
        If there are no vectors of that name.
    """
    if by not in KINDS:
        raise InputError(f"There are no vectors of {by!r}: {nearest(str(by), KINDS)}")
    return getattr(vectors, by)
