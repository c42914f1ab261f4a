"""Networks and inputs, the same on both sides: made from the same seeds, or read from the same files."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from zennit.canonizers import Canonizer
from zennit.composites import EpsilonPlusFlat
from zennit.core import Composite
from zennit.torchvision import ResNetCanonizer

from benchmarks.rows import Row

# the same name in both environments, from this package or from zennit-crp
from crp.attribution import CondAttribution

# The class that is explained where it does not matter which.
TARGET = 1

# Few classes, as in one batch of a data set with a thousand. zennit-crp loops over the classes of a batch and writes
# files for each class it has seen: with more classes these files would cost more than they do in a long run.
_CLASSES = 16


class Samples(torch.utils.data.Dataset):
    """Pictures in memory with their labels, `(tensor [c, H, W], int)`; repeated if `length` is larger."""

    def __init__(self, data: Tensor, labels: Sequence[int], length: int | None = None) -> None:
        self.data, self.labels = data, list(labels)
        self.length = len(data) if length is None else length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        place = index % len(self.data)
        return self.data[place], self.labels[place]

    def first(self, count: int) -> Samples:
        """Return the first `count` samples."""
        return Samples(self.data, self.labels, count)


class Work:
    """What all kinds of work share on both sides: a network, its rules, its pictures.

    Parameters
    ----------
    row
        The row to run.
    dtype
        Dtype of weights and pictures.
    device
        Where to compute; the pictures of a data set stay on the CPU.
    folder
        Folder of trained weights and photos.
    scratch
        Folder for files that the other side, or another process, reads too.
    """

    def __init__(self, row: Row, dtype: torch.dtype, device: str, folder: Path, scratch: Path) -> None:
        self.row, self.device, self.scratch = row, device, scratch
        self.samples = _samples(row, folder)
        self.samples.data = self.samples.data.to(dtype)
        self.model = _network(row.net, folder).to(device, dtype).requires_grad_(False)
        self.layers = _layers(self.model, row.layers)
        self.shapes = self._shapes()

    def composite(self) -> Composite:
        """Return the rules that all rows use."""
        canonizers: list[Canonizer] = [ResNetCanonizer()] if self.row.net in ("resnet18", "resnet50") else []
        return EpsilonPlusFlat(canonizers=canonizers)

    def picture(self) -> Tensor:
        """Return the picture to explain, `[1, c, H, W]`; it requires gradients, because zennit-crp needs that."""
        return self.samples.data[:1].to(self.device, copy=True).requires_grad_()

    def heatmaps(self, concepts: list[int], batch: int) -> Tensor:
        """Compute conditional heatmaps `[K, H, W]` of one picture."""
        (layer,) = self.layers
        parts = CondAttribution(self.model).generate(
            self.picture(),
            [{layer: [concept], "y": self.samples.labels} for concept in concepts],
            self.composite(),
            batch_size=batch,
            verbose=False,
        )
        return torch.cat([part.heatmap for part in parts])

    def digest(self) -> str:
        """Return a digest of weights and pictures, compared between both sides before they are measured."""
        sha = hashlib.sha256()
        for tensor in [*self.model.state_dict().values(), self.samples.data]:
            sha.update(tensor.flatten()[:: max(1, tensor.numel() // 1000)].cpu().numpy().tobytes())
        return sha.hexdigest()

    def synchronize(self) -> None:
        """Wait for the GPU; a CPU does not run asynchronously."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Find the shape `[C, *S]` of each layer's output."""
        shapes: dict[str, tuple[int, ...]] = {}

        def hook(layer: str) -> Any:
            return lambda module, args, output: shapes.update({layer: tuple(output.shape[1:])})

        handles = [self.model.get_submodule(layer).register_forward_hook(hook(layer)) for layer in self.layers]
        with torch.no_grad():
            self.model(self.samples.data[:1].to(self.device))
        for handle in handles:
            handle.remove()
        return shapes


def spread(count: int, of: int) -> list[int]:
    """`count` indices below `of`, evenly spread.

    >>> spread(4, 10)
    [0, 2, 5, 7]
    """
    return [index * of // count for index in range(count)]


def _network(name: str, folder: Path) -> nn.Module:
    """Make a network in evaluation mode, float32; with random weights unless the folder has trained ones."""
    if name == "squeezenet":
        return _helpers("nets").trained_squeezenet(folder)
    if name == "resnet20":
        return _helpers("nets").trained_resnet20(folder)
    torch.manual_seed(0)
    if name == "tiny":
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU(),
            nn.Flatten(), nn.Linear(72, _CLASSES),
        ).eval()
    if name == "wide":
        return nn.Sequential(
            nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 512, 3, stride=2, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, _CLASSES),
        ).eval()
    return getattr(torchvision.models, name)(weights=None).eval()


def _layers(model: nn.Module, layers: str) -> list[str]:
    """Expand the notation of `Row.layers` to names of layers."""
    if layers == "blocks":
        kinds = ("EncoderBlock", "CNBlock")
        return [name for name, module in model.named_modules() if type(module).__name__ in kinds]
    if not layers.startswith("conv"):
        return [layers]
    prefix = layers.partition(":")[2]
    modules = model.named_modules()
    return [name for name, module in modules if isinstance(module, nn.Conv2d) and name.startswith(prefix)]


def _samples(row: Row, folder: Path) -> Samples:
    """Make pictures for a network: noise for random weights, photos for trained ones."""
    if row.net == "squeezenet":
        photos = folder / ("imagenet_photos" if row.samples > 1 else "imagenet_samples")
        index = json.loads((photos / "index.json").read_text())[: row.samples]
        data = torch.stack([_helpers("photos").for_squeezenet(photos / entry["file"]) for entry in index])
        return Samples(data, [entry["class_index"] for entry in index])
    if row.net == "resnet20":
        data, labels = _helpers("photos").cifar10(folder, row.samples)
        return Samples(data, labels.tolist())
    data = torch.randn(row.samples, 3, row.size, row.size, generator=torch.Generator().manual_seed(1))
    return Samples(data, [index % _CLASSES if row.samples > 1 else TARGET for index in range(row.samples)])


def _helpers(name: str) -> ModuleType:
    """Load a module of tests/oracle, which has the trained networks and reads their pictures."""
    qualified = f"benchmarks_oracle_{name}"
    if qualified not in sys.modules:
        path = Path(__file__).resolve().parent.parent / "tests" / "oracle" / f"{name}.py"
        specification = importlib.util.spec_from_file_location(qualified, path)
        sys.modules[qualified] = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(sys.modules[qualified])
    return sys.modules[qualified]
