"""What zennit-crp gave, where it can be compared with."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor

from tests.golden import cases

_HERE = Path(__file__).parent


def recorded(model: str) -> dict[str, Tensor]:
    """All arrays of `make_golden.py`; skips the test where its models or images cannot be made again."""
    if reason := _differs(model):
        pytest.skip(f"golden of zennit-crp: {reason}")
    return _arrays()


@cache
def _arrays() -> dict[str, Tensor]:
    return load_file(_HERE / "zennit_crp.safetensors")


@cache
def _differs(model: str) -> str | None:
    """What is not as it was when recording, in words."""
    facts = json.loads((_HERE / "zennit_crp.json").read_text())
    for package in (torch, torchvision):
        version = package.__version__.partition("+")[0]
        if version != facts[package.__name__]:
            return f"recorded with {package.__name__} {facts[package.__name__]}, here is {version}"
    if cases.checksum(cases.model(model)) != facts["weights"][model]:
        return f"seed 0 gives other weights of {model} on this machine"
    if cases.checksum_of_tensors([cases.images(2), *cases.mining_samples()]) != facts["images"]:
        return "seed 5 gives other images on this machine"
    return None
