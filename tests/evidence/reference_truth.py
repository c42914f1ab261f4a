"""Whether RelMax lists show one thing each, under the rules for ranking and under the single set of rules of the paper.

Each network is mined twice over the same samples. For every concept with a full list of 8 samples:

- entropy: Shannon entropy of the labels of the 8 samples, in bits (0 if all are alike, at most 3). The labels of the
  1,000 classes are 9 groups of ImageNet's order of classes, because each class has one photo;
- in common: the part of a list that both sets of rules have;
- purity (scenes): the largest part of the 8 patches that show the same value of an attribute. A patch shows the tag or
  a kind of background if at least half of the patch's positive relevance lies there, and otherwise the shape, the
  texture and the colour of its object.

ActMax lists do not depend on rules. Random lists are drawn anew for each concept. Given are means over concepts and
their standard errors. Made by

    python -m tests.evidence.reference_truth FOLDER_OF_REAL_DATA > docs/evidence/references.md
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import crp.attribution

# isort: split
import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from crp.demo import Scenes, demo_model
from tests.oracle import nets, photos

K = 8
RULES = {"ranking rules": None, "paper's rules": "epsilon-plus-flat"}
# By their order in ImageNet, which follows WordNet.
GROUPS = {
    "fish": range(7),
    "birds": (*range(7, 25), *range(80, 101), *range(127, 147)),
    "amphibians and reptiles": range(25, 69),
    "invertebrates": (*range(69, 80), *range(107, 127), *range(300, 330)),
    "dogs": range(151, 269),
    "other mammals": (*range(101, 107), *range(147, 151), *range(269, 300), *range(330, 398)),
    "things": range(398, 924),
    "food and plants": (*range(924, 970), *range(984, 1000)),
    "landscapes and people": range(970, 984),
}


@dataclass(frozen=True)
class Subject:
    """A trained network, its samples, their labels or groups, and the layers that are mined."""

    name: str
    model: nn.Module
    data: Dataset
    labels: np.ndarray
    layers: Sequence[str]


def entropy(labels: Iterable[int]) -> float:
    """Shannon entropy of how often each label occurs, in bits."""
    counts = np.array(list(Counter(labels).values()), float)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def photos_of_classes(folder: Path) -> tuple[TensorDataset, np.ndarray]:
    """One photo of each class, and the group of each."""
    entries = json.loads((folder / "imagenet_photos" / "index.json").read_text())
    data = torch.stack([photos.for_squeezenet(folder / "imagenet_photos" / entry["file"]) for entry in entries])
    classes = [entry["class_index"] for entry in entries]
    group_of = {index: number for number, members in enumerate(GROUPS.values()) for index in members}
    return TensorDataset(data, torch.tensor(classes)), np.array([group_of[index] for index in classes])


def purity(values: Sequence[frozenset[str]]) -> float:
    """The largest part of patches that show the same value."""
    counts = Counter(value for shown in values for value in shown)
    return max(counts.values()) / len(values)


def shown(scenes: Scenes, patch: crp.Patch) -> frozenset[str]:
    """Values of attributes where most of a patch's positive relevance lies."""
    top, left, bottom, right = patch.box
    scene, masks = scenes.scene(patch.sample), scenes.masks(patch.sample)
    positive = np.clip(patch.heatmap, 0, None)
    held = {name: positive[masks[name][top:bottom, left:right]].sum() for name in ("tag", "background")}
    if held["tag"] >= positive.sum() / 2:
        return frozenset({"tag"})
    if held["background"] >= positive.sum() / 2:
        return frozenset({f"background {scene.background}"})
    return frozenset({scene.shape, scene.texture, scene.colour})


def row(name: str, numbers: Sequence[float]) -> str:
    """Mean and standard error."""
    return f"{name} {np.mean(numbers):.2f} ± {np.std(numbers) / np.sqrt(max(len(numbers), 1)):.2f}"


def report(subject: Subject, folder: Path) -> None:
    """Write one line for each layer."""
    libraries = {
        name: crp.mine(
            subject.model, subject.data, layers=subject.layers, path=folder / f"{subject.name}-{name}", composite=rules,
            k=K, patches_now="none", progress=False,
        )
        for name, rules in RULES.items()
    }  # fmt: skip
    generator = np.random.default_rng(0)
    for layer in subject.layers:
        lists = {f"RelMax, {name}": one.references(layer, "relevance").sample for name, one in libraries.items()}
        lists["ActMax"] = libraries["ranking rules"].references(layer, "activation").sample
        full = np.all([(samples >= 0).all(1) for samples in lists.values()], 0)
        lists = {name: samples[full] for name, samples in lists.items()}
        count = int(full.sum())
        lists["random"] = generator.integers(len(subject.labels), size=(count, K))
        cells = [row("", [entropy(subject.labels[line]) for line in samples]) for samples in lists.values()]
        both = [lists[f"RelMax, {name}"] for name in RULES]
        common = [len(set(ours) & set(theirs)) / K for ours, theirs in zip(*both, strict=True)]
        say(subject.name, layer, count, *cells, row("", common))


def report_scenes(folder: Path) -> None:
    """Write one line for each layer of the demo network."""
    scenes, model = Scenes("train", 1000), demo_model()
    for layer in ("conv3", "conv4", "conv5"):
        found: dict[str, list[float]] = {}
        for name, rules in RULES.items():
            library = crp.mine(
                model, scenes, layers=[layer], path=folder / f"scenes-{layer}-{name}", composite=rules, k=K,
                preprocessing=scenes.preprocessing, patches_now="all", progress=False,
            )  # fmt: skip
            for concept in range(library.shape(layer)[0]):
                for mode, title in (("relevance", f"RelMax, {name}"), ("activation", "ActMax")):
                    patches = library.patches(layer, concept, mode)
                    if len(patches) == K and (mode == "relevance" or name == "ranking rules"):
                        found.setdefault(title, []).append(purity([shown(scenes, patch) for patch in patches]))
        titles = [f"RelMax, {name}" for name in RULES] + ["ActMax"]
        say("demo CNN", layer, *(row("", found[title]) for title in titles), *(len(found[title]) for title in titles))


def say(*cells: object) -> None:
    """Write a row of a table."""
    sys.stdout.write("| " + " | ".join(str(cell).strip() for cell in cells) + " |\n")
    sys.stdout.flush()


def table(subjects: Sequence[Callable[[], Subject]]) -> None:
    """Write both tables."""
    with tempfile.TemporaryDirectory() as folder:
        rules = [f"entropy of RelMax, {name}" for name in RULES]
        say("network", "layer", "concepts", *rules, "ActMax", "random", "in common")
        say(*["---"] * 8)
        for subject in subjects:
            report(subject(), Path(folder))
        sys.stdout.write("\n")
        say("network", "layer", *(f"purity of RelMax, {name}" for name in RULES), "ActMax", *["concepts"] * 3)
        say(*["---"] * 8)
        report_scenes(Path(folder))


def main() -> None:
    """Read the folder of real data and write the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder

    def squeezenet() -> Subject:
        layers = ["features.6", "features.9", "features.12"]
        return Subject("SqueezeNet 1.1", nets.trained_squeezenet(folder), *photos_of_classes(folder), layers)

    def resnet() -> Subject:
        data, labels = photos.cifar10(folder, 2000)
        layers = ["layer1.2", "layer2.2", "layer3.0", "layer3.1"]
        return Subject("ResNet-20", nets.trained_resnet20(folder), TensorDataset(data, labels), labels.numpy(), layers)

    sys.stdout.write("# Do RelMax lists show one thing each?\n\n" + __doc__.split("\n\n", 1)[1] + "\n")
    table([squeezenet, resnet])


if __name__ == "__main__":
    main()
