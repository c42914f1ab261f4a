"""What corrections of the demo network do to the planted tag: `python -m tests.evidence.fix_truth`.

No labels are used. For each seed, corrections are made on training scenes and measured on other scenes, which are drawn
without and with the tag. The layers below `conv5` do not change, so their output is computed once.

`--scenes 3000 --seeds 0 1 2 3 4 --only refit` measures training from a layer upwards, which takes more scenes. Its
settings were chosen on the seeds 10 and 11.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from statistics import mean, stdev

import torch
from torch import Tensor, nn

from crp.correction import Correction, project, reactive, refit, suppress
from crp.demo import TAGGED_CLASS, Scenes, demo_model

TESTED = 500
TAG, BATCH = 37, 50

Make = Callable[[nn.Module, Tensor, int], Correction]
REMOVED: dict[str, Make] = {
    "suppress": lambda model, data, _: suppress(model, data, "conv5", TAG),
    "project": lambda model, data, _: project(model, data, "conv5", TAG),
    "reactive": lambda model, data, _: reactive(model, data, "conv5", TAG),
}


def refitted_after(remove: Make) -> Make:
    """Return what fits the last layer after another correction."""
    return lambda model, data, seed: refit(model, data, "conv5", TAG, after=remove(model, data, seed), seed=seed)


METHODS: dict[str, Make] = {
    "refit": lambda model, data, seed: refit(model, data, "conv5", TAG, seed=seed),
    "refit from hidden": lambda model, data, seed: refit(model, data, "conv5", TAG, from_layer="hidden", seed=seed),
    "refit from conv5": lambda model, data, seed: refit(model, data, "conv5", TAG, from_layer="conv5", seed=seed),
    "suppress, mean": lambda model, data, _: suppress(model, data, "conv5", TAG, fill="mean"),
    **REMOVED,
    **{f"{name}, refit": refitted_after(remove) for name, remove in REMOVED.items()},
}


def cut(model: nn.Sequential) -> tuple[nn.Sequential, nn.Sequential]:
    """Divide the network below `conv5`."""
    place = [name for name, _ in model.named_children()].index("conv5")
    return model[:place], model[place:]


@torch.no_grad()
def below(lower: nn.Module, scenes: Scenes) -> Tensor:
    """What the layers below give for all scenes."""
    inputs = (torch.stack([scenes[index][0] for index in range(first, first + BATCH)])
              for first in range(0, len(scenes), BATCH))  # fmt: skip
    return torch.cat([lower(batch) for batch in inputs])


@torch.no_grad()
def figures(model: nn.Module, tests: dict[str, Tensor], labels: Tensor) -> list[float]:
    """Accuracies in percent: all scenes without tags, octagons without, pasted tags taken for octagons, as trained."""
    found = {name: torch.cat([model(batch) for batch in data.split(BATCH)]).argmax(1) for name, data in tests.items()}
    octagon = labels == TAGGED_CLASS
    shares = [
        found["never"] == labels,
        (found["never"] == labels)[octagon],
        (found["always"] == TAGGED_CLASS)[~octagon],
        (found["always"] == labels)[~octagon],
        found["train"] == labels,
    ]
    return [100 * float(share.double().mean()) for share in shares]


def main() -> None:
    """Print a table of all corrections."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--scenes", type=int, default=800, help="to correct with")
    asked.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked.add_argument("--only", default="", help="what the names of corrections begin with")
    given = asked.parse_args()
    torch.set_num_threads(1)
    lower, upper = cut(demo_model())
    rows: dict[str, list[list[float]]] = {}
    for seed in given.seeds:
        data = below(lower, Scenes("train", given.scenes, seed=seed))
        tests = {tag: below(lower, Scenes("test", TESTED, seed=seed, tag=tag)) for tag in ("never", "always", "train")}
        labels = torch.arange(TESTED) % 10

        def row(name: str, model: nn.Module, seed: int = seed, tests: dict = tests, labels: Tensor = labels) -> None:
            rows.setdefault(name, []).append(figures(model, tests, labels))
            sys.stderr.write(f"seed {seed}, {name}: {rows[name][-1]}\n")

        row("as it is", upper)
        for name, correct in METHODS.items():
            if name.startswith(given.only):
                row(name, correct(upper, data, seed).model)
    heads = ("right, no tags", "octagons without the tag", "pasted: octagon", "pasted: right", "right, as trained")
    sys.stdout.write(f"| | {' | '.join(heads)} |\n| --- |{' --- |' * len(heads)}\n")
    for name, found in rows.items():
        cells = [f"{mean(column):.1f} ± {stdev(column):.1f}" for column in zip(*found, strict=True)]
        sys.stdout.write(f"| {name} | {' | '.join(cells)} |\n")


if __name__ == "__main__":
    main()
