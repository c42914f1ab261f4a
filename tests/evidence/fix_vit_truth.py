"""What corrections of the demo vision transformer do to the planted tag: `python -m tests.evidence.fix_vit_truth`.

No class labels are used. The concept is, at the output of the second block,

- latent: the tag latent of the autoencoder that `tutorials/train_sae.py` trains, found as in `kinds_truth`; nothing
  refers to the tag before that;
- pattern: the pattern-CAV of tokens of which the tag covers half or more, against tokens off the tag, in 40 scenes: a
  person marked the tag in them. It counts as active above 0.65 of its largest value, chosen on another draw (seed 10).

Latents have no linear encoder, so `suppress` takes out the latent's direction (its least squares coefficient). For each
seed, corrections are made on training scenes and measured on others, which are drawn without and with the tag.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from statistics import mean, stdev

import torch
from torch import Tensor, nn

from crp.analysis.learned_directions import layer_activations, pattern_directions
from crp.attribution import RelevanceFlow
from crp.concepts import Directions
from crp.correction import Correction, project, reactive, refit, suppress
from crp.demo import Scenes, demo_model
from tests.evidence.fix_truth import figures
from tests.evidence.kinds_truth import in_patches, tag_latent
from tutorials import train_sae

LAYER, FITTED, TESTED, SEEDS, ACTIVE, REACH = train_sae.LAYER, 400, 300, (20, 21), 0.65, 1
MARKED, MARKED_SEED, FROM = 40, 99, "blocks.2"

Make = Callable[[nn.Module, Tensor], Correction]


def inputs(split: str, count: int, **given: object) -> Tensor:
    """Scenes as input of the network."""
    scenes = Scenes(split, count, **given)
    return torch.stack([scenes[index][0] for index in range(count)])


def latents(model: nn.Module) -> tuple[Directions, int]:
    """Train the autoencoder of the tutorial; return it and its tag latent."""
    tokens = layer_activations(model, train_sae.load_inputs(), LAYER, samples=train_sae.SAMPLES)
    with redirect_stdout(sys.stderr):
        kind = train_sae.train(tokens, train_sae.LATENTS, train_sae.K, train_sae.STEPS)
    return kind, tag_latent(model, kind)


def pattern(model: nn.Module) -> Directions:
    """Learn the pattern of marked tokens."""
    scenes = Scenes("train", MARKED, seed=MARKED_SEED, tag="always")
    data = torch.stack([scenes[index][0] for index in range(MARKED)])
    with RelevanceFlow(model, None, data, [LAYER], to_input=False) as flow:
        tokens = flow.layout(LAYER).split(flow.activation(LAYER)).movedim(1, -1)[:, 1:].detach()
    masks = [scenes.drawing(index).masks["tag"] for index in range(MARKED)]
    covered = torch.stack([torch.from_numpy(in_patches(mask[None])[0]) for mask in masks])
    return pattern_directions({"tag": (tokens[covered >= 0.5], tokens[covered == 0])})


def methods(model: nn.Module) -> Iterator[tuple[str, Make]]:
    """Yield the corrections by name."""
    kind, latent = latents(model)
    direction = Directions(kind.matrix[latent, None])
    quiet = {"progress": False}
    filled = {"fill": "mean", **quiet}
    watched = {"kind": kind, "reach": REACH, **quiet}
    marked = {"kind": pattern(model), "active": ACTIVE, "reach": REACH, **quiet}

    def both(first: Make, concept: int, given: dict) -> Make:
        return lambda model, data: refit(model, data, LAYER, concept, after=first(model, data), **given)

    def erased(model: nn.Module, data: Tensor) -> Correction:
        return reactive(model, data, LAYER, latent, **watched)

    def erased_by_pattern(model: nn.Module, data: Tensor) -> Correction:
        return reactive(model, data, LAYER, 0, **marked)

    yield "`suppress`, latent", lambda model, data: suppress(model, data, LAYER, 0, kind=direction, **filled)
    yield "`project`, latent", lambda model, data: project(model, data, LAYER, latent, **watched)
    yield "`reactive`, latent", erased
    yield "`refit`, latent", lambda model, data: refit(model, data, LAYER, latent, **watched)
    above = {"from_layer": FROM, **watched}
    yield f"`refit --from {FROM}`, latent", lambda model, data: refit(model, data, LAYER, latent, **above)
    yield "`reactive`, then `refit`, latent", both(erased, latent, watched)
    yield "`project`, pattern", lambda model, data: project(model, data, LAYER, 0, **marked)
    yield "`reactive`, pattern", erased_by_pattern
    yield "`refit`, pattern", lambda model, data: refit(model, data, LAYER, 0, **marked)
    yield "`reactive`, then `refit`, pattern", both(erased_by_pattern, 0, marked)


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser()
    options.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    seeds = options.parse_args().seeds
    torch.set_num_threads(1)
    model = demo_model("vit")
    makes = dict(methods(model))
    rows: dict[str, list[list[float]]] = {}
    for seed in seeds:
        data = inputs("train", FITTED, seed=seed)
        tests = {tag: inputs("test", TESTED, seed=seed, tag=tag) for tag in ("never", "always", "train")}
        labels = torch.arange(TESTED) % 10
        for name, make in {"as it is": lambda model, data: Correction(model, "", True, LAYER), **makes}.items():
            rows.setdefault(name, []).append(figures(make(model, data).model, tests, labels))
            sys.stderr.write(f"seed {seed}, {name}: {rows[name][-1]}\n")
    heads = ("right, no tags", "octagons without the tag", "pasted: octagon", "pasted: right", "right, as trained")
    sys.stdout.write(f"| | {' | '.join(heads)} |\n| --- |{' --- |' * len(heads)}\n")
    for name, found in rows.items():
        cells = [f"{mean(one):.1f} ± {stdev(one) if len(one) > 1 else 0:.1f}" for one in zip(*found, strict=True)]
        sys.stdout.write(f"| {name} | {' | '.join(cells)} |\n")


if __name__ == "__main__":
    main()
