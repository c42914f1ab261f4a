"""Freed memory stays with the process where it is asked to, and only there."""

import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

from crp.attribution import RelevanceFlow, memory

_FAULTS = """
import resource, torch
from contextlib import nullcontext
from crp.attribution.memory import memory_kept

def faults(context):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    with context:
        for _ in range(20):
            torch.zeros(2**25)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults(nullcontext()), faults(memory_kept()), faults(nullcontext()))
"""


@pytest.fixture
def options(monkeypatch):
    """What the C library was told, in order."""
    monkeypatch.setattr(memory, "_held", 0)
    told = []
    monkeypatch.setattr(memory, "_mallopt", lambda: lambda option, value: told.append((option, value)))
    return told


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_is_asked_of_the_system_once():
    found = subprocess.run([sys.executable, "-c", _FAULTS], check=True, capture_output=True, text=True)
    before, kept, after = map(int, found.stdout.split())
    # the pages of twenty tensors, of one (the heap grows by more), of twenty again
    assert kept < before / 5
    assert after > before / 2


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


def test_a_flow_that_fails_ends_its_request(options):
    model = nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match="stop"), RelevanceFlow(model, None, torch.ones(1, 2)):
        raise RuntimeError("stop")
    assert options == list(memory._KEPT.items()) + list(memory._USUAL.items())


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    memory._mallopt.cache_clear()
    try:
        with memory.memory_kept():
            assert memory._mallopt()(0, 0) == 0
    finally:
        memory._mallopt.cache_clear()
