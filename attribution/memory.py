"""Memory that stays with the process while equal work is done over and over.

The C library of Linux asks the system for the memory of every large tensor and hands it back when the tensor is freed.
Pages from the system are cleared one by one when they are first touched, which costs a CPU as much as several passes of
arithmetic over them: a fifth of the time of mining VGG16. A GPU has no such loss, for torch keeps its memory itself.
"""

from __future__ import annotations

import ctypes
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from types import SimpleNamespace
from typing import Any

# Parameters of glibc's mallopt (malloc.h): free memory at the end of the heap that goes back to the system, how much
# the heap grows at a time, how many tensors may have a mapping of their own.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_KEPT = {_TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 2**26, _MMAP_MAX: 0}
# glibc's own; but for the threshold, which rises up to this by itself
_USUAL = {_TRIM_THRESHOLD: 2**26, _TOP_PAD: 2**17, _MMAP_MAX: 2**16}

# Giving back what lies free between other things takes milliseconds: too much after less work than this, in seconds.
_LONG = 1.0

_lock = Lock()
_held = 0


@contextmanager
def memory_kept() -> Iterator[None]:
    """Keep freed memory for the next tensor, until the last of those who asked for it ends.

    Does nothing where the C library is not glibc.
    """
    global _held
    start = time.monotonic()
    with _lock:
        _held += 1
        if _held == 1:
            _set(_KEPT)
    try:
        yield
    finally:
        with _lock:
            _held -= 1
            if not _held:
                _set(_USUAL)
                if time.monotonic() - start > _LONG:
                    _glibc().malloc_trim(0)


def _set(options: dict[int, int]) -> None:
    for option, value in options.items():
        _glibc().mallopt(option, value)


@cache
def _glibc() -> Any:
    """The C library, or what does nothing in its place."""
    if platform.libc_ver()[0] != "glibc":
        return SimpleNamespace(mallopt=lambda option, value: None, malloc_trim=lambda left: None)
    return ctypes.CDLL(None)
