"""Tables with one row per sample: safetensors files of fixed size whose rows are written in any order.

Nothing is appended. Rows can be written by several processes, repeatedly after an interruption, or never; the file
depends only on the content of the rows. Rows that were never written are zero.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np

from crp.errors import LibraryError

from .tables import table_header


class RowTable:
    """An open file of `length` rows, for writing.

    Parameters
    ----------
    path
        The file. It is created if it does not exist; one with the same columns and length is reused.
    columns
        For each name the dtype and the shape of one row.
    length
        Number of rows.

    Raises
    ------
    LibraryError
        If the file has other columns or another length, or the system refuses.
    """

    def __init__(self, path: Path, columns: Mapping[str, tuple[type, tuple[int, ...]]], length: int):
        self._path = path
        self._columns = {name: (np.dtype(dtype), shape) for name, (dtype, shape) in columns.items()}
        whole = {name: (dtype, (length, *shape)) for name, (dtype, shape) in columns.items()}
        header, self._places = table_header(whole)
        size = len(header) + sum(length * self._width(name) for name in columns)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            found = os.fstat(self._file).st_size
            # a run that was killed here left no file, an empty file, or one without a header
            begin = os.pread(self._file, len(header), 0)
            if found and (found != size or (any(begin) and begin != header)):
                os.close(self._file)
                raise LibraryError(f"'{path}' has other columns, or not {length} rows.")
            os.ftruncate(self._file, size)
            self._put(header, 0)
        except OSError as error:
            raise self._refused(error) from error

    def write(self, rows: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Write some rows (int64 `[n]`, in ascending order): for each column `[n, *shape of a row]`.

        Raises
        ------
        LibraryError
            If the system refuses (full disk).
        """
        for name, array in values.items():
            dtype, shape = self._columns[name]
            array = np.ascontiguousarray(array, dtype=dtype).reshape(len(rows), *shape)
            for first, last in runs(rows):
                try:
                    self._put(array[first:last].tobytes(), self._places[name] + int(rows[first]) * self._width(name))
                except OSError as error:
                    raise self._refused(error) from error

    def sync(self) -> None:
        """Wait until all rows written so far are on the disk."""
        try:
            os.fsync(self._file)
        except OSError as error:
            raise self._refused(error) from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _width(self, name: str) -> int:
        """Return the bytes of a row."""
        dtype, shape = self._columns[name]
        return dtype.itemsize * math.prod(shape)

    def _put(self, content: bytes, place: int) -> None:
        # not through a memory map, which crashes on a full disk
        view = memoryview(content)
        while view:
            written = os.pwrite(self._file, view, place)
            view, place = view[written:], place + written

    def _refused(self, error: OSError) -> LibraryError:
        return LibraryError(f"'{self._path}' cannot be written: {error.strerror}.")


def runs(rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """Find the runs of consecutive numbers in a sorted list: [3, 4, 8] -> (0, 2), (2, 3)."""
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    edges = [0, *breaks.tolist(), len(rows)]
    return ((first, last) for first, last in pairwise(edges) if first < last)
