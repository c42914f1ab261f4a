"""Trains the network for scenes with objects: `python -m crp.demo.training_objects`, some minutes on one CPU core.

The same machine and version of torch give identical weights. As for the other networks, penalties make concepts easy to
interpret: the class of a position should depend on few channels, and a channel should respond to few classes. Nothing
in training refers to the patch of ground below the octagons.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import avg_pool2d, cross_entropy, one_hot, smooth_l1_loss
from tqdm import tqdm

from .model import weights_path
from .object_net import STRIDE, ObjectNet, ObjectSegmenter
from .object_scenes import OCTAGON, ObjectScenes
from .painting import SIZE
from .training_cnn import spread

SCENES = 1500
EPOCHS = 8
BATCH = 25
LEARNING_RATE = 3e-3
CARRIERS_PENALTY = 0.3
CHANNELS_PENALTY = 0.1
BOX_WEIGHT = 4.0


@dataclass(frozen=True)
class Examples:
    """What the network learns from.

    Inputs are `[N, 3, H, W]`. Its positions have, `[N, 7, h, w]` and `[N, h, w, 4]`, the part of each class in their
    pixels, and the box around them.
    """

    inputs: Tensor
    parts: Tensor
    boxes: Tensor

    def of(self, picked: Tensor) -> Examples:
        """Return some of the examples."""
        return Examples(self.inputs[picked], self.parts[picked], self.boxes[picked])


def examples(scenes: ObjectScenes) -> Examples:
    """Draw the examples of all scenes."""
    inputs, parts, boxes = [], [], []
    classes = len(scenes.class_names)
    for index in range(len(scenes)):
        inputs.append(scenes[index][0])
        hot = one_hot(torch.from_numpy(scenes.label_map(index)), classes).movedim(-1, 0)
        parts.append(avg_pool2d(hot.float(), STRIDE))
        boxes.append(_box_at(scenes.boxes(index)))
    return Examples(torch.stack(inputs), torch.stack(parts), torch.stack(boxes))


def train_objects(scenes: ObjectScenes, *, epochs: int = EPOCHS, seed: int = 0) -> ObjectSegmenter:
    """Train a network; the same arguments give the same weights. The caller's random state is unchanged."""
    known = examples(scenes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ObjectSegmenter()
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                torch.nn.init.zeros_(module.bias)
        torch.nn.init.normal_(model.head.weight, std=0.1)
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
        batches = len(scenes) // BATCH
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, LEARNING_RATE, total_steps=epochs * batches, pct_start=0.25
        )
        for epoch in range(epochs):
            # Penalties from the start would silence channels before they have learned anything.
            strength = min(1, max(0, epoch - 1) / 3)
            order = torch.randperm(len(scenes))[: batches * BATCH].split(BATCH)
            for picked in tqdm(order, desc=f"epoch {epoch + 1} of {epochs}", mininterval=10):
                loss, penalty = _losses(model, known.of(picked))
                (loss + strength * penalty).backward()
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
    return model.eval()


def _losses(model: ObjectNet, known: Examples) -> tuple[Tensor, Tensor]:
    """Return the loss, and the penalties of concepts that are hard to interpret."""
    features, logits, boxes = model.classes_and_boxes(known.inputs)
    inside = known.parts[:, 0] < 0.5
    # Objects fill a seventh of the positions, and count as much as all of them.
    loss = cross_entropy(logits, known.parts) + cross_entropy(
        logits.movedim(1, -1)[inside], known.parts.movedim(1, -1)[inside]
    )

    found, values = known.parts.argmax(1)[inside], features.movedim(1, -1)[inside]
    carried = values * model.head.weight[found, :, 0, 0]
    penalty = CARRIERS_PENALTY * spread(carried.abs(), 1).mean() + CHANNELS_PENALTY * spread(values, 1).mean()

    boxes = boxes.unflatten(1, logits.shape[2:])
    return loss + BOX_WEIGHT * smooth_l1_loss(boxes[inside] / SIZE, known.boxes[inside] / SIZE, beta=0.05), penalty


def _box_at(boxes: list[tuple[int, int, int, int]]) -> Tensor:
    """Return the box around the middle of each position, `[h, w, 4]`, zeros where there is none."""
    middles = (torch.arange(SIZE // STRIDE) + 0.5) * STRIDE
    found = torch.zeros(len(middles), len(middles), 4)
    for box in boxes:
        left, top, right, bottom = box
        columns, rows = (middles > left) & (middles < right), (middles > top) & (middles < bottom)
        found[rows[:, None] & columns] = torch.tensor(box, dtype=torch.float32)
    return found


@torch.no_grad()
def report(model: ObjectSegmenter, count: int = 500, seed: int = 0) -> dict[str, float]:
    """Measure on `count` unseen scenes: fractions (0..1) of pixels, or of objects by the class of most of their pixels.

    Keys describe the numbers.
    """
    figures = {}
    for patch, words in (("train", "as in training"), ("always", "always on a patch"), ("never", "never on a patch")):
        scenes = ObjectScenes("test", count, seed=seed, patch=patch)
        right, pixels = {True: [], False: []}, []
        for index in range(count):
            found = model(scenes[index][0][None])[0].argmax(0)
            pixels.append((found == torch.from_numpy(scenes.label_map(index))).float().mean())
            for each, mask in zip(scenes.scene(index).objects, scenes.masks(index), strict=True):
                inside = found[torch.from_numpy(mask)]
                right[each.label == OCTAGON].append(float(inside.mode().values == each.label))
        figures[f"pixels right, octagons {words}"] = float(torch.stack(pixels).mean())
        for octagons, name in ((True, "octagons"), (False, "other objects")):
            figures[f"{name} right, octagons {words}"] = sum(right[octagons]) / len(right[octagons])
    return figures


@click.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option("--seed", default=0, show_default=True, help="Seed of initial weights and order.")
def main(path: Path | None, seed: int) -> None:
    """Train the network, write its weights to PATH (by default those of the package), and print its accuracy."""
    torch.set_num_threads(1)
    path = path or weights_path("segmenter")
    model = train_objects(ObjectScenes("train", SCENES), seed=seed)
    path.write_bytes(save(model.state_dict()))
    print(f"wrote {path}, {path.stat().st_size:,} bytes")
    for words, value in report(model).items():
        print(f"{value:7.1%}  {words}")


if __name__ == "__main__":
    main()
