"""Files that are written completely or not at all, and names that are safe in a path and in an address."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import BinaryIO

from crp.errors import InputError
from crp.files import write_file


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file with `write`; it replaces `path` when it is complete.

    Raises
    ------
    InputError
        If the system refuses.
    """
    write_file(path, write, durable=False, refusal=InputError)


def write_changed(path: Path, content: bytes) -> bool:
    """Write a file, unless it holds this content already; return whether it was written."""
    if path.is_file() and path.read_bytes() == content:
        return False
    replace_file(path, lambda file: file.write(content))
    return True


def write_page(path: Path, text: str) -> None:
    """Write a page, unless it holds this text already; bytes of file names that are no text become question marks."""
    write_changed(path, text.encode("utf-8", "replace"))


def file_name(text: str, taken: Collection[str] = ()) -> str:
    """Make a name for a file or folder of letters, digits, `_`, `-` and dots; a number is added if it is taken.

    It needs no escaping in an address, and it is unique even if upper and lower case are not distinguished.

    >>> file_name("two words.v2"), file_name("Zebra", {"zebra"}), file_name("../..")
    ('two_words.v2', 'Zebra-2', '_')
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", text).lstrip(".-")[:80].rstrip(".") or "_"
    # "index" is the page that a folder opens with
    known = {"index", *(other.lower() for other in taken)}
    count = 1
    found = name
    while found.lower() in known:
        count += 1
        found = f"{name}-{count}"
    return found
