"""Whether proposed names are right on the demo, whose attributes are known, and whether random networks get any.

- For each attribute of the scenes, the channel of conv2 to conv5 that separates it best: its area under the ROC curve,
  by activation and by relevance, and the name that `crp.analysis.propose` gives this channel. The classes are not among
  the columns. Only attributes that some channel separates with an area of 0.95 can name one. Of 80 octagons, 79 have
  the tag and nothing else has it, so both are named together.
- For copies of the demo networks with random weights (torch's own initialisation, other seeds): how many of their
  concepts get a name from the columns (attributes and classes), how many would by the threshold of 0.95 alone, and
  how many get one from class profiles.

Made by

    python -m tests.evidence.name_truth > docs/evidence/names.md
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

import crp
from crp.analysis import propose, propose_from_classes
from crp.analysis.attributes import Attribute, attributes_of
from crp.analysis.separating import Separation, separation
from crp.demo import Scenes, demo_model
from crp.library import Library
from tests.evidence.ranking_truth import say
from tests.evidence.untrained import untrained

SCENES, LAYERS = 800, {"cnn": ("conv2", "conv3", "conv4", "conv5"), "vit": ("blocks.1", "blocks.2")}


def mined(model: nn.Module, network: str, folder: Path) -> Library:
    """A library with vectors of the training scenes."""
    options = {"vectors": True, "patches": 0, "k": 8, "progress": False, "overwrite": True, "restart": True}
    scenes = Scenes("train", SCENES)
    return crp.mine(
        model, scenes, layers=LAYERS[network], path=folder / "a.crp", class_names=scenes.class_names, **options
    )


def columns() -> dict[str, list]:
    """The scenes' attributes and their classes."""
    scenes = Scenes("train", SCENES)
    return scenes.attributes() | {"class": [scenes.class_names[scenes.scene(i).label] for i in range(SCENES)]}


def separations(library: Library, layer: str, attributes: list[Attribute]) -> tuple[Separation, Separation]:
    """Those of activation and of relevance."""
    groups = np.stack([one.inside for one in attributes], axis=1)
    vectors = library.vectors(layer)
    return tuple(separation(np.asarray(matrix), groups) for matrix in (vectors.activation, vectors.relevance))


def of_attributes(library: Library) -> None:
    """Write a row for each attribute."""
    scenes = Scenes("train", SCENES)
    attributes, _ = attributes_of(scenes.attributes(), np.ones(SCENES, bool))
    proposed = {(one.layer, one.concept): one for one in propose(library, scenes.attributes())}
    found = {layer: separations(library, layer, attributes) for layer in library.layers}
    say("| attribute | channel that separates it best | area | of relevance | its proposed name |")
    say("| --- " * 5 + "|")
    right = wrong = 0
    for place, one in enumerate(attributes):
        best = max(
            ((layer, concept) for layer, (own, _) in found.items() for concept in range(len(own.area))),
            key=lambda key: found[key[0]][0].area[key[1], place],
        )
        area, use = (part.area[best[1], place] for part in found[best[0]])
        name = proposed.get(best)
        told = name.label if name else ""
        if area >= 0.95:
            right += one.label in told.split(" or ")
            wrong += one.label not in told.split(" or ") and told != ""
        say(f"| {one.column} = {one.value} | {best[0]}/{best[1]} | {area:.3f} | {use:.3f} | {told or 'none'} |")
    say(f"\nOf the attributes with an area of 0.95: {right} named rightly, {wrong} by another name.\n")


def of_random(network: str, seeds: int, folder: Path) -> None:
    """Write a row for the copies of one network."""
    known = columns()
    attributes, _ = attributes_of(known, np.ones(SCENES, bool))
    named, alone, classes, total, most = 0, 0, 0, 0, 0.0
    for seed in range(seeds):
        library = mined(untrained(demo_model(network), seed), network, folder)
        count = sum(library.limits(layer).concepts for layer in library.layers)
        own = len(propose(library, known))
        named, total, most = named + own, total + count, max(most, own / count)
        classes += len(propose_from_classes(library))
        for layer in library.layers:
            alone += int((separations(library, layer, attributes)[0].area >= 0.95).any(1).sum())
    shares = [f"{share:.1%}" for share in (named / total, most, alone / total, classes / total)]
    say(f"| {network} | {seeds} | {total} | {' | '.join(shares)} |")


def report(seeds: int) -> None:
    """Write both tables."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        say("# Proposed names\n\n" + __doc__.split("Made by")[0])
        of_attributes(mined(demo_model(), "cnn", folder))
        say("| random copies of | copies | concepts | named | most in one | by the threshold alone | from classes |")
        say("| --- " * 7 + "|")
        of_random("cnn", seeds, folder)
        of_random("vit", seeds, folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=20)
    report(parser.parse_args().seeds)
