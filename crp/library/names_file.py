"""names.json: what people say about the concepts of a library, in the library's folder; and as a file to share.

The file is the only one of a library that people change. It has no checksum and is kept when the library is mined
again (`crp.library.building.publish`).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from crp.errors import InputError, LibraryError, shortened
from crp.files import user_path, write_file

from .given_names import GivenName, Key
from .locks import Lock
from .manifest import FILE as MANIFEST

FILE = "names.json"
FORMAT = "crp-atlas names"
VERSION = 1
_LARGEST_FILE = 64 << 20


def read_names(path: str | os.PathLike[str]) -> dict[Key, GivenName]:
    """Read a file of names, by concept; empty if there is no file.

    Raises
    ------
    LibraryError
        If the file is damaged, of another format or version, or names a concept twice.
    """
    path = user_path(path)
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise LibraryError(f"'{path}' is larger than {_LARGEST_FILE >> 20} MiB: it is not a file of names.")
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise LibraryError(f"'{path}' cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise LibraryError(f"The file of names '{path}' is damaged: not JSON: {shortened(error)}.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise LibraryError(f"'{path}' holds no names: its \"format\" is not '{FORMAT}'.")
    if content.get("version") != VERSION:
        raise LibraryError(f"'{path}' is of version {shortened(content.get('version'))}; this program reads {VERSION}.")
    try:
        entries = [GivenName.from_json(entry) for entry in content["names"]]
    except InputError as error:
        raise LibraryError(f"The file of names '{path}' is damaged: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise LibraryError(f"The file of names '{path}' is damaged: {type(error).__name__} {error}.") from error
    found = {entry.key: entry for entry in entries}
    if len(found) < len(entries):
        raise LibraryError(f"The file of names '{path}' is damaged: it names a concept twice.")
    return found


def write_names(path: str | os.PathLike[str], names: Iterable[GivenName]) -> None:
    """Write a file of names, completely or not at all, in the order of layers and concepts."""
    entries = [name.to_json() for name in sorted(names, key=lambda name: name.key)]
    text = json.dumps({"format": FORMAT, "version": VERSION, "names": entries}, indent=1, ensure_ascii=False)
    write_file(user_path(path), (text + "\n").encode())


@contextmanager
def locked_names(folder: Path) -> Iterator[Path]:
    """Keep other processes from changing the names of a library; yields their file.

    Raises
    ------
    LibraryError
        If the library cannot be written.
    """
    try:
        lock = Lock(folder / MANIFEST, wait=True)
    except OSError as error:
        raise LibraryError(f"The names of '{folder}' cannot be changed: {error.strerror}.") from error
    try:
        yield folder / FILE
    finally:
        lock.close()


def keep_names(former: Path, folder: Path) -> None:
    """Copy the names of a library, if it has some, to the one that takes its place or continues it."""
    if (former / FILE).is_file():
        shutil.copyfile(former / FILE, folder / FILE)
