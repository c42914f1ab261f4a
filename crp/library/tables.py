"""safetensors files: named numpy arrays, with the same bytes for the same content."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from crp.errors import LibraryError
from crp.files import write_file


def write_table(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays in C order, without metadata or time stamps.

    The bytes are those of `safetensors.numpy.save`, which needs three times the memory of the arrays.
    """
    write_file(path, _pieces(arrays))


def table_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the bytes that `write_table` writes."""
    return b"".join(_pieces(arrays))


def _pieces(arrays: Mapping[str, np.ndarray]) -> Iterator[bytes | memoryview]:
    """Yield the content of a safetensors file: the header, then the arrays."""
    header, places = table_header({name: (array.dtype.type, array.shape) for name, array in arrays.items()})
    yield header
    for name in places:
        yield np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data


def table_header(columns: Mapping[str, tuple[type, tuple[int, ...]]]) -> tuple[bytes, dict[str, int]]:
    """Make the header of a safetensors file for arrays of these dtypes and shapes, and list their offsets in the file.

    The arrays are stored without gaps, sorted by the size of their dtype (large first), then by name.
    """
    order = sorted(columns, key=lambda name: (-_ORDER.index(columns[name][0]), name))
    entries, places, begin = {}, {}, 0
    for name in order:
        dtype, shape = columns[name]
        end = begin + np.dtype(dtype).itemsize * math.prod(shape)
        entries[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
        places[name], begin = begin, end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    return header, {name: len(header) + place for name, place in places.items()}


class Table:
    """An open safetensors file, read in pieces.

    Parameters
    ----------
    path
        The file.
    """

    def __init__(self, path: Path, handle: safe_open):
        self._path = path
        self._handle = handle
        self._names = set(handle.keys())

    def array(self, name: str, dtype: type, shape: tuple[int | None, ...]) -> np.ndarray:
        """Read a whole array; None in `shape` stands for any length.

        Raises
        ------
        LibraryError
            If there is no array of that name, dtype and shape.
        """
        entries = self._checked(name, dtype, shape)
        # safetensors refuses to slice what is empty
        return entries[:] if all(entries.get_shape()) else np.zeros(entries.get_shape(), dtype)

    def check(self, name: str, dtype: type, shape: tuple[int | None, ...]) -> None:
        """Raise the errors of `array` without reading it."""
        self._checked(name, dtype, shape)

    def piece(self, name: str, dtype: type, start: int, stop: int) -> np.ndarray:
        """Read entries `start` to `stop` of a one-dimensional array, and no others."""
        entries = self._checked(name, dtype, (None,))
        length = entries.get_shape()[0]
        if not 0 <= start <= stop <= length:
            raise damaged(self._path, f"'{name}' has {length} entries, but {start} to {stop} are referred to")
        return entries[start:stop] if start < stop else np.zeros(0, dtype)

    def part(self, name: str, dtype: type, shape: tuple[int, ...], index: int) -> np.ndarray:
        """Read entry `index` along the first axis, and no other."""
        return self._checked(name, dtype, shape)[index]

    def mapped(self, name: str, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
        """Map an array from the file into memory, read-only."""
        self._checked(name, dtype, shape)
        with open(self._path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            begin = json.loads(file.read(length))[name]["data_offsets"][0]
        return np.memmap(self._path, dtype, "r", 8 + length + begin, shape)

    def _checked(self, name: str, dtype: type, shape: tuple[int | None, ...]):
        if name not in self._names:
            raise damaged(self._path, f"it has no '{name}'")
        entries = self._handle.get_slice(name)
        found, found_dtype = tuple(entries.get_shape()), entries.get_dtype()
        fits = len(found) == len(shape) and all(want in (None, have) for want, have in zip(shape, found, strict=True))
        if not fits or found_dtype != NAMES[dtype]:
            raise damaged(self._path, f"'{name}' is {found_dtype} of shape {list(found)}")
        return entries


# In the order in which safetensors stores them.
NAMES = {
    np.bool_: "BOOL",
    np.uint8: "U8",
    np.int8: "I8",
    np.int16: "I16",
    np.uint16: "U16",
    np.float16: "F16",
    np.int32: "I32",
    np.uint32: "U32",
    np.float32: "F32",
    np.float64: "F64",
    np.int64: "I64",
    np.uint64: "U64",
}
_ORDER = list(NAMES)


@contextmanager
def open_table(path: Path) -> Iterator[Table]:
    """Open a safetensors file for reading in pieces.

    Raises
    ------
    LibraryError
        If the file is missing, truncated or garbled.
    """
    try:
        with safe_open(path, framework="np") as handle:
            yield Table(path, handle)
    except FileNotFoundError as error:
        raise _missing(path) from error
    except (SafetensorError, OSError) as error:
        raise damaged(path, str(error)) from error


def check_file(folder: Path, file: Path) -> None:
    """Refuse a missing file, and a link out of the library's folder, because it may lead to anybody's file.

    Raises
    ------
    LibraryError
    """
    try:
        place, there = file.resolve(), file.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # circular links, names that the system does not allow
        raise damaged(file, str(error)) from error
    if not there:
        raise _missing(file)
    if not place.is_relative_to(folder.resolve()):
        raise LibraryError(
            f"'{file}' is a link out of the library, to '{place}', and is not followed: copy the library with the "
            "targets of its links (cp -rL)."
        )


def _missing(path: Path) -> LibraryError:
    """Make the error for a missing file: with its folder, if the library was moved or removed after it was opened."""
    gone = [folder for folder in path.parents if not folder.exists()]
    if gone:
        return LibraryError(f"There is no folder '{gone[-1]}' any more: open the library where it is now.")
    return damaged(path, "it is missing")


def damaged(path: Path, fact: str) -> LibraryError:
    """Make the error for a damaged file: which file, why, and what to do."""
    return LibraryError(f"'{path}' is damaged ({fact}): mine the library again, or restore the file from a copy.")
