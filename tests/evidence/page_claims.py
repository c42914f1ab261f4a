"""Whether the cards of a page are right: the network without each concept that is said to support a prediction.

For each photo and Fire module of SqueezeNet, the cards that `crp.explain` would show (the six most relevant concepts
for the class, the six against it) are removed one by one by a plain hook: set to zero, and to the channel's mean over
all photos. A card that says "supports" is wrong if both raise the logit by more than 1 %; one that says "opposes" if
both lower it by more than 1 %. Coverage is the relevance at the module, divided by the logit.

`--cifar 300` does the same for as many pictures of CIFAR-10 and the blocks of ResNet-20, in batches: removals are then
those of `RelevanceFlow.removal`, and means those that a library holds (`Parts.means`).

Made by

    python -m tests.evidence.page_claims FOLDER_OF_REAL_DATA
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from crp.attribution import RelevanceFlow, composite_for, prepare
from crp.attribution.starts import Logits
from crp.concepts import ChannelConcept
from tests.evidence.ranking_truth import CARDS, CLEAR, Above
from tests.oracle import nets, photos

BLOCKS = [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in range(3)]
MODULES = [f"features.{number}" for number in (3, 4, 6, 7, 9, 10, 11, 12)]


def effects(above: Above, concepts: list[int], means: Tensor) -> Tensor:
    """Change of the logit, divided by it, if each concept is set to zero and to its mean, `[2, concepts]`."""
    masks = torch.ones(len(concepts), above.own.shape[1])
    masks[range(len(concepts)), concepts] = 0
    fills = torch.stack([torch.zeros_like(means), means])
    return torch.stack([above.logits(masks, fill) - above.logit for fill in fills]) / abs(above.logit)


def report(folder: Path, count: int) -> None:
    """Write one row for each set of rules and module."""
    model = nets.trained_squeezenet(folder)
    files = photos.samples(folder)[:: max(1, len(photos.samples(folder)) // count)][:count]
    data = torch.stack([photos.for_squeezenet(folder / "imagenet_samples" / entry["file"]) for entry in files])
    sys.stdout.write("| rules | module | cards | wrong supports | wrong opposes | coverage, lowest to highest |\n")
    sys.stdout.write("| --- | --- | --- | --- | --- | --- |\n")
    for rules in ("by-purpose", "epsilon-plus-flat"):
        replica = prepare(model, composite_for(model, data[:1], rules=rules).composite)
        with RelevanceFlow(replica, None, data, MODULES, to_input=False) as flow:
            targets = flow.prediction.argmax(1).tolist()
            arriving = flow.down(flow.output_relevance(targets), to=MODULES)
            means = {module: flow.activation(module).mean((0, 2, 3)) for module in MODULES}
            logits = flow.prediction.max(1).values
        for module in MODULES:
            relevance = arriving[module][0].sum((2, 3))
            wrong, shown = [0, 0], [0, 0]
            for sample, values in zip(data, relevance, strict=True):
                above = Above(model, module, sample)
                order = values.argsort(descending=True).tolist()
                sides = (
                    [index for index in order[:CARDS] if values[index] > 0],
                    [index for index in order[::-1][:CARDS] if values[index] < 0],
                )
                for side, (concepts, sign) in enumerate(zip(sides, (1, -1), strict=True)):
                    if concepts:
                        changes = sign * effects(above, concepts, means[module])
                        wrong[side] += int((changes > CLEAR).all(0).sum())
                        shown[side] += len(concepts)
            coverage = relevance.sum(1) / logits
            parts = [f"{bad} of {all_} ({bad / max(all_, 1):.1%})" for bad, all_ in zip(wrong, shown, strict=True)]
            sys.stdout.write(
                f"| {rules} | {module} | {sum(shown)} | {' | '.join(parts)} | "
                f"{float(coverage.min()):.2f} to {float(coverage.max()):.2f} |\n"
            )
            sys.stdout.flush()


def report_cifar(folder: Path, count: int) -> None:
    """Write one row for each block of ResNet-20."""
    model, (data, _) = nets.trained_resnet20(folder), photos.cifar10(folder, count)
    replica = prepare(model, composite_for(model, data[:1]).composite)
    with RelevanceFlow(replica, None, data, BLOCKS, to_input=False) as flow:
        means = {block: flow.parts(block, ChannelConcept()).means() for block in BLOCKS}
    found = {block: torch.zeros(2, 2, dtype=torch.int64) for block in BLOCKS}  # wrong and shown of both sides
    for batch in data.split(20):
        with RelevanceFlow(replica, None, batch, BLOCKS, to_input=False) as flow:
            start = Logits(flow.prediction.argmax(1))
            logits = flow.prediction.max(1).values
            arriving = flow.down(flow.output_relevance(start), to=BLOCKS)
            flow.follow_upper_parts(BLOCKS)
            removals = {block: flow.removal(block) for block in BLOCKS}
        for block, removal in removals.items():
            relevance = arriving[block][0].sum((2, 3))
            order = relevance.argsort(1, descending=True)
            cards = torch.cat([order[:, :CARDS], order.flip(1)[:, :CARDS]], 1)
            sign = torch.tensor([1] * CARDS + [-1] * CARDS)
            removed = [[[index] for index in row] for row in cards.tolist()]
            fills = (removal, removal.filled_with(means[block]))
            outputs = torch.stack([fill.outputs_each(removed, start).T for fill in fills])
            wrong = ((outputs - logits[:, None]) / logits.abs()[:, None] * sign > CLEAR).all(0)
            shown = relevance.gather(1, cards) * sign > 0
            for side in range(2):
                here = slice(side * CARDS, (side + 1) * CARDS)
                found[block][side] += torch.tensor([(wrong & shown)[:, here].sum(), shown[:, here].sum()])
    for block, sides in found.items():
        parts = [f"{bad} of {all_} ({bad / max(all_, 1):.1%})" for bad, all_ in sides.tolist()]
        sys.stdout.write(f"| {block} | {int(sides[:, 1].sum())} | {' | '.join(parts)} |\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=12)
    parser.add_argument("--cifar", type=int, default=0)
    chosen = parser.parse_args()
    if chosen.cifar:
        report_cifar(chosen.folder, chosen.cifar)
    else:
        report(chosen.folder, chosen.photos)
