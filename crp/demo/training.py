"""Trains the demo network and writes its weights: `python -m crp.demo.training`, some minutes on two CPU cores.

The same machine and version of torch give identical weights (the number of threads is fixed); others give a network
that behaves similarly. Penalties make its concepts easy to interpret: in the last convolution, a channel should respond
at few positions, a position should be described by few channels, and a logit should depend on few channels. Without
them, four channels share the tag. Nothing in training refers to the tag itself.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from .drawing import TAGGED_CLASS
from .model import WEIGHTS, build_model
from .scenes import Scenes

SCENES = 8000
EPOCHS = 12
BATCH = 50
LEARNING_RATE = 3e-3
PLACES_PENALTY = 0.1
CHANNELS_PENALTY = 0.1
CARRIERS_PENALTY = 0.3
THREADS = 1
LAST_CONVOLUTION = "relu5"


def stacked(scenes: Scenes) -> tuple[Tensor, Tensor]:
    """Stack all scenes: inputs, float32 `[N, 3, H, W]`, and labels, int64 `[N]`."""
    inputs, labels = zip(*(scenes[index] for index in range(len(scenes))), strict=True)
    return torch.stack(inputs), torch.tensor(labels)


def spread(values: Tensor, dim: int) -> Tensor:
    """Measure how evenly non-negative values are spread along a dimension of size n.

    The result is 1 / sqrt(n) if a single value is not 0, and 1 if all are equal. It is the ratio of the L1 to the L2
    norm, which does not depend on scale (Hoyer, "Non-negative matrix factorization with sparseness constraints", 2004,
    section 3.1). If all values are 0, it is 0.
    """
    size = values.shape[dim]
    return values.sum(dim) / (values.square().sum(dim) + 1e-6).sqrt() / size**0.5


def train(inputs: Tensor, labels: Tensor, *, epochs: int = EPOCHS, seed: int = 0) -> nn.Sequential:
    """Train a network; the same arguments give the same weights.

    Parameters
    ----------
    inputs, labels
        float32 `[N, 3, H, W]` and int64 `[N]`, with N at least `BATCH`. In every epoch, the scenes that do not fill a
        last batch are omitted, different ones each time.
    epochs
        Passes over the scenes.
    seed
        Seed of initial weights, order and mirroring. The caller's random state is unchanged.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model()
        for module in model:
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        nn.init.normal_(model.logits.weight, std=0.1)
        cut = [name for name, _ in model.named_children()].index(LAST_CONVOLUTION) + 1
        pooled = cut + 2
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
        batches = len(labels) // BATCH
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, LEARNING_RATE, total_steps=epochs * batches, pct_start=0.25
        )
        for epoch in range(epochs):
            # Penalties from the start would silence channels before they have learned anything.
            strength = min(1, epoch / 4)
            order = torch.randperm(len(labels))[: batches * BATCH].split(BATCH)
            for picked in tqdm(order, desc=f"epoch {epoch + 1} of {epochs}"):
                batch = inputs[picked]
                if torch.rand(()) < 0.5:
                    batch = batch.flip(3)
                places = model[:cut](batch)
                channels = model[cut:pooled](places).flatten(1)
                logits = model[pooled:](channels[..., None, None])
                # contribution of each channel to the logit of the scene's class: activation times gradient
                own = logits.gather(1, labels[picked, None]).sum()
                carried = channels * torch.autograd.grad(own, channels, create_graph=True)[0]
                loss = cross_entropy(logits, labels[picked], label_smoothing=0.02)
                # positions are weighted by how strongly they respond
                weight = places.detach().square().sum(1).sqrt()
                penalty = (
                    PLACES_PENALTY * spread(places.flatten(2), 2).mean()
                    + CARRIERS_PENALTY * spread(carried.abs(), 1).mean()
                    + CHANNELS_PENALTY * ((spread(places, 1) * weight).sum() / weight.sum())
                )
                (loss + strength * penalty).backward()
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
    return model.eval()


@torch.no_grad()
def predictions(model: nn.Module, scenes: Scenes) -> tuple[Tensor, Tensor]:
    """Return predicted classes and labels of all scenes, int64 `[N]` each."""
    inputs, labels = stacked(scenes)
    return torch.cat([model(batch).argmax(1) for batch in inputs.split(BATCH)]), labels


def report(model: nn.Module, count: int = 1000) -> dict[str, float]:
    """Measure accuracy and the effect of the tag: fractions (0..1) of `count` unseen scenes, by description."""
    as_trained, labels = predictions(model, Scenes("test", count))
    without, _ = predictions(model, Scenes("test", count, tag="never"))
    everywhere, _ = predictions(model, Scenes("test", count, tag="always"))
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
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False), default=WEIGHTS)
@click.option("--seed", default=0, show_default=True, help="Seed of initial weights, order and mirroring.")
def main(path: Path, seed: int) -> None:
    """Train the demo network, write its weights to PATH (by default those of the package), and print its accuracy."""
    torch.set_num_threads(THREADS)
    model = train(*stacked(Scenes("train", SCENES)), seed=seed)
    path.write_bytes(save(model.state_dict()))
    print(f"wrote {path}, {path.stat().st_size:,} bytes")
    for words, value in report(model).items():
        print(f"{value:7.1%}  {words}")


if __name__ == "__main__":
    main()
