"""SHA-256 of every file of a library, in the format of `sha256sum --check`.

Each folder of a library that has files also has a `SHA256SUMS`, whose lines name the files relative to the library's
root. So a file of one layer cannot pass for that of another, and two processes that complete two layers write to
different files. Segments of patches are not listed: each is named by its checksum. The names of concepts are not listed
either: people change them.

Checksums show that a library is what was written: no copy was truncated and no disk failed. They do not show who wrote
it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from pathlib import Path

from crp.files import write_file

from .fingerprints import file_digest
from .names_file import FILE as NAMES
from .tables import check_file, damaged

FILE = "SHA256SUMS"

# Suffixes of the files that make up a library. Others (created by a desktop, left by a killed process) are not read.
_READ = (".json", ".safetensors")

# A segment of patches, which is named by its checksum (`patch_segments`).
_SEGMENT = re.compile(r"layers/[^/]+/patches/([0-9a-f]{64})\.safetensors")

_LINE = re.compile(r"([0-9a-f]{64})  ([^\n]+)")


def write_checksums(folder: Path) -> None:
    """Write the checksums of all files of a library: the last step of creating it."""
    listed = [file for file in library_files(folder) if not _SEGMENT.fullmatch(_name(folder, file))]
    for parent in sorted({file.parent for file in listed}):
        _write(folder, parent, {_name(folder, file): [file_digest(file)] for file in library_files(folder, parent)})


def replace_with_checksum(folder: Path, file: Path, content: bytes) -> None:
    """Replace a file of a library and its checksum, so that the library is valid after an interruption at any time.

    Until the file is replaced, both its former and its new checksum are listed.

    Raises
    ------
    LibraryError
        If the system refuses, or the checksums are damaged.
    """
    known, name = read_checksums(folder, file.parent), _name(folder, file)
    digest = hashlib.sha256(content).hexdigest()
    _write(folder, file.parent, {**known, name: [*known.get(name, []), digest]})
    write_file(file, content)
    _write(folder, file.parent, {**known, name: [digest]})


def read_checksums(folder: Path, parent: Path) -> dict[str, list[str]]:
    """Read the checksums listed in one folder of a library, by file name relative to the library's root.

    Raises
    ------
    LibraryError
        If the file of checksums cannot be read.
    """
    file = parent / FILE
    if not file.exists():
        return {}
    check_file(folder, file)
    try:
        text = file.read_bytes().decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise damaged(file, str(error)) from error
    known = defaultdict(list)
    for line in text.splitlines():
        parts = _LINE.fullmatch(line)
        if parts is None:
            raise damaged(file, f"a line is {line[:80]!r}")
        known[parts[2]].append(parts[1])
    return dict(known)


def library_files(folder: Path, parent: Path | None = None) -> list[Path]:
    """List the files below a library's folder, broken links included; with `parent`, those directly in that folder.

    Links to folders are not followed. Files of checksums and the names of concepts are omitted.
    """
    found = []
    for place, folders, names in os.walk(folder if parent is None else parent):
        if parent is not None:
            folders.clear()
        found += [Path(place) / name for name in names if name != FILE]
    return sorted(file for file in found if file != folder / NAMES)


def wrong_files(folder: Path) -> tuple[list[str], list[str]]:
    """Compare every file with its checksum.

    Returns
    -------
    tuple of two lists of str
        Sentences about what is wrong, and about files that are not part of the library.
    """
    wrong, foreign = [], []
    noted: dict[str, list[str]] = {}
    files = {_name(folder, file): file for file in library_files(folder)}
    for parent in sorted({folder, *(file.parent for file in files.values())}):
        noted |= read_checksums(folder, parent)
    if not noted:
        return [f"It holds no checksums ({FILE}), so its files cannot be compared with what was written."], []
    for name in sorted({*files, *noted}):
        if name not in noted and (named := _SEGMENT.fullmatch(name)):
            if not files[name].is_file() or file_digest(files[name]) != named[1]:
                wrong.append(f"{name!r} does not hold what was written (its name is its checksum).")
        elif name not in noted and name.endswith(_READ):
            wrong.append(f"{name!r} has no checksum.")
        elif name not in noted:
            foreign.append(f"{name!r} is not part of the library, and nothing reads it.")
        elif name not in files:
            wrong.append(f"{name!r} is missing.")
        elif not files[name].is_file() or file_digest(files[name]) not in noted[name]:
            wrong.append(f"{name!r} does not hold what was written (its checksum differs).")
    return wrong, foreign


def _name(folder: Path, file: Path) -> str:
    return file.relative_to(folder).as_posix()


def _write(folder: Path, parent: Path, known: dict[str, list[str]]) -> None:
    lines = [f"{digest}  {name}\n" for name, digests in sorted(known.items()) for digest in dict.fromkeys(digests)]
    write_file(parent / FILE, "".join(lines).encode("ascii"))
