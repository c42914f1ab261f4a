"""Trains a demo network and writes its weights: `python -m crp.demo.training vit`, some minutes on two CPU cores.

The same machine and version of torch give identical weights (the number of threads is fixed); others give a network
that behaves similarly. How each network is trained is in `training_cnn` and `training_vit`.
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

from . import training_cnn, training_vit
from .drawing import TAGGED_CLASS
from .model import weights_path
from .scenes import Scenes
from .training_cnn import stacked

THREADS = 1
BATCH = 50


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: a function of scenes and a seed, the number of scenes, and how it is stored."""

    train: Callable[..., nn.Module]
    scenes: int
    dtype: torch.dtype
    settings: dict[str, str] | None


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "cnn": Recipe(training_cnn.train_cnn, training_cnn.SCENES, torch.float32, None),
        "vit": Recipe(training_vit.train_vit, training_vit.SCENES, torch.float16, training_vit.SETTINGS),
    }
)


@torch.no_grad()
def predictions(model: nn.Module, scenes: Scenes) -> tuple[Tensor, Tensor]:
    """Return predicted classes and labels of all scenes, int64 `[N]` each."""
    inputs, labels = stacked(scenes)
    return torch.cat([model(batch).argmax(1) for batch in inputs.split(BATCH)]), labels


def report(model: nn.Module, count: int = 1000, seed: int = 0) -> dict[str, float]:
    """Measure accuracy and the effect of the tag: fractions (0..1) of `count` unseen scenes, by description."""
    as_trained, labels = predictions(model, Scenes("test", count, seed=seed))
    without, _ = predictions(model, Scenes("test", count, seed=seed, tag="never"))
    everywhere, _ = predictions(model, Scenes("test", count, seed=seed, tag="always"))
    tagged = labels == TAGGED_CLASS

    def share(which: Tensor) -> float:
        return which.double().mean().item()

    return {
        "right, tags as in training": share(as_trained == labels),
        "right, no tags": share(without == labels),
        "right, no tags, the tagged class": share((without == labels)[tagged]),
        "right, tags pasted, other classes": share((everywhere == labels)[~tagged]),
        "other classes taken for the tagged class when the tag is pasted": share((everywhere == TAGGED_CLASS)[~tagged]),
    }


@click.command()
@click.argument("network", type=click.Choice(tuple(RECIPES)))
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option("--seed", default=0, show_default=True, help="Seed of initial weights, order and augmentation.")
def main(network: str, path: Path | None, seed: int) -> None:
    """Train a demo network, write its weights to PATH (by default those of the package), and print its accuracy."""
    torch.set_num_threads(THREADS)
    path, recipe = path or weights_path(network), RECIPES[network]
    model = recipe.train(Scenes("train", recipe.scenes), seed=seed)
    weights = {name: value.to(recipe.dtype) for name, value in model.state_dict().items()}
    path.write_bytes(save(weights, recipe.settings))
    print(f"wrote {path}, {path.stat().st_size:,} bytes")
    for words, value in report(model).items():
        print(f"{value:7.1%}  {words}")


if __name__ == "__main__":
    main()
