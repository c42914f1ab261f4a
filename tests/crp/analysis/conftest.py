"""Concept vectors made by hand, as a library would hand them out."""

import numpy as np

from crp.library.vectors import Matrix, Vectors, encoded


def vectors_of(relevance, activation=None, target=None, prediction=None, label=None, mined=None) -> Vectors:
    """Vectors with these values; what is not given is zero, and every sample was mined."""
    relevance = np.asarray(relevance, dtype=np.float64)
    zeros = np.zeros(len(relevance), dtype=np.int64)
    given = [zeros if values is None else np.asarray(values) for values in (target, prediction, label)]
    return Vectors(
        Matrix(*encoded(relevance)),
        Matrix(*encoded(relevance if activation is None else np.asarray(activation, dtype=np.float64))),
        *given,
        np.full(len(relevance), True) if mined is None else np.asarray(mined),
    )
