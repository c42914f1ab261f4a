"""Files: the path that a user means, and writing a file completely or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from crp.errors import CrpError, InputError, LibraryError, shortened

# Of a file or folder, in bytes; all common file systems have this limit.
_LONGEST_NAME = 255


def user_path(path: str | os.PathLike[str]) -> Path:
    """Return the path that a user gave, with a leading `~` or `~name` replaced by the home folder.

    Raises
    ------
    InputError
        If it is neither a string nor a `pathlib.Path`, or a name in it is too long.

    >>> user_path("~/nets/resnet.crp") == Path.home() / "nets" / "resnet.crp"
    True
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"A path is a string or a pathlib.Path, given {shortened(path)}.")
    found = Path(expanded(os.fspath(path)))
    for part in found.parts:
        if len(os.fsencode(part)) > _LONGEST_NAME:
            raise InputError(
                f"The name {shortened(part, 40)} is too long for a file: at most {_LONGEST_NAME} bytes are allowed."
            )
    return found


def expanded(text: str) -> str:
    """Replace a leading `~` or `~name` of a text that may begin with a path, such as `~/nets.py:make`."""
    return os.path.expanduser(text)


def write_file(
    path: Path,
    content: bytes | Iterable[bytes | memoryview] | Callable[[BinaryIO], object],
    *,
    durable: bool = True,
    refusal: type[CrpError] = LibraryError,
) -> None:
    """Write a file completely or not at all: under a temporary name in the same folder, then renamed.

    Parameters
    ----------
    path
        The file. An older one is replaced at the end.
    content
        The bytes, the bytes piece by piece, or a function that writes them to the open file.
    durable
        Whether to wait until the bytes and the name are on the disk, so that the file survives a power cut.
    refusal
        Type of the error to raise.

    Raises
    ------
    CrpError
        Of type `refusal`, if the system refuses (read-only folder, full disk). The file is then as before.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with open(temporary, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.writelines([content] if isinstance(content, bytes) else content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            sync_folder(path.parent)
    except OSError as error:
        raise refusal(f"'{path}' cannot be written: {error.strerror}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, so that a file renamed there survives a power cut."""
    if os.name != "posix":
        return  # other systems cannot open a folder
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        pass  # some network file systems cannot do this, and the file itself is safe
    finally:
        os.close(handle)
