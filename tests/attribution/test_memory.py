"""Freed memory stays with the process where it is asked to, and only there."""

import platform
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from crp.attribution import RelevanceFlow, memory
from tests import processes

_FAULTS = """
import resource, torch
from contextlib import nullcontext
from crp.attribution import memory
from crp.attribution.memory import memory_kept

memory._LONG = 0.0

def faults(context):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    with context:
        for _ in range(10):
            torch.zeros(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])

free = faults(nullcontext())
before = resident()
print(free, faults(memory_kept()), resident() - before)
"""


@pytest.fixture
def options(monkeypatch):
    """What the C library was told, in order."""
    monkeypatch.setattr(memory, "_held", 0)
    told = []
    library = SimpleNamespace(
        mallopt=lambda option, value: told.append((option, value)), malloc_trim=lambda left: told.append(left)
    )
    monkeypatch.setattr(memory, "_glibc", lambda: library)
    return told


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_is_asked_of_the_system_once():
    # where little is on the heap yet: its gaps decide how often a tensor finds the memory of the last one
    found = processes.run(["-c", _FAULTS], cwd=Path.cwd(), imported=("crp.attribution",))
    free, kept, left = map(int, found.stdout.split())
    # the pages of ten tensors, and of one to three, as the heap's gaps are; none of them stay
    assert kept < free / 2
    assert left < free / 50


def test_nested_requests_end_with_the_last(options):
    first, second = memory.memory_kept(), memory.memory_kept()
    first.__enter__()
    second.__enter__()
    kept = list(memory._KEPT.items())
    assert options == kept
    first.__exit__(None, None, None)
    assert options == kept
    second.__exit__(None, None, None)
    assert options == kept + list(memory._USUAL.items())


def test_all_is_given_back_after_long_work(options, monkeypatch):
    monkeypatch.setattr(memory, "_LONG", 0.0)
    with memory.memory_kept():
        pass
    assert options == [*memory._KEPT.items(), *memory._USUAL.items(), 0]


def test_a_flow_that_fails_ends_its_request(options):
    model = nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match="stop"), RelevanceFlow(model, None, torch.ones(1, 2)):
        raise RuntimeError("stop")
    assert options == list(memory._KEPT.items()) + list(memory._USUAL.items())


def test_a_flow_of_a_volume_returns_its_memory(options):
    # 8 channels of 104 x 104 x 104 numbers are 36 MB; two samples with 18 MB each are small ones
    model = nn.Conv3d(1, 8, 1).requires_grad_(False)
    with RelevanceFlow(model, None, torch.ones(1, 1, 104, 104, 104)) as flow:
        assert flow.chunk == 1
        assert options == list(memory._RETURNED.items())
    assert options == [*memory._RETURNED.items(), *memory._NOT_RETURNED.items()]
    options.clear()
    with RelevanceFlow(model, None, torch.ones(2, 1, 104, 104, 52)):
        assert options == list(memory._KEPT.items())


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    memory._glibc.cache_clear()
    try:
        with memory.memory_kept():
            assert isinstance(memory._glibc(), SimpleNamespace)
    finally:
        memory._glibc.cache_clear()
