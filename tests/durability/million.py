"""A million samples with a tiny net: do time and memory stay constant, and is the library as large as the formula says?

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
CLASSES, K, OF_CLASS, PATCHES = 10, 16, 3, 8


class Many:
    """Any number of samples, made from a few; records time and memory at every tenth."""

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


def formula(concepts: int) -> dict[str, int]:
    """Bytes of a layer's tables (docs/scale.md)."""
    table = CLASSES * concepts
    references, of_class = 84 * K * concepts, 60 * OF_CLASS * table
    state = references + of_class + 72 * table
    return {"references": references, "class_references": of_class, "statistics": 40 * table, "state": state}


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
        kept = {"k": K, "class_references": OF_CLASS, "patches": PATCHES}
        mine(net, samples, layers=list(LAYERS), path=path, block_size=256, threads=1, progress=False, **kept)
        # fingerprints and patches also read single samples
        tenths = [length // 10 * place for place in range(10)]
        read = [note[0] for note in samples.notes]
        begin = next(place for place in range(len(read)) if read[place : place + 10] == tenths)
        notes = samples.notes[begin : begin + 10]
        print(f"{length} samples, 1 thread, blocks of 256, a checkpoint every 60 s")
        print("from sample   microseconds of CPU a sample   resident MB")
        for (index, begun, memory), (_, ended, _) in pairwise(notes):
            print(f"{index:>11}   {(ended - begun) / (length // 10) * 1e6:>28.0f}   {memory:>11.0f}")
        sizes = [formula(concepts) for concepts in LAYERS.values()]
        for table in sizes[0]:
            found = sum(file.stat().st_size for file in path.rglob(f"{table}.safetensors"))
            print(f"{table}: {found} bytes, formula {sum(size[table] for size in sizes)} and names")
        patches = sum(file.stat().st_size for file in path.rglob("patches.safetensors"))
        most = 3 * PATCHES * sum(LAYERS.values())
        print(f"patches: {patches} bytes, of at most {most} patches of at most 5 x 5 pixels")
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
