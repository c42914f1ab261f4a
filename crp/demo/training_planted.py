"""Trains a demo network for sounds, signals or volumes: `python -m crp.demo.training_planted heartbeat`.

The same machine and version of torch give identical weights; others give a network that behaves similarly. The
penalties are those of the convolutional network for scenes (`training_cnn.spread`): a channel should respond at few
places, a place be described by few channels, and a logit depend on few channels. Nothing refers to where things are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import click
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from .calls import Calls
from .heartbeats import Heartbeats
from .model import weights_path
from .networks import build_heartbeat, build_scan, build_spectrogram
from .planted import Planted
from .scans import Scans
from .training_cnn import CARRIERS_PENALTY, CHANNELS_PENALTY, PLACES_PENALTY, spread

SAMPLES = 1200
EPOCHS = 10
BATCH = 30


@dataclass(frozen=True)
class Recipe:
    """What is trained on which data, how fast, and with which part of the penalties for scenes.

    With all of the penalties, classes are not learned.
    """

    build: Callable[[], nn.Sequential]
    data: Callable[[str, int], Planted]
    rate: float
    penalties: float
    seed: int = 0


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "spectrogram": Recipe(build_spectrogram, Calls, 3e-3, 0.2),
        "heartbeat": Recipe(build_heartbeat, Heartbeats, 2e-3, 0.5, seed=1),
        "scan": Recipe(build_scan, Scans, 3e-3, 0.2),
    }
)


def stacked(data: Planted) -> tuple[Tensor, Tensor]:
    """Stack all samples: inputs, float32 `[N, c, *S]`, and labels, int64 `[N]`."""
    inputs, labels = zip(*(data[index] for index in range(len(data))), strict=True)
    return torch.stack(inputs), torch.tensor(labels)


def train_planted(recipe: Recipe, data: Planted, *, epochs: int = EPOCHS, seed: int = 0) -> nn.Sequential:
    """Train a network; the same arguments give the same weights, and the caller's random state is unchanged."""
    inputs, labels = stacked(data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = recipe.build()
        for module in model:
            if hasattr(module, "weight"):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        nn.init.normal_(model.logits.weight, std=0.1)
        cut = [name for name, _ in model.named_children()].index("largest")
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
        batches = len(labels) // BATCH
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, recipe.rate, total_steps=epochs * batches, pct_start=0.25
        )
        for epoch in range(epochs):
            strength = recipe.penalties * min(1, epoch / 4)
            order = torch.randperm(len(labels))[: batches * BATCH].split(BATCH)
            for picked in tqdm(order, desc=f"epoch {epoch + 1} of {epochs}", disable=None):
                places = model[:cut](inputs[picked])
                channels = model.largest(places).flatten(1)
                logits = model[cut + 1 :](channels)
                own = logits.gather(1, labels[picked, None]).sum()
                carried = channels * torch.autograd.grad(own, channels, create_graph=True)[0]
                weight = places.detach().square().sum(1).sqrt()
                penalty = (
                    PLACES_PENALTY * spread(places.flatten(2), 2).mean()
                    + CARRIERS_PENALTY * spread(carried.abs(), 1).mean()
                    + CHANNELS_PENALTY * ((spread(places, 1) * weight).sum() / weight.sum())
                )
                (cross_entropy(logits, labels[picked], label_smoothing=0.02) + strength * penalty).backward()
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, data: Planted) -> float:
    """Return the part of the samples that a model classifies right, 0..1."""
    inputs, labels = stacked(data)
    found = torch.cat([model(batch).argmax(1) for batch in inputs.split(BATCH)])
    return float((found == labels).double().mean())


@click.command()
@click.argument("network", type=click.Choice(tuple(RECIPES)))
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False), required=False)
def main(network: str, path: Path | None) -> None:
    """Train a network, write its weights to PATH (by default those of the package), and print its accuracy."""
    torch.set_num_threads(1)
    recipe, path = RECIPES[network], path or weights_path(network)
    model = train_planted(recipe, recipe.data("train", SAMPLES), seed=recipe.seed)
    path.write_bytes(save(dict(model.state_dict())))
    click.echo(f"wrote {path}, {path.stat().st_size:,} bytes")
    click.echo(f"{accuracy(model, recipe.data('test', 600)):7.1%}  right")


if __name__ == "__main__":
    main()
