"""A million samples through a tiny net: whether time and memory stay flat, and the library is what the formula says.

    python -m tests.durability.million --samples 1000000
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from crp.library import open_library
from crp.mining import mine

LAYERS = {"0": 8, "2": 16}
CLASSES, K, PATCHES = 10, 16, 8


class Many:
    """As many samples as wanted, made of a few; notes time and memory every tenth of the way."""

    def __init__(self, length: int):
        self.length, self.notes = length, []
        self.pool = torch.randn(4096, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index % (self.length // 10) == 0:
            self.notes.append((index, time.process_time(), resident()))
        return self.pool[index % 4096] * (1 + index / self.length), index % CLASSES


def resident() -> float:
    """Memory of this process, in MB."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def formula(classes: int, concepts: int, k: int) -> dict[str, int]:
    """Bytes of a layer's tables (docs/scale.md)."""
    references = 2 * concepts * k * 28
    table = classes * concepts
    return {"references": references, "statistics": 40 * table, "state": references + 72 * table}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=1_000_000)
    length = parser.parse_args().samples
    torch.manual_seed(0)
    hidden = [nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten()]
    net = nn.Sequential(*hidden, nn.Linear(256, CLASSES))
    samples = Many(length)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "million.crp"
        options = {"k": K, "patches": PATCHES, "block_size": 256, "threads": 1, "progress": False}
        mine(net, samples, layers=list(LAYERS), path=path, **options)
        # the fingerprint has asked for some samples before the pass began
        last = max(place for place, note in enumerate(samples.notes) if note[0] == 0)
        notes = samples.notes[last : last + 10]
        print(f"{length} samples, 1 thread, blocks of 256, a checkpoint every 60 s")
        print("from sample   microseconds of CPU a sample   resident MB")
        for (index, begun, memory), (_, ended, _) in pairwise(notes):
            print(f"{index:>11}   {(ended - begun) / (length // 10) * 1e6:>28.0f}   {memory:>11.0f}")
        sizes = [formula(CLASSES, concepts, K) for concepts in LAYERS.values()]
        for table in ("references", "statistics", "state"):
            found = sum(file.stat().st_size for file in path.rglob(f"{table}.safetensors"))
            print(f"{table}: {found} bytes, formula {sum(size[table] for size in sizes)} and names")
        patches = sum(file.stat().st_size for file in path.rglob("patches.safetensors"))
        print(f"patches: {patches} bytes, of {2 * PATCHES * sum(LAYERS.values())} patches of at most 5 x 5 pixels")
        whole = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        print(f"the library: {whole} bytes")
        opened = []
        for _ in range(5):
            begun = time.perf_counter()
            library = open_library(path)
            library.references("2", "relevance").sample[7]
            library.patches("2", 7, "relevance")
            opened.append(1000 * (time.perf_counter() - begun))
        print(f"opening it and reading one concept: {min(opened):.1f} to {max(opened):.1f} ms")


if __name__ == "__main__":
    main()
