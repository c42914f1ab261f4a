"""What is asked of zennit-crp and of ours: models, samples and conditions. Knows neither of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision import models
from zennit.composites import EpsilonPlusFlat
from zennit.core import Composite
from zennit.torchvision import ResNetCanonizer, VGGCanonizer

MODELS = {"vgg16": models.vgg16, "resnet18": models.resnet18}

# Layers mined, the samples mined and the side of their images, and how many channels are kept.
MINED = {"vgg16": ("features.26", "features.28"), "resnet18": ("layer4",)}
MINED_SAMPLES = {"vgg16": (24, 32), "resnet18": (60, 64)}
MINED_CHANNELS = 32


@dataclass(frozen=True)
class Case:
    """One call of `CondAttribution`; with `batch_size` of its `generate`.

    `init` makes the argument `init_rel`.
    """

    name: str
    conditions: list[dict[str, list[int]]]
    samples: int = 1
    record: tuple[str, ...] = ()
    start_layer: str | None = None
    init: Callable[[], object] = lambda: None
    exclude_parallel: bool = True
    batch_size: int | None = None


def _half(prediction: Tensor) -> Tensor:
    return prediction / 2


def _uneven() -> Tensor:
    return torch.linspace(-1, 2, 1000, dtype=torch.float64)[None].repeat(2, 1)


def _both(case: Case) -> list[Case]:
    """The case with parallel ways excluded and included."""
    return [
        case,
        Case(**{**vars(case), "name": f"{case.name}, around", "exclude_parallel": False}),
    ]


ATTRIBUTIONS = {
    "vgg16": [
        Case("class", [{"y": [7]}], record=("features.28", "features.0")),
        Case("one channel", [{"y": [7], "features.26": [13]}], record=("features.28", "features.10")),
        Case("several channels", [{"y": [3], "features.26": [1, 5, 200]}, {"y": [4], "features.26": [0, 9]}]),
        Case("chained", [{"y": [7], "features.28": list(range(200)), "features.24": list(range(0, 512, 3))}]),
        Case("linear", [{"y": [7], "classifier.3": list(range(0, 4096, 2))}]),
        Case("two classes", [{"y": [7, 9]}]),
        Case("start layer", [{"features.26": [10]}, {"features.26": [13, 14]}], start_layer="features.26"),
        Case("init one", [{"y": [7]}], init=lambda: 1),
        Case("init tensor", [{"y": [7, 20]}, {"y": [900]}], init=_uneven),
        Case("init function", [{"y": [7]}], init=lambda: _half),
        Case("product", [{"y": [k], "features.26": [k, 40]} for k in (1, 2, 3)], samples=2),
        Case("pairs", [{"y": [1], "features.26": [3, 4]}, {"y": [2], "features.26": [5]}], samples=2),
        Case("generate", [{"y": [5], "features.26": [k]} for k in range(5)], batch_size=2),
    ],
    "resnet18": [
        Case("class", [{"y": [7]}], record=("layer4", "layer3.1.conv1", "conv1")),
        *_both(Case("one channel", [{"y": [7], "layer4.0.conv1": [1]}], record=("layer4", "layer3"))),
        *_both(Case("several channels", [{"y": [7], "layer3.1.conv2": list(range(40))}], record=("layer4", "layer2"))),
        *_both(Case("block", [{"y": [7], "layer3": list(range(40))}], record=("layer2",))),
        *_both(
            Case(
                "chained",
                [{"y": [7], "layer4.0.conv2": list(range(200)), "layer3.1.conv1": list(range(100))}],
                record=("layer4", "layer3", "layer2"),
            )
        ),
        *_both(Case("start layer", [{"layer3.0.conv1": [k]} for k in (4, 7)], start_layer="layer3.0.conv1")),
        *_both(Case("generate", [{"y": [5], "layer3.1.conv2": [k, k + 1]} for k in range(5)], batch_size=2)),
    ],
}


def exact(shape: Iterable[int], generator: torch.Generator) -> Tensor:
    """Uniform numbers in [-1, 1), float32, the same bits on every machine.

    They are whole numbers divided by a power of two. `randn` and `interpolate` depend on the vector instructions of the
    processor.
    """
    return torch.empty(tuple(shape), dtype=torch.int16).random_(-(2**15), 2**15, generator=generator) / 2**15


def model(name: str) -> nn.Module:
    """One of `MODELS` in float64 and evaluation mode, with the variance of He's initialisation."""
    with torch.device("meta"):
        made = MODELS[name](weights=None)
    made = made.double().to_empty(device="cpu").eval()
    generator = torch.Generator().manual_seed(0)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Conv2d | nn.Linear):
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            bound = math.sqrt(6 / module.weight[0].numel())
            module.weight.data.copy_(exact(module.weight.shape, generator)).mul_(bound)
    return made


def composite(name: str) -> Composite:
    """The composite for one of `MODELS`."""
    canonizers = {"vgg16": VGGCanonizer, "resnet18": ResNetCanonizer}
    return EpsilonPlusFlat(canonizers=[canonizers[name]()])


def images(count: int, size: int = 64) -> Tensor:
    """Noise of blocks, so that there are regions, and of pixels: `[count, 3, size, size]`, float64."""
    generator = torch.Generator().manual_seed(5)
    coarse = exact((count, 3, 8, 8), generator).repeat_interleave(size // 8, 2).repeat_interleave(size // 8, 3)
    return (2 * coarse + exact((count, 3, size, size), generator) / 2).double()


def mining_samples(name: str) -> tuple[Tensor, Tensor]:
    """Images and labels for one of `MINED`."""
    count, size = MINED_SAMPLES[name]
    return images(count, size), torch.randint(1000, (count,), generator=torch.Generator().manual_seed(6))


def checksum_of_tensors(tensors: Iterable[Tensor]) -> str:
    """SHA-256 of the bytes of tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def checksum(of: nn.Module) -> str:
    """SHA-256 of the first weights of each parameter, which come from one stream of random numbers."""
    return checksum_of_tensors(tensor.flatten()[:64] for tensor in of.state_dict().values())


def checksum_of_images() -> str:
    """SHA-256 of everything that the models are given."""
    return checksum_of_tensors([images(2), *(part for name in MINED for part in mining_samples(name))])
