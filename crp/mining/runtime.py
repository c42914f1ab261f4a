"""What mining sets for itself and gives back: thread count, precision, random state; and the memory it took."""

from __future__ import annotations

import random
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from crp.attribution.isolation import isolated


@contextmanager
def surroundings(threads: int) -> Iterator[None]:
    """Compute with `threads` threads; afterwards all is as before, random states too, also after an error.

    The last bits of relevance depend on the thread count, so the library stores it and patches added later use it.
    A data set may draw random numbers while it loads; that is no reason to change the caller's.

    On an NVIDIA GPU, torch computes convolutions of float32 in TF32 (10 bits of a number in place of 23) unless told
    otherwise; here it is told, and TF32 has to be asked for.
    """
    before = torch.get_num_threads()
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002  (the global state is what is kept)
    torch.set_num_threads(threads)
    try:
        with tensor_cores(tf32=False), isolated():
            yield
    finally:
        torch.set_num_threads(before)
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        random.setstate(states[2])


@contextmanager
def tensor_cores(*, tf32: bool) -> Iterator[None]:
    """Convolutions and products of float32 on an NVIDIA GPU in TF32, or not; afterwards as before."""
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
    """What this process has taken at most so far, for people; libraries that it loaded are part of it."""
    unit = 1 if sys.platform == "darwin" else 1024
    told = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6:,.0f} MB"
    if torch.cuda.is_initialized():
        told += f", on the GPU {torch.cuda.max_memory_allocated() / 1e6:,.0f} MB"
    return told
