"""Keeps freed memory in the process while similar work is repeated.

glibc requests memory from the kernel for every large tensor and returns it when the tensor is freed. The kernel clears
each new page on first access, which costs a CPU as much as several passes of arithmetic over it: a fifth of the time of
mining VGG16. On a GPU torch's caching allocator avoids this.
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

# Parameters of glibc's mallopt (malloc.h): how much free memory at the end of the heap is returned to the kernel, by
# how much the heap grows at a time, which allocations are mapped separately (and returned when they are freed), and how
# many may be.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
_KEPT = {_TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 2**26, _MMAP_MAX: 0}
# glibc's defaults, except for the threshold, which glibc raises up to this value by itself
_USUAL = {_TRIM_THRESHOLD: 2**26, _TOP_PAD: 2**17, _MMAP_MAX: 2**16}

# Of work on large tensors, all but the small ones are returned: in the heap, what is kept between them would hold them.
# Afterwards, the threshold is the largest that glibc chooses by itself.
_RETURNED, _NOT_RETURNED = {_MMAP_THRESHOLD: 2**20}, {_MMAP_THRESHOLD: 2**25}

# Returning free memory inside the heap takes milliseconds, so it happens only after longer work than this (s).
_LONG = 1.0

# What one sample's largest tensor may have (bytes). Small tensors settle in the places of larger ones that were freed,
# and the next large one needs a new place: with volumes, a process grew to 1.6 times its size.
_LARGEST = 2**25

_lock = Lock()
_held = 0


@contextmanager
def memory_kept(largest: int = 0) -> Iterator[None]:
    """Keep freed memory for the next tensors until the last of all open contexts ends.

    Has no effect if the C library is not glibc. If tensors are so large that the process would grow, they are returned.

    Parameters
    ----------
    largest
        Size of one sample's largest tensor, in bytes.
    """
    global _held
    if largest > _LARGEST:
        _set(_RETURNED)
        try:
            yield
        finally:
            _set(_NOT_RETURNED)
        return
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
    """Return the C library, or a stand-in whose functions do nothing."""
    if platform.libc_ver()[0] != "glibc":
        return SimpleNamespace(mallopt=lambda option, value: None, malloc_trim=lambda left: None)
    return ctypes.CDLL(None)
