"""Writing a library completely or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crp.errors import LibraryError
from crp.files import sync_folder

from .checksums import write_checksums
from .manifest import FILE
from .names_file import keep_names


@contextmanager
def new_library(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Create an empty folder beside `path`, and rename it to `path` if the block ends without an error.

    Checksums of all files are added at the end (`crp.library.checksums`). After an error or an interruption the folder
    is removed, and `path` is as before.

    Parameters
    ----------
    path
        Folder of the library. Parent folders are created.
    overwrite
        Whether an existing library may be replaced. Other folders and files are never replaced.

    Yields
    ------
    Path
        The empty folder.

    Raises
    ------
    LibraryError
        If the path is taken, or the system refuses to write.
    """
    check_free(path, overwrite=overwrite)
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
    except OSError as error:
        raise LibraryError(f"No library can be written to '{path}': {error.strerror} ('{error.filename}').") from error
    try:
        yield partial
        publish(partial, path, aside=path.with_name(f"{path.name}.old-{os.getpid()}"))
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_free(path: Path, *, overwrite: bool) -> None:
    """Refuse a path that is taken and must not be overwritten.

    Raises
    ------
    LibraryError
    """
    if path.exists():
        if not (path / FILE).is_file():
            raise LibraryError(f"'{path}' exists and is not a library: choose another path, or remove it yourself.")
        if not overwrite:
            raise LibraryError(
                f"The library '{path}' exists: choose another path, or overwrite it (overwrite=True, --overwrite)."
            )


def publish(folder: Path, path: Path, *, aside: Path) -> None:
    """Write the checksums of a complete library and rename it to `path`.

    A former library is moved `aside`, and removed at the end; the names that people gave to its concepts are kept.
    """
    write_checksums(folder)
    if path.exists():
        keep_names(path, folder)
        os.rename(path, aside)
    try:
        os.rename(folder, path)
    except BaseException:
        if aside.exists():
            os.rename(aside, path)
        raise
    sync_folder(path.parent)
    shutil.rmtree(aside, ignore_errors=True)
