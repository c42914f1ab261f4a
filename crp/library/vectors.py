"""Concept vectors: the share and the activation of every concept on every sample, memory-mapped.

A vector is stored as float16 with a power of two for each sample. So no number depends on another sample, nothing
overflows, and rows can be computed in any order. Values down to `2**-29` of a sample's largest keep 11 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crp.arguments import whole_number
from crp.errors import LibraryError
from crp.indices import concept_id

from .manifest import layer_folder
from .tables import damaged, open_table

# The largest float16 is 65504.
_LARGEST_EXPONENT = 15
# Rows that are read at a time when a whole matrix is processed.
_CHUNK = 8192

Columns = dict[str, tuple[type, tuple[int, ...]]]
SAMPLE_COLUMNS: Columns = {
    "target": (np.int64, ()),
    "prediction": (np.int64, ()),
    "label": (np.int64, ()),
    "mined": (np.uint8, ()),
}


def layer_columns(concepts: int) -> Columns:
    """Return the columns of a layer's file: for each name the dtype and the shape of a row."""
    return {
        "relevance": (np.float16, (concepts,)),
        "relevance.exponent": (np.int16, ()),
        "activation": (np.float16, (concepts,)),
        "activation.exponent": (np.int16, ()),
    }


def samples_file(folder: Path) -> Path:
    """Return the file with target, prediction and label of each sample."""
    return folder / "samples.safetensors"


def vectors_file(folder: Path, layer: str) -> Path:
    """Return the file of a layer's vectors."""
    return folder / "layers" / layer_folder(layer) / "vectors.safetensors"


class Matrix:
    """A matrix of samples and concepts, float16 on disk and float32 when read: `matrix[rows]` is `[n, C]`.

    `rows` is any index of numpy: a slice, indices of samples, a mask. `numpy.asarray(matrix)` reads everything. Reading
    values that are not finite raises a `LibraryError`.

    Parameters
    ----------
    stored
        float16 `[N, C]`, memory-mapped.
    exponent
        int16 `[N]`; the values are `stored * 2**exponent`.
    """

    def __init__(self, stored: np.ndarray, exponent: np.ndarray):
        self._stored = stored
        self._exponent = exponent
        self.shape: tuple[int, int] = stored.shape

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.shape[0]

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        """Read some rows."""
        stored = np.asarray(self._stored[rows], dtype=np.float32)
        return _scaled(stored, np.asarray(self._exponent[rows])[..., None])

    def __array__(self, dtype: type | None = None, copy: bool | None = None) -> np.ndarray:
        """Read all rows."""
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)

    def column(self, concept: int) -> np.ndarray:
        """Read one concept on all samples, float32 `[N]`."""
        concept = concept_id(concept, self.shape[1], "the layer")
        return _scaled(self._stored[:, concept].astype(np.float32), self._exponent)

    def chunks(self) -> Iterator[np.ndarray]:
        """Read all rows in order, some thousands at a time, for data sets that do not fit into memory."""
        return (self[start : start + _CHUNK] for start in range(0, len(self), _CHUNK))


def _scaled(stored: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = np.ldexp(stored, exponent.astype(np.int32))
    if not np.isfinite(values).all():
        raise LibraryError("A concept vector holds NaN or infinite values: the file of vectors is damaged.")
    return values


@dataclass(frozen=True, eq=False)
class Vectors:
    """Concept vectors of a layer; row i belongs to sample i of the data set.

    Attributes
    ----------
    relevance
        Signed share of each concept in the layer's relevance, `R_c / sum_c |R_c|`, as in the class statistics.
    activation
        Activation score of each concept, as in the references.
    target, prediction, label
        Explained class (the first of several), largest output of the model, and label (the first of several), int64
        `[N]`; -1 where there is none. Relevance is that of the explained class.
    mined
        False for samples that were skipped, bool `[N]`; their rows are zero.
    """

    relevance: Matrix
    activation: Matrix
    target: np.ndarray
    prediction: np.ndarray
    label: np.ndarray
    mined: np.ndarray

    def rows(
        self, *, target: int | None = None, prediction: int | None = None, label: int | None = None
    ) -> np.ndarray:
        """Find the samples of a class, int64 in ascending order; without arguments, all samples that were mined.

        Classes may have any form of a single class, such as a 0-d tensor; -1 stands for samples without one.

        Raises
        ------
        InputError
            If a class is not a whole number.
        """
        chosen = self.mined.copy()
        for values, wanted in ((self.target, target), (self.prediction, prediction), (self.label, label)):
            if wanted is not None:
                chosen &= values == whole_number("A class", wanted, -1)
        return np.flatnonzero(chosen)


def encoded(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Encode float `[n, C]` as float16 `[n, C]` and int16 exponents `[n]`."""
    largest = np.abs(values).max(axis=1, initial=0)
    exponent = np.where(largest > 0, np.frexp(largest)[1] - _LARGEST_EXPONENT, 0)
    return np.ldexp(values.astype(np.float64), -exponent[:, None]).astype(np.float16), exponent.astype(np.int16)


def read_vectors(folder: Path, layer: str, length: int, concepts: int, classes: int) -> Vectors:
    """Open the vectors of a layer.

    Raises
    ------
    LibraryError
        If a file is missing or damaged.
    """
    with open_table(samples_file(folder)) as table:
        known = {name: table.mapped(name, dtype, (length,)) for name, (dtype, _) in SAMPLE_COLUMNS.items()}
    for name in ("target", "prediction"):
        wrong = known[name][(known[name] < -1) | (known[name] >= classes)]
        if len(wrong):
            raise damaged(samples_file(folder), f"{name} {wrong[0]} is not within -1 and {classes - 1}")
    with open_table(vectors_file(folder, layer)) as table:
        wanted = layer_columns(concepts)
        columns = {name: table.mapped(name, dtype, (length, *shape)) for name, (dtype, shape) in wanted.items()}
    matrices = {name: Matrix(columns[name], columns[f"{name}.exponent"]) for name in ("relevance", "activation")}
    return Vectors(**matrices, **{**known, "mined": known["mined"] > 0})
