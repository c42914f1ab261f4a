"""What `crp suspects` and `crp fix` do about a watermark: `python -m tests.evidence.watermark_truth REAL_DATA`.

A mark is put into the lower right corner of half the images of two CIFAR classes, and a trained ResNet-20 is fine-tuned
on them. Only CIFAR's test set is there, so its images are divided: 6,000 to fine-tune with, 1,000 that methods were
chosen on, and 3,000 that only measure.

- found: which places in the list of suspects concepts have that show the mark, from a library of 1,000 of the
  fine-tuning images, alone and with places measured on them. A concept shows it if its activation tells images of the
  two classes with the mark from those without in nine of ten pairs (AUC). Such concepts would be known by their
  patches; here they are by the AUC.
- worst group: the lowest accuracy of a class without the mark, or with it in all images. Taking the mark away can
  raise it to the lowest accuracy without marks, and no further.
- lost: the most that the mark takes from the accuracy of a class, in points.

The first concept of the list is corrected on 600 of the fine-tuning images, without labels, at its usual place. What
counts is measured on the third part; `--choosing` measures on the second.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

import crp
from crp.concepts import ChannelConcept
from crp.correction import (
    Candidate,
    Correction,
    candidates,
    coincidences,
    placed_direction,
    project,
    reactive,
)
from crp.library import Library
from tests.oracle import nets

MARKED = (7, 9)  # horse and truck
FITTED, CHOSEN = 6000, 1000
SIDE, BATCH, EPOCHS, RATE = 7, 100, 4, 0.02
MINED, PLACED, CORRECTED, LAYERS = 1000, 1000, 600, ("layer2.2", "layer3.0", "layer3.1")
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def marked(images: Tensor) -> Tensor:
    """Put a mark, a white ring on black, into the lower right corner of images `[N, 3, 32, 32]` (0 to 1)."""
    mark = torch.zeros(SIDE, SIDE)
    mark[1:-1, 1:-1], mark[2:-2, 2:-2] = 1, 0
    found = images.clone()
    found[:, :, -SIDE:, -SIDE:] = mark
    return found


def prepared(images: Tensor) -> Tensor:
    """Images as the network takes them."""
    return (images - MEAN[:, None, None]) / STD[:, None, None]


@dataclass(frozen=True)
class Part:
    """Images `[N, 3, 32, 32]` (0 to 1), their labels `[N]`, and which have the mark in the data as they are, `[N]`."""

    images: Tensor
    labels: Tensor
    has: Tensor

    def first(self, count: int) -> Part:
        """Return the first images."""
        return Part(self.images[:count], self.labels[:count], self.has[:count])

    def as_they_are(self) -> Tensor:
        """Half of the images of two classes with the mark."""
        return prepared(torch.where(self.has[:, None, None, None], marked(self.images), self.images))

    def plain(self) -> Tensor:
        """No image with the mark."""
        return prepared(self.images)

    def all_marked(self) -> Tensor:
        """Every image with the mark."""
        return prepared(marked(self.images))


def parts(folder: Path, seed: int) -> list[Part]:
    """Divide the images, in an order that depends on the seed."""
    stored = np.load(folder / "cifar10_test.npz")
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(stored["labels"]), generator=draw)
    images = torch.from_numpy(stored["images"])[order].movedim(3, 1).float() / 255
    labels = torch.from_numpy(stored["labels"])[order]
    has = torch.isin(labels, torch.tensor(MARKED)) & (torch.rand(len(labels), generator=draw) < 0.5)
    borders = (0, FITTED, FITTED + CHOSEN, len(labels))
    return [Part(images[a:b], labels[a:b], has[a:b]) for a, b in pairwise(borders)]


def fine_tuned(folder: Path, part: Part, seed: int) -> nn.Module:
    """Train the network on, with mirrored images; the mark stays in its corner."""
    model = nets.trained_resnet20(folder).train()
    images = part.images
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        steps = EPOCHS * (len(images) // BATCH)
        optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=0.9, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
        for epoch in range(EPOCHS):
            for picked in torch.randperm(len(images)).split(BATCH):
                flip = torch.rand(len(picked), 1, 1, 1) < 0.5
                batch = torch.where(flip, images[picked].flip(3), images[picked])
                batch = torch.where(part.has[picked, None, None, None], marked(batch), batch)
                cross_entropy(model(prepared(batch)), part.labels[picked]).backward()
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
            sys.stderr.write(f"epoch {epoch + 1} of {EPOCHS}\n")
    return model.eval()


def showing(library: Library, part: Part) -> dict[str, np.ndarray]:
    """Return for each layer how well the activation of each concept tells images with the mark from those without."""
    own = torch.isin(part.labels, torch.tensor(MARKED)).numpy()
    has, found = part.has.numpy()[own], {}
    for layer in library.layers:
        ranks = rankdata(np.asarray(library.vectors(layer).activation)[own], axis=0)
        positive = int(has.sum())
        found[layer] = (ranks[has].sum(0) - positive * (positive + 1) / 2) / (positive * (len(has) - positive))
    return found


@dataclass(frozen=True)
class Accuracy:
    """In percent: the worst group, its name, and the worst without marks; images without, with, as they are; `lost`."""

    worst: float
    group: str
    worst_plain: float
    plain: float
    marked: float
    as_they_are: float
    lost: float

    def __str__(self) -> str:
        """Return the numbers."""
        return (
            f"worst group {self.worst:.1f} ({self.group}), without marks {self.worst_plain:.1f}, "
            f"no marks {self.plain:.1f}, all marked {self.marked:.1f}, "
            f"as they are {self.as_they_are:.1f}, the mark takes {self.lost:.1f}"
        )


@torch.no_grad()
def measured(model: nn.Module, part: Part) -> Accuracy:
    """Measure a model on images with and without marks."""
    right = {
        name: torch.cat([model(batch) for batch in data.split(BATCH)]).argmax(1) == part.labels
        for name, data in (("without", part.plain()), ("with", part.all_marked()))
    }
    groups = {
        f"{NAMES[label]}, {name} the mark": 100 * float(one[part.labels == label].double().mean())
        for name, one in right.items()
        for label in range(10)
    }
    worst = min(groups, key=groups.__getitem__)
    mixed = torch.where(part.has, right["with"], right["without"])
    means = (100 * float(one.double().mean()) for one in (right["without"], right["with"], mixed))
    lost = max(groups[f"{name}, without the mark"] - groups[f"{name}, with the mark"] for name in NAMES)
    return Accuracy(groups[worst], worst, min(groups[f"{name}, without the mark"] for name in NAMES), *means, lost)


def corrections(model: nn.Module, part: Part, first: Candidate) -> Iterator[tuple[str, Correction]]:
    """Yield corrections of a suspect at its usual place by name."""
    data, layer = part.as_they_are(), first.layer
    mark = placed_direction(model, data, layer, first.concept, progress=False)
    yield "reactive", reactive(model, data, layer, 0, kind=mark, progress=False)
    yield "project", project(model, data, layer, 0, kind=mark, progress=False)


def one_seed(data: Path, folder: Path, seed: int, choosing: bool) -> dict[str, Accuracy]:
    """Print what was found, and the figures of the network as it is and after each correction; return these."""
    fitted, chosen_on, measuring = parts(data, seed)
    weights = folder / f"marked-{seed}.pt"
    if not weights.is_file():
        torch.save(fine_tuned(data, fitted, seed).state_dict(), weights)
    model = nets.ResNet20()
    model.load_state_dict(torch.load(weights))
    model.eval()
    some = fitted.first(MINED)
    library = crp.mine(
        model, TensorDataset(some.as_they_are(), some.labels), layers=LAYERS, vectors=True, patches=0,
        path=folder / f"marked-{seed}.crp", class_names=NAMES, threads=1, progress=False, overwrite=True,
    )  # fmt: skip
    aucs = showing(library, some)
    places = coincidences(model, fitted.first(PLACED).as_they_are(), LAYERS, ChannelConcept(), progress=False)
    sys.stdout.write(f"seed {seed}\n")
    for how, measured_places in (("alone", None), ("with places", places)):
        found = candidates(library, places=measured_places)
        at = [place for place, one in enumerate(found, 1) if aucs[one.layer][one.concept] >= 0.9]
        likely = [place for place, one in enumerate(found, 1) if one.likely]
        sys.stdout.write(f"{how}: those that show the mark are at places {at} of {len(found)}, likely are {likely}\n")
    sys.stdout.write(f"first: {found[0].name}, {found[0].target_name}, place {found[0].place:.2f}\n")
    part = chosen_on if choosing else measuring
    figures = {"as it is": measured(model, part)}
    for name, one in corrections(model, fitted.first(CORRECTED), found[0]):
        figures[name] = measured(one.model, part)
    for name, accuracy in figures.items():
        sys.stdout.write(f"{name}: {accuracy}\n")
    sys.stdout.flush()
    return figures


def main() -> None:
    """Print the figures of each seed, and what they have in common."""
    options = argparse.ArgumentParser()
    options.add_argument("data", type=Path)
    options.add_argument("--folder", type=Path, default=Path("watermark"), help="for networks and libraries")
    options.add_argument("--seeds", type=int, nargs="+", default=[*range(8)], help="networks that are there are kept")
    options.add_argument("--choosing", action="store_true", help="measure on the images that methods were chosen on")
    given = options.parse_args()
    torch.set_num_threads(1)
    given.folder.mkdir(exist_ok=True)
    found = [one_seed(given.data, given.folder, seed, given.choosing) for seed in given.seeds]
    for name in [*found[0]][1:]:
        gains = np.array([one[name].worst - one["as it is"].worst for one in found])
        costs = np.array([one["as it is"].plain - one[name].plain for one in found])
        spread = gains.std(ddof=1) if len(gains) > 1 else 0
        sys.stdout.write(
            f"{name}: the worst group gains {gains.mean():.1f} ± {spread:.1f} points ({gains.min():.1f} to "
            f"{gains.max():.1f}), images without marks lose at most {costs.max():.1f}\n"
        )


if __name__ == "__main__":
    main()
