"""What zennit-crp gave for `cases`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from tests.golden import cases

_HERE = Path(__file__).parent


@cache
def _arrays() -> dict[str, Tensor]:
    return load_file(_HERE / "zennit_crp.safetensors")


def recorded(name: str, model: nn.Module) -> dict[str, Tensor]:
    """All arrays of `make_golden.py`, after a check that this model and the images are those of the recording."""
    facts = json.loads((_HERE / "zennit_crp.json").read_text())
    assert cases.checksum(model) == facts["weights"][name]
    assert cases.checksum_of_images() == facts["images"]
    return _arrays()
