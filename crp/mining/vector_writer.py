"""Concept vectors, written while mining: each block writes its rows to their places in a file of fixed size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crp.library.rows import RowTable
from crp.library.tables import open_table
from crp.library.vectors import SAMPLE_COLUMNS, encoded, layer_columns, samples_file, vectors_file

# Number of rows copied at a time.
_CHUNK = 4096


class VectorWriter:
    """Writes the vectors of all layers into a folder.

    Blocks may be written in any order, by any process, and again after an interruption: the files end up the same, byte
    for byte.

    Parameters
    ----------
    folder
        The library's folder, or a work folder laid out like it.
    length
        Number of samples of the data set.
    sizes
        Number of concepts of each layer.

    Raises
    ------
    LibraryError
        If existing files are of other sizes or another data set, or the system refuses to write.
    """

    def __init__(self, folder: Path, length: int, sizes: Mapping[str, int]):
        self._sizes = dict(sizes)
        self._samples = RowTable(samples_file(folder), SAMPLE_COLUMNS, length)
        self._layers = {
            layer: RowTable(vectors_file(folder, layer), layer_columns(size), length) for layer, size in sizes.items()
        }

    def add(
        self,
        samples: np.ndarray,
        targets: np.ndarray,
        predictions: np.ndarray,
        labels: np.ndarray,
        vectors: Mapping[str, tuple[np.ndarray, np.ndarray]],
    ) -> None:
        """Write one block.

        Parameters
        ----------
        samples
            Indices in the data set, in increasing order, int64 `[N]`.
        targets, predictions, labels
            Explained class, largest output, label (-1 for none), int64 `[N]`.
        vectors
            By layer, shares and activation scores `[N, C]`, finite.

        Raises
        ------
        LibraryError
            If the system refuses to write.
        """
        for layer, both in vectors.items():
            columns = {}
            for name, values in zip(("relevance", "activation"), both, strict=True):
                columns[name], columns[f"{name}.exponent"] = encoded(values)
            self._layers[layer].write(samples, columns)
        known = {"target": targets, "prediction": predictions, "label": labels, "mined": np.ones(len(samples))}
        self._samples.write(samples, known)

    def take(self, folder: Path, length: int, stop: int | None = None) -> None:
        """Copy the rows of another folder: of another shard, or of the library that is extended.

        Parameters
        ----------
        folder
            Folder of another writer, which has been closed.
        length
            Number of samples of its data set.
        stop
            Copy only the rows of samples before this one; by default all.

        Raises
        ------
        LibraryError
            If its files are damaged or of other sizes, or the system refuses to write.
        """
        with open_table(samples_file(folder)) as table:
            rows = np.flatnonzero(table.mapped("mined", np.uint8, (length,))[:stop])
        for layer, size in self._sizes.items():
            _copy(vectors_file(folder, layer), self._layers[layer], layer_columns(size), length, rows)
        _copy(samples_file(folder), self._samples, SAMPLE_COLUMNS, length, rows)

    def sync(self) -> None:
        """Wait until everything is on disk; called before blocks are recorded as done."""
        for table in (*self._layers.values(), self._samples):
            table.sync()

    def __enter__(self) -> VectorWriter:
        """Return the writer."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the files."""
        self.close()

    def close(self) -> None:
        """Close the files."""
        for table in (*self._layers.values(), self._samples):
            table.close()


def take_vectors(folder: Path, others: Iterable[Path], manifest: Mapping[str, Any]) -> None:
    """Copy the vectors of several folders, all of libraries with the same manifest, into one."""
    length = manifest["data"]["length"]
    sizes = {layer["name"]: layer["concepts"] for layer in manifest["layers"]}
    with VectorWriter(folder, length, sizes) as writer:
        for other in others:
            writer.take(other, length)
        writer.sync()


def _copy(origin: Path, table: RowTable, columns: Mapping, length: int, rows: np.ndarray) -> None:
    with open_table(origin) as stored:
        arrays = {name: stored.mapped(name, dtype, (length, *shape)) for name, (dtype, shape) in columns.items()}
    for start in range(0, len(rows), _CHUNK):
        some = rows[start : start + _CHUNK]
        table.write(some, {name: array[some] for name, array in arrays.items()})
