"""What is left of an explanation without what the upper half of a network learned, and where it comes from.

The relevances of a layer's channels are compared (Spearman) with

- shuffled: those of ten copies, in which each weight tensor of the upper half of layers is in random order, as in
  `crp evaluate`;
- drawn: those of ten copies whose upper half has the weights that torch draws for a new network; samples without any
  relevance (a last ReLU that is 0) are left out;
- activation: the sums of activations over positions;
- same gradient: relevance of the sum of all outputs of the last module below the upper half, which knows neither what
  the upper half learned nor the class;
- beyond that: the shuffled copies again, partial correlation given "same gradient".

Mean over copies and samples; of the copies in brackets also the lowest and the highest mean over samples.

Heatmaps of eight samples are compared (SSIM) with those of one copy each, and with those that share nothing but the way
in which they are made: of another sample, and the same pixels in random order. Divided by their largest value, as in
`crp evaluate`, maps of few large values are alike because nearly all of both is close to 0; as drawn, values are
clipped where colours are full. Made by

    python -m tests.evidence.randomised_truth FOLDER_OF_REAL_DATA > docs/evidence/randomised.md
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from crp.attribution import RelevanceFlow, composite_for, prepare
from crp.demo import Scenes, demo_model
from crp.evaluation.measures import rank_correlation
from crp.evaluation.passes import modules_as_called, with_shuffled_weights
from crp.evaluation.randomisation import similarity
from crp.visualization.encoding import scaled
from tests.evidence.asked import networks_asked
from tests.evidence.ranking_truth import say
from tests.evidence.untrained import untrained
from tests.oracle import nets, photos

COPIES = 10


def subjects(folder: Path) -> Iterator[tuple[str, nn.Module, str, str, Tensor]]:
    """Yield the networks with a layer, the last module below the upper half, and samples."""
    files = photos.samples(folder)[::6]
    large, small = (
        torch.stack([prepared(folder / "imagenet_samples" / entry["file"]) for entry in files])
        for prepared in (photos.for_squeezenet, photos.for_mobilenet)
    )
    scenes = torch.stack([Scenes("test", 16)[index][0] for index in range(16)])
    yield "SqueezeNet 1.1", nets.trained_squeezenet(folder), "features.6", "features.7", large
    yield "ResNet-20", nets.trained_resnet20(folder), "layer1.2", "layer2.0", photos.cifar10(folder, 16)[0]
    yield "MobileNet v1", nets.trained_mobilenet(folder), "pw5_relu", "dw7_relu", small
    yield "demo CNN", demo_model(), "relu2", "relu3", scenes


def relevances(model: nn.Module, layer: str, data: Tensor, target: Tensor) -> np.ndarray:
    """Compute the relevance of each channel for the classes, `[N, C]`."""
    replica = prepare(model, composite_for(model, data[:1]).composite)
    with RelevanceFlow(replica, None, data, [layer], to_input=False) as flow:
        return flow.down(flow.output_relevance(target.tolist()), to=layer)[0].sum((2, 3)).numpy()


def without_upper_half(model: nn.Module, layer: str, last: str, data: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Compute the activation of each channel, and its relevance for the sum of the outputs of `last`, `[N, C]` each."""
    replica = prepare(model, composite_for(model, data[:1]).composite)
    with RelevanceFlow(replica, None, data, [layer, last], to_input=False) as flow:
        same = flow.down(flow.activation(last)[None], start=last, to=layer)[0]
        return flow.activation(layer).sum((2, 3)).numpy(), same.sum((2, 3)).numpy()


def correlated(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Correlate the ranks of each sample, two of `[N, C]` -> `[N]`."""
    return np.array([rank_correlation(*pair) for pair in zip(one, other, strict=True)])


def row(model: nn.Module, layer: str, last: str, data: Tensor) -> list[str]:
    """Write the columns of a network."""
    names = modules_as_called(model, data[:1])
    upper = names[-ceil(len(names) / 2) :]
    with torch.no_grad():
        target = model(data).argmax(1)
    before = relevances(model, layer, data, target)
    activation, same = without_upper_half(model, layer, last, data)
    found = [upper[0]]
    for change in (with_shuffled_weights, untrained):
        copies = [relevances(change(model, seed, upper), layer, data, target) for seed in range(COPIES)]
        means = [float(np.nanmean(correlated(before, copy))) for copy in copies]
        found.append(f"{np.mean(means):.2f} ({min(means):.2f}, {max(means):.2f})")
        if change is with_shuffled_weights:
            given = correlated(before, same)
            beyond = [partial(correlated(before, copy), given, correlated(copy, same)) for copy in copies]
    others = (correlated(before, activation).mean(), given.mean(), np.mean(beyond))
    return [*found, *(f"{value:.2f}" for value in others)]


def partial(both: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Correlate two rankings given a third, from the three correlations."""
    return (both - one * other) / np.sqrt((1 - one**2) * (1 - other**2))


def heatmaps(model: nn.Module, data: Tensor, target: Tensor) -> Tensor:
    """Compute the heatmaps of the classes, `[N, H, W]`."""
    replica = prepare(model, composite_for(model, data[:1]).composite)
    with RelevanceFlow(replica, None, data, []) as flow:
        return flow.down(flow.output_relevance(target.tolist()))[0].sum(1)


def compared_maps(model: nn.Module, data: Tensor) -> list[str]:
    """Write similarities of heatmaps: divided by their largest value, then as drawn."""
    names = modules_as_called(model, data[:1])
    with torch.no_grad():
        target = model(data).argmax(1)
    maps = heatmaps(model, data, target)
    places = torch.randperm(maps[0].numel(), generator=torch.Generator().manual_seed(0))
    copies = [with_shuffled_weights(model, 0, names[-ceil(len(names) / 2) :]), with_shuffled_weights(model, 0, names)]
    others = [
        *(heatmaps(copy, data, target) for copy in copies), maps.roll(1, 0), maps.flatten(1)[:, places].view_as(maps)
    ]  # fmt: skip
    return [
        f"{similarity(maps, other).mean():.2f}, {similarity(as_drawn(maps), as_drawn(other)).mean():.2f}"
        for other in others
    ]


def as_drawn(maps: Tensor) -> Tensor:
    """Divide each heatmap by the value at which its colours are full, and clip."""
    return torch.from_numpy(np.stack([scaled(each.numpy()) for each in maps]))


def report(folder: Path, only: str) -> None:
    """Print the tables."""
    say(f"# What randomisation leaves of an explanation\n\n{__doc__.split('Made by')[0].partition('.')[2].strip()}\n")
    say("Made by `python -m tests.evidence.randomised_truth FOLDER`.\n")
    say("| network, layer | upper half from | shuffled | drawn | activation | same gradient | beyond that |")
    say("| --- " * 7 + "|")
    for name, model, layer, last, data in subjects(folder):
        if only in name:
            say(f"| {name}, {layer} | {' | '.join(row(model, layer, last, data))} |")
    say("\n| network | upper half shuffled | all shuffled | another sample | pixels in random order |")
    say("| --- " * 5 + "|")
    for name, model, _, _, data in subjects(folder):
        if only in name:
            say(f"| {name} | {' | '.join(compared_maps(model, data[:8]))} |")


if __name__ == "__main__":
    chosen = networks_asked()
    torch.set_num_threads(1)
    report(chosen.folder, chosen.only)
