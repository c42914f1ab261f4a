"""A small net and data set, and a naive computation in float64 of everything that mining finds in them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset
from zennit.composites import EpsilonPlusFlat, LayerMapComposite, SpecialFirstLayerMapComposite
from zennit.core import Composite
from zennit.rules import Epsilon, Flat, Gamma, Pass
from zennit.types import Activation, Convolution, Linear

from crp.library import Library
from crp.mining import mine

LAYERS = ("conv1", "conv2", "linear1")
RANKING = LayerMapComposite([(Activation, Pass()), (Linear, Epsilon())])
MAPS = SpecialFirstLayerMapComposite(
    [(Activation, Pass()), (Convolution, Gamma(0.25)), (nn.Linear, Epsilon())], [(Convolution, Flat())]
)


class SmallNet(nn.Module):
    """Two convolutions and two linear layers: 2 x 10 x 10 inputs, 4 classes."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3)
        self.relu1 = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(4, 6, 3)
        self.relu2 = nn.ReLU()
        self.linear1 = nn.Linear(24, 5)
        self.relu3 = nn.ReLU()
        self.linear2 = nn.Linear(5, 4)

    def forward(self, data):
        hidden = self.pool(self.relu1(self.conv1(data)))
        hidden = self.relu2(self.conv2(hidden)).flatten(1)
        return self.linear2(self.relu3(self.linear1(hidden)))


@dataclass(frozen=True)
class Truth:
    """Activation and relevance `[N, C, *S]` of each layer, the output `[N, classes]` and the classes explained."""

    activation: dict[str, np.ndarray]
    relevance: dict[str, np.ndarray]
    prediction: np.ndarray
    targets: np.ndarray


def recording(model: nn.Module, layers) -> tuple[dict[str, torch.Tensor], list]:
    """A dict that will receive the outputs of the layers, and the handles of the hooks that fill it."""
    outputs = {}
    handles = [
        getattr(model, layer).register_forward_hook(lambda module, args, out, layer=layer: outputs.update({layer: out}))
        for layer in layers
    ]
    return outputs, handles


def naive_pass(
    model: nn.Module, sample: torch.Tensor, target: int, composite: Composite | None = None
) -> tuple[dict, dict, torch.Tensor]:
    """Activations, relevances and output of one sample, with zennit's own hooks on the model."""
    with (composite or EpsilonPlusFlat()).context(model):
        outputs, handles = recording(model, LAYERS)  # after zennit's hooks, whose rules apply below
        output = model(sample[None].clone().requires_grad_())
        start = torch.zeros_like(output)
        start[0, target] = output[0, target].detach()
        gradients = torch.autograd.grad(output, [outputs[layer] for layer in LAYERS], start)
        for handle in handles:
            handle.remove()
    return outputs, dict(zip(LAYERS, gradients, strict=True)), output


def naive_truth(model: nn.Module, data: torch.Tensor, targets: np.ndarray) -> Truth:
    """Explain one sample at a time, with the rules that rank."""
    passes = [naive_pass(model, sample, target, RANKING) for sample, target in zip(data, targets, strict=True)]
    return Truth(
        {layer: torch.cat([outputs[layer].detach() for outputs, _, _ in passes]).numpy() for layer in LAYERS},
        {layer: torch.cat([relevance[layer] for _, relevance, _ in passes]).numpy() for layer in LAYERS},
        torch.cat([output.detach() for _, _, output in passes]).numpy(),
        np.asarray(targets),
    )


def naive_heatmap(model: nn.Module, sample: torch.Tensor, layer: str, concept: int, position: int) -> np.ndarray:
    """Relevance `[H, W]` that a one at a single position of a layer sends to the input."""
    data = sample[None].clone().requires_grad_()
    with MAPS.context(model):
        outputs, (handle,) = recording(model, [layer])
        model(data)
        handle.remove()
        start = torch.zeros_like(outputs[layer])
        start[0, concept].view(-1)[position] = 1
        (gradient,) = torch.autograd.grad(outputs[layer], data, start)
    return gradient[0].sum(0).numpy()


@pytest.fixture(scope="module")
def model() -> SmallNet:
    torch.manual_seed(3)
    return SmallNet().double().eval()


@pytest.fixture(scope="module")
def dataset() -> TensorDataset:
    generator = torch.Generator().manual_seed(4)
    data = torch.randn(75, 2, 10, 10, generator=generator, dtype=torch.float64)
    return TensorDataset(data, torch.randint(0, 4, (75,), generator=generator))


@pytest.fixture(scope="module")
def truth(model, dataset) -> Truth:
    return naive_truth(model, dataset.tensors[0], dataset.tensors[1].numpy())


def mined(model, dataset, path, **options) -> Library:
    """Mine in blocks of 16 samples, without progress bars."""
    return mine(model, dataset, **{"layers": LAYERS, "path": path, "progress": False, "block_size": 16, **options})


def digests(path: Path) -> dict[str, str]:
    """SHA-256 of every file of a folder."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def library(model, dataset, tmp_path_factory) -> Library:
    return mined(model, dataset, tmp_path_factory.mktemp("mined") / "small.crp", k=6, patches=2, patches_now="all")
