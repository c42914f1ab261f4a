"""How the convolutional demo network is trained.

Penalties make its concepts easy to interpret: in the last convolution, a channel should respond at few positions, a
position should be described by few channels, and a logit should depend on few channels. Without them, four channels
share the tag. Nothing in training refers to the tag itself.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from .cnn import build_cnn
from .scenes import Scenes

SCENES = 8000
EPOCHS = 12
BATCH = 50
LEARNING_RATE = 3e-3
PLACES_PENALTY = 0.1
CHANNELS_PENALTY = 0.1
CARRIERS_PENALTY = 0.3
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


def train_cnn(scenes: Scenes, *, epochs: int = EPOCHS, seed: int = 0) -> nn.Sequential:
    """Train a network; the same arguments give the same weights.

    Parameters
    ----------
    scenes
        At least `BATCH`. In every epoch, those that do not fill a last batch are omitted, different ones each time.
    epochs
        Passes over the scenes.
    seed
        Seed of initial weights, order and mirroring. The caller's random state is unchanged.
    """
    inputs, labels = stacked(scenes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_cnn()
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
