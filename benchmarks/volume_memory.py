"""Memory that the page of a volume needs, compared with one gradient: `python -m benchmarks.volume_memory`.

A network on a volume of 96 x 96 x 96 values, batch 1, in fresh processes: (a) forward pass and gradient of the input,
(b) `explain` and the page. What counts is the largest resident memory of each above what it was with the network, the
input and everything that is imported in memory.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

import crp
from crp.media import Medium
from crp.visualization import Atlas

LAYERS = ("3", "6", "9")
_KINDS = ("gradient", "page")


def network(side: int = 96) -> tuple[nn.Module, torch.Tensor]:
    """Return a network of four convolutions with random weights, and a volume of random values with a bright box."""
    torch.manual_seed(0)
    blocks: list[nn.Module] = []
    for given, made in ((1, 16), (16, 32), (32, 64), (64, 128)):
        blocks += [nn.Conv3d(given, made, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2)]
    model = nn.Sequential(*blocks, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(128, 3)).eval()
    volume = 0.1 * torch.randn(1, side, side, side)
    volume[:, side // 4 : side // 2, side // 4 : side // 2, side // 2 : 3 * side // 4] += 1
    return model, volume


def growth(kind: str, folder: Path) -> float:
    """Return by how much the peak of this process exceeds what it holds before the work, in MiB."""
    torch.set_num_threads(1)
    model, volume = network()
    library = crp.open_library(folder / "library.crp")
    small = network(16)[1]
    # what is imported or initialised on first use
    torch.autograd.grad(model(small[None].requires_grad_()).sum(), list(model.parameters()))
    Atlas(crp.explain(model, small, library, patches=0)).html()
    before = _resident()
    if kind == "gradient":
        data = volume[None].requires_grad_()
        torch.autograd.grad(model(data).max(), data)
    else:
        Atlas(crp.explain(model, volume, library)).save(folder / "page.html")
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024) - before


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def mined(folder: Path) -> None:
    """Mine the library of the page, from one small volume."""
    model, volume = network(32)
    crp.mine(
        model, [(volume, 0)], layers=LAYERS, path=folder / "library.crp", preprocessing=Medium.volume(),
        class_names=["a", "b", "c"], patches=2, k=2, progress=False,
    )  # fmt: skip


def main() -> None:
    """Print both and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--of", choices=_KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.of:
        sys.stdout.write(f"{growth(chosen.of, chosen.folder)}\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        mined(Path(folder))
        found = {}
        for kind in _KINDS:
            command = [sys.executable, "-m", "benchmarks.volume_memory", "--of", kind, "--folder", folder]
            found[kind] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        size = (Path(folder) / "page.html").stat().st_size
    sys.stdout.write(
        f"gradient {found['gradient']:.0f} MiB, page {found['page']:.0f} MiB: {found['page'] / found['gradient']:.2f} "
        f"times; file {size / 1e6:.1f} MB\n"
    )


if __name__ == "__main__":
    main()
