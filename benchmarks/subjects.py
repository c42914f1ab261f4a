"""Networks and inputs, the same on both sides: made from the same seeds, or read from the same files."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import torch
import torchvision
from torch import Tensor, nn
from zennit.canonizers import Canonizer
from zennit.torchvision import ResNetCanonizer

# The class that is explained where any will do.
TARGET = 1

# As many classes as a batch of a thousand-class data set shows. zennit-crp loops over the classes of a batch, and writes
# files for each class it has met: a few classes keep those from weighing more than in a long run.
_CLASSES = 16


def network(name: str, folder: Path) -> nn.Module:
    """A network in evaluation mode, float32; weights are random but for those in the folder of real data."""
    if name == "squeezenet":
        return _helpers("nets").trained_squeezenet(folder)
    if name == "resnet20":
        return _helpers("nets").trained_resnet20(folder)
    torch.manual_seed(0)
    if name == "tiny":
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU(), nn.Flatten(),
            nn.LazyLinear(20),
        ).eval()
    return getattr(torchvision.models, name)(weights=None).eval()


def canonizers(name: str) -> list[Canonizer]:
    """What the rules need done to a network first."""
    return [ResNetCanonizer()] if name.startswith("resnet") else []


def layers_of(model: nn.Module, layers: str) -> list[str]:
    """Names of layers, from the notation of `Row.layers`."""
    if not layers.startswith("conv"):
        return [layers]
    prefix = layers.partition(":")[2]
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and name.startswith(prefix)
    ]


def spread(count: int, of: int) -> list[int]:
    """`count` indices below `of`, evenly spread."""
    return [index * of // count for index in range(count)]


class Samples(torch.utils.data.Dataset):
    """Pictures in memory with their labels, `(tensor [c, H, W], int)`."""

    def __init__(self, data: Tensor, labels: Sequence[int]) -> None:
        self.data, self.labels = data, list(labels)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.data[index], self.labels[index]

    def first(self, count: int) -> Samples:
        """The first of them."""
        return Samples(self.data[:count], self.labels[:count])


def samples(net: str, count: int, size: int, folder: Path) -> Samples:
    """Pictures for a network: noise for those with random weights, photos for the trained ones."""
    if net == "squeezenet":
        photos = folder / ("imagenet_photos" if count > 1 else "imagenet_samples")
        index = json.loads((photos / "index.json").read_text())[:count]
        data = torch.stack([_helpers("photos").for_squeezenet(photos / entry["file"]) for entry in index])
        return Samples(data, [entry["class_index"] for entry in index])
    if net == "resnet20":
        data, labels = _helpers("photos").cifar10(folder, count)
        return Samples(data, labels.tolist())
    generator = torch.Generator().manual_seed(1)
    data = torch.randn(count, 3, size, size, generator=generator)
    return Samples(data, [index % _CLASSES if count > 1 else TARGET for index in range(count)])


def digest(model: nn.Module, data: Tensor) -> str:
    """What both sides compare before they are measured."""
    sha = hashlib.sha256()
    for tensor in [*model.state_dict().values(), data]:
        sha.update(tensor.flatten()[:: max(1, tensor.numel() // 1000)].cpu().numpy().tobytes())
    return sha.hexdigest()


def _helpers(name: str) -> ModuleType:
    """A module of tests/oracle, which knows the trained networks and reads their pictures."""
    qualified = f"benchmarks_oracle_{name}"
    if qualified not in sys.modules:
        path = Path(__file__).resolve().parent.parent / "tests" / "oracle" / f"{name}.py"
        specification = importlib.util.spec_from_file_location(qualified, path)
        sys.modules[qualified] = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(sys.modules[qualified])
    return sys.modules[qualified]
