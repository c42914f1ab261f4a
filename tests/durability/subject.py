"""A small float32 net and 77 noisy samples, of which one cannot be read; mined in blocks of 8, the last one open."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from crp.mining import mine

BLOCK = 8
UNREADABLE = 21


class Samples:
    """The first `length` samples; number 21 cannot be read."""

    def __init__(self, length: int = 77):
        generator = torch.Generator().manual_seed(4)
        self.data = torch.randn(77, 2, 10, 10, generator=generator)[:length]
        self.labels = torch.randint(0, 3, (77,), generator=generator)[:length]

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index == UNREADABLE:
            raise OSError("the disk has a scratch")
        return self.data[index], int(self.labels[index])


def net() -> nn.Module:
    torch.manual_seed(3)
    hidden = [nn.Conv2d(2, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*hidden, nn.Linear(32, 3)).eval()


def mined(path: Path, *, length: int = 77, **options: Any):
    """Mine it, with a checkpoint after every block unless said otherwise."""
    told = {"layers": ["0", "3"], "k": 5, "patches": 2, "block_size": BLOCK, "threads": 2, "skip_bad": True,
            "vectors": True}  # fmt: skip
    quiet = {"checkpoint": 0.0, "progress": False}
    return mine(net(), Samples(length), path=path, **{**told, **quiet, **options})


def digest(library: Path) -> str:
    """One SHA-256 over names and bytes of all files of a library."""
    whole = hashlib.sha256()
    for file in sorted(file for file in library.rglob("*") if file.is_file()):
        whole.update(f"{file.relative_to(library)}\n".encode() + hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()
