"""Whether concepts of the built-in sounds, signals and volumes are what was planted.

`python -m tests.evidence.planted_truth`: of unseen samples with something planted, explained for their true class, how
often the first concept of the last mined layer is the one that is first most often for this class, and how much of its
positive relevance lies in the mask, whose part of the input is the chance level. The seed is used for nothing else:
neither networks nor rules nor masks were chosen by these samples.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import click
import numpy as np
import torch
from torch import nn

from crp.attribution import INPUT, RelevanceFlow, composite_for, prepare
from crp.attribution.operation_composite import OperationComposite, ZPlusOrMinus
from crp.demo import Calls, Heartbeats, Scans, demo_model

if TYPE_CHECKING:
    from zennit.core import BasicHook

NETWORKS = {"spectrogram": (Calls, "conv4"), "heartbeat": (Heartbeats, "conv4"), "scan": (Scans, "conv3")}
SAMPLES, SEED = 200, 20


class PlusFirst(OperationComposite):
    """The default rules, but z+ in place of flat at the first layer, which a ReLU follows."""

    def linear_rule(self, module: nn.Module, name: str, first: bool) -> BasicHook:
        """Return the rule of a linear operation."""
        return ZPlusOrMinus() if first else super().linear_rule(module, name, first)


class Row(NamedTuple):
    """One sample: what it is, its first concept, and how much of that concept's relevance lies in the mask."""

    label: int
    first: int
    right: bool
    inside: float
    widened: float
    chance: float


def first_concepts(network: str, count: int = SAMPLES, seed: int = SEED, plus_first: bool = False) -> list[Row]:
    """Measure `count` samples with something planted."""
    data_of, layer = NETWORKS[network]
    model = demo_model(network)
    data = data_of("test", 2 * count, seed=seed)
    found, first = [], data[0][0][None]
    composite = composite_for(model, first).composite
    replica = prepare(model, PlusFirst(composite.network, composite.ranking) if plus_first else composite)
    planted = [index for index in range(len(data)) if index % 3][:count]
    for index in planted:
        sample = data.sample(index)
        values = torch.from_numpy(sample.values)[None]
        with RelevanceFlow(replica, None, values, [layer]) as flow:
            started = flow.output_relevance([sample.label])
            arriving = flow.down(started, to=layer)[0]
            relevance = arriving[0].flatten(1).sum(1)
            concept = int(relevance.argmax())
            kept = torch.zeros_like(arriving)
            kept[:, concept] = arriving[:, concept]
            heatmap = flow.down(kept[None], start=layer, to=INPUT)[0, 0].sum(0).numpy().clip(min=0)
            right = int(flow.prediction[0].argmax()) == sample.label
        total = heatmap.sum()
        parts = [float(heatmap[mask].sum() / total) for mask in (sample.mask, widened(sample.mask))]
        found.append(Row(sample.label, concept, right, *parts, float(sample.mask.mean())))
    return found


def widened(mask: np.ndarray) -> np.ndarray:
    """Add the neighbours of a mask along each axis."""
    padded = np.pad(mask, 1)
    shifted = [np.roll(padded, step, axis) for axis in range(mask.ndim) for step in (-1, 1)]
    return np.logical_or.reduce([padded, *shifted])[(slice(1, -1),) * mask.ndim]


def report(network: str, count: int = SAMPLES, plus_first: bool = False) -> str:
    """Sum up `first_concepts` in a line."""
    found = first_concepts(network, count, plus_first=plus_first)
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
@click.option("--plus-first", is_flag=True, help="Use z+ in place of flat at the first layer.")
def main(networks: tuple[str, ...], samples: int, plus_first: bool) -> None:
    """Print a line for each network."""
    for network in networks or NETWORKS:
        click.echo(report(network, samples, plus_first))


if __name__ == "__main__":
    main()
