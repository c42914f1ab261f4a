"""How the demo vision transformer is trained.

Class labels alone teach a patch embedding little: it knows nothing of shifts and turns, which the scenes vary. So each
batch is shifted by a few pixels and shown in one of the eight orientations of a square, and the tokens of the patches
learn beside the class which part of the scene they show: the object's shape, texture and colour, or none, and from the
second cycle on its outline. An octagon counts as a disc there, and the tag as nothing, so that only the labels of
classes tell what an octagon is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, cross_entropy, pad, pixel_unshuffle
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from tqdm import tqdm

from .drawing import COLOURS
from .scenes import Scenes
from .vit import DIM, PATCH, DemoTransformer

SCENES = 8000
BATCH = 32
LEARNING_RATE = 2e-3  # of AdamW
MATRIX_LEARNING_RATE = 1e-2  # of Muon, for the matrices of the blocks
WARMUP = 0.15  # part of the steps
WEIGHT_DECAY = 0.05
MATRIX_WEIGHT_DECAY = 0.01
SHIFT = 4  # pixels
AVERAGED = 2  # cycles
OUTLINE = 4  # pixels of a cell that a token tells inside from outside
ATTRIBUTES = (
    ("disc", "triangle", "square", "star"),
    ("plain", "striped", "dotted", "checked"),
    tuple(COLOURS),
)


@dataclass(frozen=True)
class Cycle:
    """A part of the training, in which learning rates rise and fall to zero.

    Attributes
    ----------
    epochs
        Passes over the scenes.
    rate
        Factor of the learning rates.
    outlines
        Whether tokens learn where in their patch the object is.
    """

    epochs: int
    rate: float
    outlines: bool


CYCLES = (
    Cycle(12, 1, outlines=False),
    Cycle(16, 0.5, outlines=True),
    Cycle(6, 0.3, outlines=True),
    Cycle(4, 0.2, outlines=True),
)

# stored with the weights
SETTINGS = {
    "scenes": str(SCENES),
    "cycles": " + ".join(f"{cycle.epochs} epochs at {cycle.rate}" for cycle in CYCLES),
    "batch": str(BATCH),
    "learning rates": f"{LEARNING_RATE}, {MATRIX_LEARNING_RATE}",
    "weight decays": f"{WEIGHT_DECAY}, {MATRIX_WEIGHT_DECAY}",
    "shift": str(SHIFT),
    "averaged cycles": str(AVERAGED),
}


def described(scenes: Scenes) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw all scenes, with what tokens learn of them.

    Returns
    -------
    tuple of Tensor
        Inputs, float32 `[N, 3, H, W]`; labels, int64 `[N]`; where the object is, bool `[N, 1, H, W]`; its shape,
        texture and colour as places in `ATTRIBUTES`, int64 `[N, 3]`.
    """
    inputs, labels, objects, attributes = [], [], [], []
    for index in range(len(scenes)):
        scene, drawing = scenes.scene(index), scenes.drawing(index)
        inputs.append(scenes.preprocessing.to_input(drawing.picture))
        labels.append(scene.label)
        objects.append(torch.from_numpy(drawing.masks["shape"])[None])
        names = ("disc" if scene.shape == "octagon" else scene.shape, scene.texture, scene.colour)
        attributes.append([names.index(name) for names, name in zip(ATTRIBUTES, names, strict=True)])
    return torch.stack(inputs), torch.tensor(labels), torch.stack(objects), torch.tensor(attributes)


def initialize(model: DemoTransformer) -> None:
    """Draw the initial weights; positions begin as sines and cosines of row and column (Vaswani et al., 2017)."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.7 * module.in_features**-0.5)
            nn.init.zeros_(module.bias)
    nn.init.normal_(model.head.weight, std=0.02)
    nn.init.normal_(model.cls_token, std=0.02)
    count, dim = model.pos_embed.shape[1] - 1, model.pos_embed.shape[2]
    side = round(count**0.5)
    angles = torch.arange(side)[:, None] * (1 / 100 ** (torch.arange(dim // 4) / (dim // 4)))
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


def attribute_losses(values: Tensor, objects: Tensor, attributes: Tensor) -> list[Tensor]:
    """Compute how badly tokens tell what they show: the cross entropy of each attribute, and of the cells.

    Parameters
    ----------
    values
        `[N, P, V]` of the P patches: for each attribute one value for each of its names, and one for "none"; then, if
        there are more, one for each cell of the patch, row by row.
    objects
        `[N, 1, H, W]`, 1 where the object is. A patch shows it if more than half of its pixels do.
    attributes
        As from `described`, int64 `[N, 3]`.
    """
    shown = avg_pool2d(objects, PATCH).flatten(1) > 0.5
    sizes = [len(names) + 1 for names in ATTRIBUTES]
    *parts, cells = values.split([*sizes, values.shape[2] - sum(sizes)], dim=2)
    losses = [
        cross_entropy(part.transpose(1, 2), torch.where(shown, attribute[:, None], len(names)))
        for part, attribute, names in zip(parts, attributes.T, ATTRIBUTES, strict=True)
    ]
    if cells.shape[2]:
        inside = pixel_unshuffle(avg_pool2d(objects, OUTLINE), PATCH // OUTLINE).flatten(2).transpose(1, 2)
        losses.append(binary_cross_entropy_with_logits(cells, inside))
    return losses


def train_vit(scenes: Scenes, *, cycles: Sequence[Cycle] = CYCLES, seed: int = 0) -> DemoTransformer:
    """Train a vision transformer; the same arguments give the same weights, which float16 holds exactly.

    Parameters
    ----------
    scenes
        At least `BATCH`. In every epoch, those that do not fill a last batch are omitted, different ones each time.
    cycles
        What is done one after the other. The weights are the mean of those after each of the last `AVERAGED` cycles
        (Izmailov et al., "Averaging weights leads to wider optima and better generalization", 2018).
    seed
        Seed of initial weights, order and variation. The caller's random state is unchanged.
    """
    data = described(scenes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DemoTransformer()
        initialize(model)
        ends = []
        for number, cycle in enumerate(cycles, 1):
            run_cycle(model, data, cycle)
            ends.append(parameters_to_vector(model.parameters()).detach())
            torch.manual_seed(seed + number)
    mean = torch.stack(ends[-AVERAGED:]).mean(0)
    vector_to_parameters(mean.half().float(), model.parameters())
    return model.eval()


def run_cycle(model: DemoTransformer, data: tuple[Tensor, Tensor, Tensor, Tensor], cycle: Cycle) -> None:
    """Train for one cycle; `data` is as `described`."""
    inputs, labels, objects, attributes = data
    batches = len(labels) // BATCH
    cells = (PATCH // OUTLINE) ** 2 if cycle.outlines else 0
    describing = nn.Linear(DIM, sum(len(names) + 1 for names in ATTRIBUTES) + cells)
    optimizers, schedules = _optimization(model, describing, cycle.epochs * batches, cycle.rate)
    for epoch in range(cycle.epochs):
        order = torch.randperm(len(labels))[: batches * BATCH].split(BATCH)
        for picked in tqdm(order, desc=f"epoch {epoch + 1} of {cycle.epochs}"):
            batch = varied(torch.cat([inputs[picked], objects[picked].float()], dim=1))
            tokens = model.tokens(batch[:, :3])
            loss = cross_entropy(model.head(tokens[:, 0]), labels[picked], label_smoothing=0.02)
            for part in attribute_losses(describing(tokens[:, 1:]), batch[:, 3:], attributes[picked]):
                loss = loss + part * (1 / len(ATTRIBUTES))
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            for schedule in schedules:
                schedule.step()


def _optimization(
    model: DemoTransformer, describing: nn.Linear, steps: int, rate: float
) -> tuple[list[torch.optim.Optimizer], list[torch.optim.lr_scheduler.LRScheduler]]:
    """Set up Muon (Jordan et al., 2024) for the matrices of the blocks and AdamW for the rest, with learning rates."""
    matrices = [value for value in model.blocks.parameters() if value.ndim == 2]
    decayed = [model.patch_embed.weight, model.head.weight]
    taken = {id(value) for value in (*matrices, *decayed)}
    others = [value for value in (*model.parameters(), *describing.parameters()) if id(value) not in taken]
    adam = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0}], betas=(0.9, 0.98)
    )
    muon = torch.optim.Muon(matrices, weight_decay=MATRIX_WEIGHT_DECAY)
    schedules = [
        torch.optim.lr_scheduler.OneCycleLR(
            optimizer, highest * rate, total_steps=steps, pct_start=WARMUP, cycle_momentum=False
        )
        for optimizer, highest in ((adam, LEARNING_RATE), (muon, MATRIX_LEARNING_RATE))
    ]
    return [adam, muon], schedules
