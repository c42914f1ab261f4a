"""Memory, size and time of a checkpoint with a thousand classes and many concepts.

    python -m tests.durability.tallies
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from crp.mining.durable.checkpoints import read_part, write_part
from crp.mining.tally import Tally

NETS = {
    "VGG16, 13 convolutions": [64, 64, 128, 128, 256, 256, 256, *[512] * 6],
    "ResNet-50, 16 blocks": [*[256] * 3, *[512] * 4, *[1024] * 6, *[2048] * 3],
}


def peak() -> float:
    """Largest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str) -> None:
    """Tally some blocks of noise, write a part, merge it."""
    before, sizes, rng = peak(), NETS[name], np.random.default_rng(0)
    tally = Tally({f"layer{place}": size for place, size in enumerate(sizes)}, 1000, 16, 10, 0)
    seconds = []
    for block in range(4):
        samples = np.arange(32 * block, 32 * block + 32)
        begun = time.process_time()
        for layer, size in zip(tally.sums, sizes, strict=True):
            scores = rng.standard_normal((32, size)).astype(np.float32)
            for mode in ("relevance", "activation"):
                tally.best[layer, mode].add(samples, scores, samples % 1000, np.zeros((32, size), np.int64))
            tally.sums[layer].add(samples % 1000, scores / 100.0, scores.astype(np.float64))
        seconds.append(time.process_time() - begun)
    memory = peak() - before
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "part.1.safetensors"
        begun = time.perf_counter()
        write_part(file, tally, [(0, 4)], {})
        written, after, size = time.perf_counter() - begun, peak() - before, file.stat().st_size
        begun = time.perf_counter()
        read_part(file).merge_into(tally)
        merged = time.perf_counter() - begun
    print(f"{name}: {sum(sizes)} concepts, 1000 classes, 16 references")
    print(f"  tally {memory:.0f} MB resident, {after:.0f} MB at most while it is written: {size / 1e6:.0f} MB")
    print(f"  written in {written:.1f} s, merged in {merged:.1f} s")
    print(f"  {peak() - before:.0f} MB at most while it is merged, with the mapped file")
    print(f"  {min(seconds) / 32 * 1000:.1f} ms of CPU per sample")


if __name__ == "__main__":
    for net in NETS:
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(net,))
        process.start()
        process.join()
