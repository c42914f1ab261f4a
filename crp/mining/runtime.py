"""Thread count, precision and random state, set for mining and restored; memory used."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch

from crp.attribution.isolation import isolated_pass

_TURNS = RLock()


@contextmanager
def surroundings(threads: int) -> Iterator[None]:
    """Compute with `threads` threads; afterwards restore the thread count and random states, also after an error.

    The last bits of relevance depend on the thread count, so the library stores it, and patches added later use it.
    Reading a data set may draw random numbers, which must not change the caller's random state. Both belong to the
    process, so its threads take turns.

    On an NVIDIA GPU, torch computes float32 convolutions in TF32 by default, with 10 bits of mantissa instead of 23.
    This is switched off here; mining uses TF32 only on request.
    """
    with _TURNS:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with tensor_cores(tf32=False), isolated_pass():
                yield
        finally:
            torch.set_num_threads(before)


@contextmanager
def tensor_cores(*, tf32: bool) -> Iterator[None]:
    """Switch TF32 for float32 convolutions and products on an NVIDIA GPU on or off, and restore the setting."""
    switches = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = tf32
    try:
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value


def peak_memory() -> str:
    """Describe the peak memory of this process so far, including loaded libraries."""
    unit = 1 if sys.platform == "darwin" else 1024
    used = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6:,.0f} MB"
    if torch.cuda.is_initialized():
        used += f", on the GPU {torch.cuda.max_memory_allocated() / 1e6:,.0f} MB"
    return used
