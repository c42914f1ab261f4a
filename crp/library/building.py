"""A folder that appears complete or not at all."""

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


@contextmanager
def new_library(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Hand out an empty folder beside `path`, and give it that name when the block ends without an error.

    Checksums of all that the block wrote are added last (`crp.library.checksums`).
    After an error or an interruption the folder is removed, and what was at `path` is as before.

    Parameters
    ----------
    path
        Where the library is to be. Folders above it are made.
    overwrite
        Whether an existing library may be replaced. Other folders and files never are.

    Raises
    ------
    LibraryError
        If something is there already, or the system refuses to write.
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
    """Refuse to write where something is that is not to be overwritten.

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
    """Give a complete library its checksums and its place; what is there is put `aside` and removed after that."""
    write_checksums(folder)
    if path.exists():
        os.rename(path, aside)
    try:
        os.rename(folder, path)
    except BaseException:
        if aside.exists():
            os.rename(aside, path)
        raise
    sync_folder(path.parent)
    shutil.rmtree(aside, ignore_errors=True)
