"""Locks on files, so that one process works at a time, also on the shared file system of a cluster."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked
    fcntl = None

_OPEN: weakref.WeakSet[Lock] = weakref.WeakSet()


class Lock:
    """A lock on a file. It is released when it is closed or the process ends, in any way.

    Parameters
    ----------
    path
        The file, which is created.
    shared
        Whether other processes may share the lock.
    wait
        Whether to wait for the lock.

    Raises
    ------
    BlockingIOError
        If another process holds it and `wait` is false.
    """

    def __init__(self, path: Path, *, shared: bool = False, wait: bool = False):
        while True:
            self._file = os.open(path, os.O_CREAT | os.O_RDWR)
            _OPEN.add(self)
            try:
                self.take(shared=shared, wait=wait)
                if os.path.samestat(os.fstat(self._file), os.stat(path)):
                    return
            except FileNotFoundError:
                pass  # removed by the process that held it
            except BaseException:
                self.close()
                raise
            self.close()

    def take(self, *, shared: bool, wait: bool = False) -> None:
        """Acquire the lock, or change it between shared and exclusive; errors as above."""
        if fcntl is not None:
            how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
            fcntl.flock(self._file, how)

    def close(self) -> None:
        """Release the lock."""
        if self in _OPEN:
            _OPEN.discard(self)
            os.close(self._file)


def _close_in_child() -> None:
    # A process that reads ahead may outlive a killed parent by seconds and would keep its locks.
    for lock in list(_OPEN):
        lock.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
