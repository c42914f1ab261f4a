"""One process at a time where it matters, also across a cluster's shared folders."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None

_OPEN: weakref.WeakSet[Lock] = weakref.WeakSet()


class Lock:
    """A lock on a file, given back when it is closed or the process ends, however it ends.

    Parameters
    ----------
    path
        The file; it is made.
    shared
        Whether others may share it.
    wait
        Whether to wait for it.

    Raises
    ------
    BlockingIOError
        If another process has it, and it is not to be waited for.
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
                pass  # removed by the process that had it
            except BaseException:
                self.close()
                raise
            self.close()

    def take(self, *, shared: bool, wait: bool = False) -> None:
        """Change between shared and alone; errors as above."""
        if fcntl is not None:
            how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
            fcntl.flock(self._file, how)

    def close(self) -> None:
        """Give it back."""
        if self in _OPEN:
            _OPEN.discard(self)
            os.close(self._file)


def _close_in_child() -> None:
    # A process that reads ahead may live seconds longer than a killed parent, and would keep its locks.
    for lock in list(_OPEN):
        lock.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
