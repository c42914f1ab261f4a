"""The processes that share one run of mining: who they are, and waiting for one another.

They exchange nothing but "I am here": what they find travels through files in the work folder. So gloo does, also where
GPUs compute, and a run may go on with another number of processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed

from crp.errors import CrpError

# Processes wait for the slowest one, which may take hours longer.
_PATIENCE = timedelta(days=30)


@dataclass(frozen=True)
class Processes:
    """This process among all that mine: its number `rank`, of `count`."""

    rank: int = 0
    count: int = 1
    _group: torch.distributed.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether this process does what only one may do."""
        return self.rank == 0

    def wait(self) -> None:
        """Return when all have come here.

        Raises
        ------
        CrpError
            If one never will.
        """
        if self._group is None:
            return
        try:
            torch.distributed.barrier(self._group)
        except RuntimeError as error:
            raise CrpError("Another process of this run has ended, so this one ends too.") from error


@contextmanager
def joined(distributed: bool) -> Iterator[Processes]:
    """This process alone; or, if `distributed`, among those that torchrun (or the caller) started.

    A process group of the caller is used and left as it is.
    """
    if not distributed:
        yield Processes()
        return
    own = not torch.distributed.is_initialized()
    if own:
        torch.distributed.init_process_group("gloo", timeout=_PATIENCE)
    try:
        group = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)
        yield Processes(torch.distributed.get_rank(), torch.distributed.get_world_size(), group)
    finally:
        if own:
            torch.distributed.destroy_process_group()
