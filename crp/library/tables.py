"""safetensors files: numpy arrays by name, the same bytes for the same content."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from crp.errors import LibraryError


def write_file(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file as a whole or not at all: under another name, flushed to disk, then renamed.

    Parameters
    ----------
    path
        The file.
    content
        All of it.
    durable
        Whether to wait until the disk has it. Thousands of small files, which can be made again, do without.

    Raises
    ------
    LibraryError
        If the system refuses (read-only folder, full disk); the file is as before then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise LibraryError(f"'{path}' cannot be written: {error.strerror}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_table(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name, as `table_bytes` makes them."""
    write_file(path, table_bytes(arrays))


def table_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays by name as the content of a file: in C order, with neither metadata nor time stamps."""
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


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
        """The whole array; None in `shape` stands for any length.

        Raises
        ------
        LibraryError
            If there is none of that name, dtype and shape.
        """
        entries = self._checked(name, dtype, shape)
        # safetensors refuses to slice what is empty
        return entries[:] if all(entries.get_shape()) else np.zeros(entries.get_shape(), dtype)

    def piece(self, name: str, dtype: type, start: int, stop: int) -> np.ndarray:
        """Entries `start` to `stop` of a one-dimensional array; the rest of it is not read."""
        entries = self._checked(name, dtype, (None,))
        length = entries.get_shape()[0]
        if not 0 <= start <= stop <= length:
            raise damaged(self._path, f"'{name}' has {length} entries, and {start} to {stop} are referred to")
        return entries[start:stop] if start < stop else np.zeros(0, dtype)

    def _checked(self, name: str, dtype: type, shape: tuple[int | None, ...]):
        if name not in self._names:
            raise damaged(self._path, f"it has no '{name}'")
        entries = self._handle.get_slice(name)
        found, found_dtype = tuple(entries.get_shape()), entries.get_dtype()
        fits = len(found) == len(shape) and all(want in (None, have) for want, have in zip(shape, found, strict=True))
        if not fits or found_dtype != _NAMES[dtype]:
            raise damaged(self._path, f"'{name}' is {found_dtype} of shape {list(found)}")
        return entries


_NAMES = {np.uint8: "U8", np.int64: "I64", np.float32: "F32", np.float64: "F64"}


@contextmanager
def open_table(path: Path) -> Iterator[Table]:
    """Open a safetensors file, mapped into memory.

    Raises
    ------
    LibraryError
        If the file is missing, truncated or garbled.
    """
    try:
        with safe_open(path, framework="np") as handle:
            yield Table(path, handle)
    except FileNotFoundError as error:
        raise damaged(path, "it is missing") from error
    except (SafetensorError, OSError) as error:
        raise damaged(path, str(error)) from error


def check_file(folder: Path, file: Path) -> None:
    """Refuse what is no file, or a link to a place outside the library's folder: whose file it is, nobody knows then.

    Raises
    ------
    LibraryError
    """
    try:
        place, there = file.resolve(), file.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, names that the system does not have
        raise damaged(file, str(error)) from error
    if not there:
        raise damaged(file, "it is missing")
    if not place.is_relative_to(folder.resolve()):
        raise LibraryError(
            f"'{file}' is a link out of the library, to '{place}', and is not followed: copy the library with what its "
            "links lead to (cp -rL)."
        )


def damaged(path: Path, fact: str) -> LibraryError:
    """The error for a file that cannot be used: which, why, what to do."""
    return LibraryError(f"'{path}' is damaged ({fact}): mine the library again, or restore the file from a copy.")
