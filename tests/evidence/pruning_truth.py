"""Which scores of filters keep the accuracy of ResNet-20: `python -m tests.evidence.pruning_truth FOLDER_OF_REAL_DATA`.

Filters of all convolutions are taken out at once, without training afterwards. Scores are made on 300 images of
CIFAR-10 and accuracy is measured on 2000 others. "each layer" takes the same share of every layer, as pruning by
weights is usually done (Li et al. 2017, "Pruning filters for efficient convnets"); "all layers" compares filters of all
of them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import crp.attribution  # noqa: F401  (the workaround must run before zennit is imported)

# isort: split
import numpy as np
import torch
from torch import Tensor, nn

from crp.correction import prune, relevance_scores
from crp.correction.pruning import predicted
from tests.oracle import nets, photos

SCORED, TESTED, SHARES = 300, 2000, (0.1, 0.3, 0.5, 0.7)

Scores = dict[str, np.ndarray]


def weight_scores(model: nn.Module, layers: list[str], order: int) -> Scores:
    """Mean absolute value, or root of the mean square, of the weights of each filter before a norm."""
    weights = {layer: model.get_submodule(layer.replace("bn", "conv")).weight.detach().flatten(1) for layer in layers}
    return {layer: (found.abs() ** order).mean(1).numpy() ** (1 / order) for layer, found in weights.items()}


@torch.no_grad()
def activation_scores(model: nn.Module, layers: list[str], data: Tensor) -> Scores:
    """Mean positive activation of each filter after its norm."""
    found: Scores = {}
    handles = [
        model.get_submodule(layer).register_forward_hook(
            lambda module, given, output, layer=layer: found.update({layer: output.relu().mean((0, 2, 3)).numpy()})
        )
        for layer in layers
    ]
    model(data)
    for handle in handles:
        handle.remove()
    return found


def within_layers(scores: Scores) -> Scores:
    """Replace scores by their rank within the layer, so that the same share of each layer goes."""
    return {layer: values.argsort().argsort() / len(values) for layer, values in scores.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    model = nets.trained_resnet20(folder)
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    data, labels = photos.cifar10(folder, TESTED + SCORED)
    tests, truth, data, labels = data[:TESTED], labels[:TESTED], data[TESTED:], labels[TESTED:]
    scores = {
        "relevance": relevance_scores(model, data, layers, labels=labels),
        "weights, L1": weight_scores(model, layers, 1),
        "weights, L2": weight_scores(model, layers, 2),
        "activation": activation_scores(model, layers, data),
    }
    rows = {
        f"{name}, {where}": change(found)
        for name, found in scores.items()
        for where, change in (("all layers", dict), ("each layer", within_layers))
    }
    draw = np.random.default_rng(0)
    rows["random, all layers"] = {layer: draw.random(len(found)) for layer, found in scores["relevance"].items()}
    whole = float((predicted(model, tests) == truth).double().mean())
    heads = " | ".join(f"{share:.0%}" for share in SHARES)
    sys.stdout.write(f"Whole network: {whole:.1%}.\n\n| score | {heads} |\n| --- |{' --- |' * len(SHARES)}\n")
    for name, found in rows.items():
        kept = [predicted(prune(model, data[:2], found, share).model, tests) == truth for share in SHARES]
        cells = " | ".join(f"{100 * float(right.double().mean()):.1f}" for right in kept)
        sys.stdout.write(f"| {name} | {cells} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
