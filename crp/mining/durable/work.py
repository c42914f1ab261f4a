"""The work folder: mining keeps finished work in it, beside the library, until the library is complete.

    resnet.crp.partial/
      identity.json         what is mined: the library's manifest, and fingerprints of what it does not describe
      parts/                checkpoints of the pass over the data set (`checkpoints`)
      library/              the unfinished library; complete except for patches once `surveyed.json` exists
      surveyed.json         the samples that were skipped
      replaced/             the library that is being overwritten, until the new one is in place
      *.lock                locks of the processes that work here

A file appears only when it is complete (written under another name, synced, renamed), and the folder is used only if
identity.json exists. The process may therefore end at any moment.
"""

from __future__ import annotations

import json
import operator
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crp.errors import InputError, LibraryError, shortened
from crp.files import write_file
from crp.library.building import check_free, publish
from crp.library.known_outputs import KEY, difference_of_outputs
from crp.library.locks import Lock
from crp.mining.vector_writer import take_vectors

from .processes import Processes

IDENTITY = "identity.json"
_LABELS = "data.labels"
PARTS = "parts"
LIBRARY = "library"
SURVEYED = "surveyed.json"
_FOLDERS = (PARTS, LIBRARY)
_LOCK = "run.lock"
_REPLACED = "replaced"
_SUFFIX = ".partial"

_DONE = (f"{PARTS}/*.safetensors", SURVEYED)


@dataclass(frozen=True)
class Shard:
    """One of several runs that share the pass over the data set, on any machines: number `place` of `count`."""

    place: int
    count: int

    def __str__(self) -> str:
        """Return the form of the command line, `2/3`."""
        return f"{self.place}/{self.count}"


@dataclass(frozen=True)
class Work:
    """An open work folder.

    Attributes
    ----------
    path
        Path of the library.
    owner
        Name of the process or shard that writes here, with which its files begin.
    """

    path: Path
    owner: str

    @property
    def folder(self) -> Path:
        """The work folder."""
        return work_folder(self.path)

    @property
    def library(self) -> Path:
        """The unfinished library."""
        return self.folder / LIBRARY

    @property
    def parts(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / PARTS

    def surveyed(self) -> dict[int, str] | None:
        """Return the skipped samples and the reasons if the pass over the data set is complete, else None."""
        try:
            return {int(sample): fact for sample, fact in json.loads((self.folder / SURVEYED).read_bytes()).items()}
        except FileNotFoundError:
            return None

    def set_surveyed(self, skipped: Mapping[int, str]) -> None:
        """Record that the library is complete except for its patches."""
        write_file(self.folder / SURVEYED, json.dumps(skipped).encode())

    def anything_done(self) -> bool:
        """Whether the folder holds any work to resume from."""
        return any(next(self.folder.glob(pattern), None) for pattern in _DONE)

    def publish(self) -> None:
        """Move the library to its path and remove the work folder."""
        publish(self.library, self.path, aside=self.folder / "replaced")
        _empty(self.folder)
        _remove(self.folder)


def work_folder(path: Path) -> Path:
    """Return the path of the work folder of a library.

    Raises
    ------
    InputError
        If the path is the current folder or the root.
    """
    if not path.name:
        raise InputError(f"A library is a folder with a name, given '{path}'.")
    return path.with_name(f"{path.name}{_SUFFIX}")


def stored_identity(folder: Path) -> dict[str, Any] | None:
    """Read what is mined in a work folder; None if the folder is not one.

    Raises
    ------
    LibraryError
        If it cannot be read.
    """
    file = folder / IDENTITY
    try:
        identity = json.loads(file.read_bytes())
        settings = identity["manifest"]["settings"]
        for name in ("k", "top", "patches", "block_size", "threads"):
            operator.index(settings[name])
        return identity
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise LibraryError(
            f"'{file}' is damaged ({shortened(error)}): start again (restart=True, --restart), or remove the folder."
        ) from error


@contextmanager
def open_work(
    path: Path,
    identity: Mapping[str, Any],
    *,
    shard: Shard | None,
    processes: Processes,
    overwrite: bool,
    restart: bool,
) -> Iterator[Work]:
    """Create the work folder, or open the folder of an interrupted run.

    After an error, finished work is kept, and the error says so in a note. If there is none, the folder is removed.

    Parameters
    ----------
    path
        Path of the library.
    identity
        What is mined: `"manifest"` and fingerprints, in the types of JSON.
    shard
        The shard that this run computes, if any.
    processes
        The processes that share this run.
    overwrite, restart
        As in `mine`.

    Raises
    ------
    LibraryError
        If another process works there, an interrupted run mined something else, or the folder holds other files.
    """
    work = Work(path, f"shard-{shard.place}-of-{shard.count}" if shard else f"rank-{processes.rank}")
    locks: list[Lock] = []
    opened = False
    try:
        if processes.first:
            locks = _claimed(work.folder, shard)
            _open_or_begin(work, identity, alone=shard is None, overwrite=overwrite, restart=restart)
            if processes.count > 1:
                locks[0].take(shared=True)
        processes.wait()
        if not processes.first:
            locks = [Lock(work.folder / _LOCK, shared=True)]
        processes.wait()
        opened = True
        yield work
    except BaseException as error:
        if opened and work.anything_done():
            error.add_note(f"Finished work is kept in '{work.folder}': the same command resumes from there.")
        if locks and not work.anything_done():
            _remove_if_unused(work.folder, locks[0])
        raise
    finally:
        for lock in locks:
            lock.close()


def _claimed(folder: Path, shard: Shard | None) -> list[Lock]:
    """Create the folder if necessary and lock it."""
    locks = []
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(exist_ok=True)
        if not (folder / _LOCK).exists() and any(entry.suffix != ".lock" for entry in folder.iterdir()):
            raise LibraryError(f"'{folder}' is needed as a work folder, but holds something else: choose another path.")
        locks.append(Lock(folder / _LOCK, shared=shard is not None))
        if shard is not None:
            locks.append(Lock(folder / f"shard-{shard.place}-of-{shard.count}.lock"))
        return locks
    except BlockingIOError as error:
        for lock in locks:
            lock.close()
        what = f" shard {shard} or the whole data set" if shard else ""
        raise LibraryError(
            f"Another process is mining{what} in '{folder}': wait until it ends, or choose another path."
        ) from error
    except OSError as error:
        path = folder.with_name(folder.name.removesuffix(_SUFFIX))
        raise LibraryError(f"No library can be written to '{path}': {error.strerror} ('{error.filename}').") from error


def _open_or_begin(work: Work, identity: Mapping[str, Any], *, alone: bool, overwrite: bool, restart: bool) -> None:
    """Check that the folder is of the same identity, or begin a new one; `alone` if no other process works there."""
    folder = work.folder
    setup = Lock(folder / "setup.lock", wait=True)  # so that only one of two shards that start together begins
    try:
        if alone:
            if (folder / _REPLACED).exists() and not work.path.exists():
                os.rename(folder / _REPLACED, work.path)  # interrupted while overwriting
            for unfinished in [file for file in folder.rglob(".*") if file.is_file()]:
                unfinished.unlink()
        check_free(work.path, overwrite=overwrite)
        stored = None if restart or (alone and not work.anything_done()) else stored_identity(folder)
        if stored is not None:
            check_identity(folder, stored, identity)
            return
        _begin(folder, json.dumps(identity, indent=1, ensure_ascii=False, sort_keys=True).encode())
    finally:
        setup.close()


def _begin(folder: Path, identity: bytes) -> None:
    _empty(folder)
    for name in _FOLDERS:
        (folder / name).mkdir()
    write_file(folder / IDENTITY, identity)


def gather(folder: Path, others: Sequence[Path]) -> None:
    """Copy parts and vectors of other work folders of the same identity into a folder, which is created if necessary.

    Raises
    ------
    LibraryError
        If another process works there, or the system refuses to write.
    """
    locks = _claimed(folder, None)
    try:
        if not (folder / IDENTITY).exists():
            _begin(folder, (others[0] / IDENTITY).read_bytes())
        manifest = stored_identity(folder)["manifest"]
        if others and manifest["settings"]["vectors"]:
            # before the parts, so that blocks recorded as done have their vectors
            take_vectors(folder / LIBRARY, [other / LIBRARY for other in others], manifest)
        for number, other in enumerate(others):
            for file in sorted((other / PARTS).glob("*.safetensors")):
                write_file(folder / PARTS / f"from-{number}-{file.name}", file.read_bytes())
    finally:
        for lock in locks:
            lock.close()


def check_identity(folder: Path, stored: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Raise an error if an interrupted run mined something else; `source` may differ.

    Raises
    ------
    LibraryError
        Names the first difference.
    """
    if difference := difference_of(stored, identity, ("manifest.source",)):
        raise LibraryError(
            f"'{folder}' holds an interrupted run of something else: {difference}. Choose another path, or start again "
            "(restart=True, --restart)."
        )


def difference_of(stored: Mapping[str, Any], given: Mapping[str, Any], ignored: tuple[str, ...]) -> str:
    """Describe the first difference of two descriptions, as the end of a sentence; empty if there is none.

    Known outputs may differ by rounding errors, because shards run on different machines.

    >>> difference_of({"settings": {"k": 4}, "n": 1}, {"settings": {"k": 5}, "n": 2}, ("n",))
    'its settings.k is 4, and now it is 5'
    """
    theirs, ours = (
        {key: value for key, value in _leaves(json.loads(json.dumps(some))) if not key.startswith(ignored)}
        for some in (stored, given)
    )
    # labels last: without their classes explained, there are none
    for key in sorted({*ours, *theirs}, key=lambda name: (name.endswith(_LABELS), name)):
        if key.endswith(KEY):
            if difference := difference_of_outputs(theirs.get(key), ours.get(key)):
                return difference
        elif ours.get(key) != theirs.get(key):
            if key.endswith(_LABELS):
                return "it was mined with other labels"
            then, now = shortened(theirs.get(key)), shortened(ours.get(key))
            return f"its {key.removeprefix('manifest.')} is {then}, and now it is {now}"
    return ""


def _leaves(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping) and not name.endswith(KEY):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value


def _remove_if_unused(folder: Path, lock: Lock) -> None:
    try:
        lock.take(shared=False)
    except BlockingIOError:
        return  # other processes work here
    _empty(folder)
    _remove(folder)


def _empty(folder: Path) -> None:
    """Remove all work, beginning with the files without which the folder is not used."""
    (folder / IDENTITY).unlink(missing_ok=True)
    (folder / SURVEYED).unlink(missing_ok=True)
    for name in (*_FOLDERS, _REPLACED):
        shutil.rmtree(folder / name, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Remove the empty folder with its locks; it stays if it holds other files."""
    for lock in folder.glob("*.lock"):
        lock.unlink()
    with suppress(OSError):
        folder.rmdir()
