"""The processes that share one run of mining, and barriers between them.

Processes exchange results through files in the work folder and use torch.distributed for barriers only. The gloo
backend is therefore enough, also with GPUs, and a run can resume with another number of processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed

from crp.errors import CrpError

# Timeout of barriers: the slowest process may take hours longer than the others.
_TIMEOUT = timedelta(days=30)


@dataclass(frozen=True)
class Processes:
    """The place of this process among those that share the run: number `rank` of `count`."""

    rank: int = 0
    count: int = 1
    _group: torch.distributed.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether this process does what only one process may do."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait for all processes (a barrier).

        Raises
        ------
        CrpError
            If another process has ended.
        """
        if self._group is None:
            return
        try:
            torch.distributed.barrier(self._group)
        except RuntimeError as error:
            raise CrpError("Another process of this run has ended, so this one ends too.") from error


@contextmanager
def joined(distributed: bool) -> Iterator[Processes]:
    """Join the processes that torchrun (or the caller) started; unless `distributed`, this process is alone.

    A process group of the caller is used and not closed.
    """
    if not distributed:
        yield Processes()
        return
    own = not torch.distributed.is_initialized()
    if own:
        torch.distributed.init_process_group("gloo", timeout=_TIMEOUT)
    try:
        group = torch.distributed.new_group(backend="gloo", timeout=_TIMEOUT)
        yield Processes(torch.distributed.get_rank(), torch.distributed.get_world_size(), group)
    finally:
        if own:
            torch.distributed.destroy_process_group()
