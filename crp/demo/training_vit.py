"""How the demo vision transformer is trained.

A patch embedding knows nothing of shifts and turns, which the scenes vary. So each batch is shifted by a few pixels and
shown in one of the eight orientations of a square. Nothing in training refers to the tag itself.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad
from tqdm import tqdm

from .vit import DemoTransformer

SCENES = 8000
EPOCHS = 14
BATCH = 64
LEARNING_RATE = 2e-3
WARMUP = 0.15  # part of the steps
WEIGHT_DECAY = 0.05
SHIFT = 4  # pixels


def initialize(model: DemoTransformer) -> None:
    """Draw the initial weights; positions begin as sines and cosines of row and column (Vaswani et al., 2017)."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.7 * module.in_features**-0.5)
            nn.init.zeros_(module.bias)
    nn.init.normal_(model.head.weight, std=0.02)
    nn.init.normal_(model.cls_token, std=0.02)
    count, dim = model.pos_embed.shape[1] - 1, model.pos_embed.shape[2]
    side = round(count**0.5)
    angles = torch.arange(side)[:, None] / 100 ** (torch.arange(dim // 4) / (dim // 4))
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = waves[:, None].expand(side, side, -1), waves.expand(side, side, -1)
    with torch.no_grad():
        model.pos_embed[0, 1:] = 0.5 * torch.cat([rows, columns], dim=2).flatten(0, 1)


def varied(batch: Tensor) -> Tensor:
    """Show a batch `[N, c, H, W]` of squares mirrored, turned and shifted, all alike; pixels at the border repeat."""
    for axes in ((3,), (2,)):
        if torch.rand(()) < 0.5:
            batch = batch.flip(axes)
    if torch.rand(()) < 0.5:
        batch = batch.transpose(2, 3)
    size = batch.shape[2]
    top, left = torch.randint(2 * SHIFT + 1, (2,)).tolist()
    return pad(batch, [SHIFT] * 4, mode="replicate")[:, :, top : top + size, left : left + size]


def train_vit(inputs: Tensor, labels: Tensor, *, epochs: int = EPOCHS, seed: int = 0) -> DemoTransformer:
    """Train a vision transformer; the same arguments give the same weights, which float16 holds exactly.

    Parameters
    ----------
    inputs, labels
        float32 `[N, 3, H, W]` and int64 `[N]`, with N at least `BATCH`. In every epoch, the scenes that do not fill a
        last batch are omitted, different ones each time.
    epochs
        Passes over the scenes.
    seed
        Seed of initial weights, order and variation. The caller's random state is unchanged.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DemoTransformer()
        initialize(model)
        matrices = [value for value in model.parameters() if value.ndim in (2, 4)]
        others = [value for value in model.parameters() if value.ndim not in (2, 4)]
        optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0}],
            betas=(0.9, 0.98),
        )
        batches = len(labels) // BATCH
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, LEARNING_RATE, total_steps=epochs * batches, pct_start=WARMUP, cycle_momentum=False
        )
        for epoch in range(epochs):
            order = torch.randperm(len(labels))[: batches * BATCH].split(BATCH)
            for picked in tqdm(order, desc=f"epoch {epoch + 1} of {epochs}"):
                loss = cross_entropy(model(varied(inputs[picked])), labels[picked], label_smoothing=0.02)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(value.half())
    return model.eval()
