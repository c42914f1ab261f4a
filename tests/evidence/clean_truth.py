"""What `crp suspects` and `crp fix` say of networks without a fault: `python -m tests.evidence.clean_truth FOLDER`.

The demo network is trained on scenes without tags, with other scenes and weights for each seed. For each network

- suspects: how many concepts are called likely, with places measured on 1,000 scenes, and the first row of the list;
- random: five concepts of `conv5` are drawn and suppressed. On other scenes, the change of accuracy is divided by its
  standard error (of paired samples); the largest of the five is given. Above 2, a page would show an improvement.

Networks are trained once, one after the other (about ten minutes of processor time each), and kept in FOLDER.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import crp
from crp.concepts import ChannelConcept
from crp.correction import candidates, coincidences, suppress
from crp.demo import Scenes
from crp.demo.cnn import build_cnn
from crp.demo.training_cnn import SCENES, train_cnn
from tests.evidence.fix_truth import below, cut

SEEDS = (1, 2, 3, 4, 5)
MINED, PLACED, FITTED, TESTED, DRAWN = 600, 1000, 200, 500, 5


def network(folder: Path, seed: int) -> nn.Sequential:
    """Train a network on scenes without tags, or read it."""
    path = folder / f"clean-{seed}.safetensors"
    if not path.is_file():
        made = train_cnn(Scenes("train", SCENES, seed=seed, tag="never"), seed=seed)
        save_file(made.state_dict(), path)
    model = build_cnn()
    model.load_state_dict(load_file(path))
    return model.eval()


@torch.no_grad()
def right(model: nn.Module, data: Tensor) -> Tensor:
    """Which scenes are predicted rightly, bool `[N]`."""
    return torch.cat([model(batch) for batch in data.split(50)]).argmax(1) == torch.arange(len(data)) % 10


def improvement(upper: nn.Module, fitting: Tensor, test: Tensor, seed: int) -> tuple[float, float]:
    """Accuracy in percent, and the largest change by suppressing one of some random concepts, in standard errors."""
    before, largest = right(upper, test), -float("inf")
    for concept in torch.randperm(40, generator=torch.Generator().manual_seed(seed))[:DRAWN].tolist():
        after = right(suppress(upper, fitting, "conv5", concept, progress=False).model, test)
        change = after.double() - before.double()
        error = change.std() / len(change) ** 0.5
        largest = max(largest, float(change.mean() / error) if error else 0.0)
    return 100 * float(before.double().mean()), largest


def main() -> None:
    """Print a row for each network."""
    options = argparse.ArgumentParser()
    options.add_argument("folder", type=Path)
    options.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    given = options.parse_args()
    given.folder.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    sys.stdout.write("| seed | right | likely | first row | its evidence | random concepts, standard errors |\n")
    sys.stdout.write("| --- | --- | --- | --- | --- | --- |\n")
    for seed in given.seeds:
        model = network(given.folder, seed)
        scenes = Scenes("train", MINED, seed=seed, tag="never")
        library = crp.mine(
            model, scenes, layers=["conv4", "conv5"], path=given.folder / f"clean-{seed}.crp", vectors=True, patches=0,
            class_names=scenes.class_names, overwrite=True, threads=1, progress=False,
        )  # fmt: skip
        others = Scenes("train", PLACED, seed=seed, tag="never")
        samples = torch.stack([others[index][0] for index in range(PLACED)])
        places = coincidences(model, samples, library.layers, ChannelConcept(), progress=False)
        found = candidates(library, places=places)
        lower, upper = cut(model)
        fitting, test = (
            below(lower, Scenes(split, count, seed=seed, tag="never"))
            for split, count in (("train", FITTED), ("test", TESTED))
        )
        accuracy, largest = improvement(upper, fitting, test, seed)
        first = found[0]
        evidence = ", ".join(f"{name} {getattr(first, name):.2f}" for name in ("exclusive", "gap", "errors", "place"))
        likely = ", ".join(f"{one.name} ({one.target_name})" for one in found if one.likely) or "none"
        row = (seed, f"{accuracy:.1f}", likely, f"{first.name}, {first.target_name}", evidence, f"{largest:+.1f}")
        sys.stdout.write(f"| {' | '.join(map(str, row))} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
