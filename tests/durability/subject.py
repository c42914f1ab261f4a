"""A small float32 net and 77 noisy samples, one of them unreadable; mined in blocks of 8, the last one incomplete."""

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


class Interrupting(Samples):
    """Raises KeyboardInterrupt when sample `at` is read for the `time`-th time, and records what was read."""

    def __init__(self, at: int, time: int = 1):
        super().__init__()
        self.at, self.left, self.read = at, time, []

    def __getitem__(self, index):
        self.read.append(index)
        self.left -= index == self.at
        if index == self.at and self.left == 0:
            raise KeyboardInterrupt
        return super().__getitem__(index)


def work(path: Path) -> Path:
    """Work folder of a library."""
    return path.with_name(f"{path.name}.partial")


def was_passed_from(first: int, read: list[int]) -> bool:
    """Whether the pass over the data started at sample `first`. Nothing else reads so many samples in a row."""
    runs = [list(range(begin, 77)) for begin in (first, first - 1)]
    found = [any(read[place : place + len(run)] == run for place in range(len(read))) for run in runs]
    return found == [True, False]


def net() -> nn.Module:
    torch.manual_seed(3)
    hidden = [nn.Conv2d(2, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*hidden, nn.Linear(32, 3)).eval()


def mined(path: Path, *, length: int = 77, **options: Any):
    """Mine the samples, by default with a checkpoint after every block."""
    given = {"layers": ["0", "3"], "k": 5, "patches": 1, "block_size": BLOCK, "threads": 2, "skip_bad": True,
            "vectors": True, "patches_now": "all"}  # fmt: skip
    quiet = {"checkpoint": 0.0, "progress": False}
    return mine(net(), Samples(length), path=path, **{**given, **quiet, **options})


def digest(library: Path) -> str:
    """SHA-256 over the names and bytes of all files of a library."""
    whole = hashlib.sha256()
    for file in sorted(file for file in library.rglob("*") if file.is_file()):
        whole.update(f"{file.relative_to(library)}\n".encode() + hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()
