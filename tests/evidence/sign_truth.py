"""Which signs of relevance are wrong, and why: channels of ResNet-20 against the measured effects of removing them.

Each channel of a block is set to zero in 100 CIFAR pictures. Of the channels whose effect on the predicted class's
logit is at least 1 % of it,

- right: how many have relevance of the sign of their effect, and the same by size of the effect;
- supports, opposes: the same for channels whose removal lowers the logit, and for those whose removal raises it;
- wrong, opposes: of the wrong ones, how many have negative relevance although their removal lowers the logit;
- excess: mean of effect minus relevance over all channels, in per cent of the logit. First-order relevance without a
  preferred error has 0.

Made by

    python -m tests.evidence.sign_truth FOLDER_OF_REAL_DATA > docs/evidence/signs.md
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from crp.attribution import RelevanceFlow, composite_for, prepare
from crp.attribution.starts import Logits
from tests.evidence.ranking_truth import CLEAR, say
from tests.oracle import nets, photos

BLOCKS = ["layer1.2", "layer2.0", "layer2.1", "layer2.2", "layer3.0", "layer3.1"]
SIZES = (CLEAR, 0.02, 0.05, 0.1, 0.2, np.inf)


def compared(folder: Path, count: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Compute relevance and effect of each channel in parts of the logit, `[N, C]` each, by block."""
    model, (data, _) = nets.trained_resnet20(folder), photos.cifar10(folder, count)
    replica = prepare(model, composite_for(model, data[:1]).composite)
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {block: [] for block in BLOCKS}
    for batch in data.split(20):
        with RelevanceFlow(replica, None, batch, BLOCKS, to_input=False) as flow:
            start = Logits(flow.prediction.argmax(1))
            logit = flow.prediction.max(1).values[:, None]
            arriving = flow.down(flow.output_relevance(start), to=BLOCKS)
            flow.follow_upper_parts(BLOCKS)
            for block, into in found.items():
                relevance = arriving[block][0].sum((2, 3))
                effect = flow.removal(block).effects(range(relevance.shape[1]), start)
                into.append(((relevance / logit).numpy(), (effect / logit).numpy()))
    return {block: tuple(map(np.concatenate, zip(*parts, strict=True))) for block, parts in found.items()}


def row(relevance: np.ndarray, effect: np.ndarray) -> list[str]:
    """Write the columns of one block."""
    right, size = np.sign(relevance) == np.sign(effect), np.abs(effect)
    clear, supports = size >= CLEAR, effect > 0
    wrong = clear & ~right
    bins = [right[(size >= low) & (size < high)].mean() for low, high in pairwise(SIZES)]
    shares = [right[clear].mean(), *bins, right[clear & supports].mean(), right[clear & ~supports].mean()]
    return [
        str(clear.sum()),
        *(f"{share:.2f}" for share in shares),
        f"{(wrong & supports).sum()} of {wrong.sum()}",
        f"{100 * (effect - relevance).mean():+.1f}",
    ]


def report(folder: Path, count: int) -> None:
    """Print the table."""
    found = compared(folder, count)
    ranges = [f"{low:.0%} to {high:.0%}" for low, high in pairwise(SIZES[:-1])]
    names = ["block", "channels", "right", *ranges, f"over {SIZES[-2]:.0%}", "supports", "opposes", "wrong, opposes"]
    say(f"# Signs of relevance\n\n{__doc__.split('Made by')[0].partition('.')[2].strip()}\n")
    say("Made by `python -m tests.evidence.sign_truth FOLDER`.\n")
    say(f"| {' | '.join(names)} | excess |\n{'| --- ' * (len(names) + 1)}|")
    everything = [np.concatenate([part.ravel() for part in parts]) for parts in zip(*found.values(), strict=True)]
    for name, pair in {**found, "all": everything}.items():
        say(f"| {name} | {' | '.join(row(*pair))} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=100)
    chosen = parser.parse_args()
    with torch.no_grad():
        report(chosen.folder, chosen.pictures)
