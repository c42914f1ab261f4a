"""Whether concepts of the built-in sounds, signals and volumes are what was planted.

`python -m tests.evidence.planted_truth`: of unseen samples with something planted, explained for their true class, how
often the first concept of the last mined layer is the one that is first most often for this class, and how much of its
positive relevance lies in the mask, whose part of the input is the chance level. The seed is used for nothing else:
neither networks nor rules nor masks were chosen by these samples.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import click
import numpy as np
import torch
from torch import Tensor

from crp.attribution import INPUT, RelevanceFlow, composite_for, prepare
from crp.attribution.replica import Replica
from crp.demo import Calls, Heartbeats, Scans, demo_model

NETWORKS = {"spectrogram": (Calls, "conv4"), "heartbeat": (Heartbeats, "conv4"), "scan": (Scans, "conv3")}
SAMPLES, SEED = 200, 20


class Row(NamedTuple):
    """One sample: what it is, its first concept, and how much of that concept's relevance lies in the mask."""

    label: int
    first: int
    right: bool
    inside: float
    widened: float
    chance: float


def first_concepts(network: str, count: int = SAMPLES, seed: int = SEED) -> list[Row]:
    """Measure `count` samples with something planted."""
    data_of, layer = NETWORKS[network]
    model = demo_model(network)
    data = data_of("test", 2 * count, seed=seed)
    replica = prepare(model, composite_for(model, data[0][0][None]).composite)
    found = []
    for index in [index for index in range(len(data)) if index % 3][:count]:
        sample = data.sample(index)
        concept, heatmap, predicted = first_concept(replica, torch.from_numpy(sample.values)[None], layer, sample.label)
        parts = (share(heatmap, mask) for mask in (sample.mask, widened(sample.mask)))
        found.append(Row(sample.label, concept, predicted == sample.label, *parts, float(sample.mask.mean())))
    return found


def first_concept(replica: Replica, values: Tensor, layer: str, label: int) -> tuple[int, np.ndarray, int]:
    """Return the first concept of a sample `[1, c, *S]`, its positive relevance `[*S]`, and the predicted class."""
    with RelevanceFlow(replica, None, values, [layer]) as flow:
        arriving = flow.down(flow.output_relevance([label]), to=layer)[0]
        concept = int(arriving[0].flatten(1).sum(1).argmax())
        kept = torch.zeros_like(arriving)
        kept[:, concept] = arriving[:, concept]
        heatmap = flow.down(kept[None], start=layer, to=INPUT)[0, 0].sum(0).numpy().clip(min=0)
        return concept, heatmap, int(flow.prediction[0].argmax())


def share(heatmap: np.ndarray, mask: np.ndarray) -> float:
    """Return how much of a heatmap without negative values lies in a mask."""
    return float(heatmap[mask].sum() / heatmap.sum())


def widened(mask: np.ndarray) -> np.ndarray:
    """Add the neighbours of a mask along each axis."""
    padded = np.pad(mask, 1)
    shifted = [np.roll(padded, step, axis) for axis in range(mask.ndim) for step in (-1, 1)]
    return np.logical_or.reduce([padded, *shifted])[(slice(1, -1),) * mask.ndim]


def report(network: str, count: int = SAMPLES) -> str:
    """Sum up `first_concepts` in a line."""
    found = first_concepts(network, count)
    firsts = {label: Counter(row.first for row in found if row.label == label) for label in (1, 2)}
    most = {label: counted.most_common(1)[0][0] for label, counted in firsts.items()}
    same = np.mean([most[row.label] == row.first for row in found])
    parts = "; ".join(
        f"class {label}: {np.mean([row.inside for row in found if row.label == label]):.1%}, at least 80 % in "
        f"{np.mean([row.inside >= 0.8 for row in found if row.label == label]):.1%} of the samples, "
        f"{np.mean([row.widened for row in found if row.label == label]):.1%} in the mask widened by one value"
        for label in most
    )
    return (
        f"{network}: {len(found)} samples, {np.mean([row.right for row in found]):.1%} classified right; "
        f"first concept by class {most}, in {same:.1%} of the samples; of its positive relevance in the mask: "
        f"{parts}; by chance {np.mean([row.chance for row in found]):.1%}"
    )


@click.command()
@click.argument("networks", nargs=-1, type=click.Choice(tuple(NETWORKS)))
@click.option("--samples", default=SAMPLES, show_default=True)
def main(networks: tuple[str, ...], samples: int) -> None:
    """Print a line for each network."""
    for network in networks or NETWORKS:
        click.echo(report(network, samples))


if __name__ == "__main__":
    main()
