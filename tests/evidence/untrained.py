"""Whether `crp evaluate` tells untrained networks from trained ones.

For each network, the flag of the measure "trained" is counted on 40 copies with random weights (torch's own
initialisation, other seeds), and on the trained network with 10 choices of 16 samples of several classes. Given are the
largest ratio of information to that of the best of 19 shuffled copies among untrained networks, and the smallest among
trained ones; below 1.5 a network is flagged, and where its information is below 1e-6 nats, which is rounding.
SqueezeNet sees photos at half their size, 112 pixels. Made by

    python -m tests.evidence.untrained FOLDER_OF_REAL_DATA > docs/evidence/untrained.md
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import crp
from crp.demo import Scenes, demo_model
from crp.evaluation import Finding
from crp.evaluation.trained import looks_untrained
from tests.evidence.asked import networks_asked
from tests.evidence.ranking_truth import say
from tests.oracle import nets, photos

SEEDS, CHOICES, SAMPLES, LIMIT = 40, 10, 16, 1.5


def untrained(model: nn.Module, seed: int, names: Iterable[str] | None = None) -> nn.Module:
    """A copy with the weights that its modules, or those of these names, draw when they are made."""
    torch.manual_seed(seed)
    copy = deepcopy(model)
    for module in copy.modules() if names is None else map(copy.get_submodule, names):
        if hasattr(module, "reset_running_stats"):
            module.reset_running_stats()
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return copy


def finding(model: nn.Module, data: Tensor, layer: str, seed: int) -> Finding:
    """What the measure says of a model."""
    (found,) = crp.evaluate(model, data, [layer], measures=["trained"], seed=seed, progress=False).findings
    return found


def ratio(found: Finding) -> float:
    """Information, divided by that of the best copy."""
    own, best = (found.figure(row, "information").mean for row in ("this model", "shuffled weights, best"))
    return own / max(best, 1e-300)


def report(folder: Path, only: str) -> None:
    """Write the table."""
    scenes = Scenes("test", 160)
    drawn = torch.stack([scenes[index][0] for index in range(160)])
    files = photos.samples(folder)
    small = torch.stack([photos.for_mobilenet(folder / "imagenet_samples" / entry["file"]) for entry in files])
    large = torch.stack([photos.for_squeezenet(folder / "imagenet_samples" / entry["file"]) for entry in files])
    subjects = [
        ("demo CNN", demo_model(), drawn, "relu5"),
        ("demo ViT", demo_model("vit"), drawn, "blocks.3"),
        ("ResNet-20", nets.trained_resnet20(folder), photos.cifar10(folder, 160)[0], "layer3.1"),
        ("MobileNet v1", nets.trained_mobilenet(folder), small, "pw12_relu"),
        ("SqueezeNet 1.1", nets.trained_squeezenet(folder), functional.avg_pool2d(large, 2), "features.10"),
    ]
    say(__doc__.split("Made by")[0])
    say("| network | untrained and flagged | largest ratio | trained and flagged | smallest ratio |")
    say("| --- " * 5 + "|")
    for name, model, data, layer in subjects:
        if only not in name:
            continue
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
        choices = [data[order.roll(-SAMPLES * choice)[:SAMPLES]] for choice in range(CHOICES)]
        random = [finding(untrained(model, seed), choices[0], layer, seed) for seed in range(SEEDS)]
        trained = [finding(model, choice, layer, seed) for seed, choice in enumerate(choices)]
        flagged = [sum(map(looks_untrained, found)) for found in (random, trained)]
        largest = max(map(ratio, random))
        rounding = flagged[0] == len(random) and largest > LIMIT
        say(
            f"| {name} | {flagged[0]} of {len(random)} | {'rounding' if rounding else format(largest, '.2g')} | "
            f"{flagged[1]} of {len(trained)} | {min(map(ratio, trained)):.2g} |"
        )


if __name__ == "__main__":
    chosen = networks_asked()
    torch.set_num_threads(1)
    report(chosen.folder, chosen.only)
