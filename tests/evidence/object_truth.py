"""Truth on the scenes with objects: is the concept of each class first, and inside of its object; is the ground found?

    python -m tests.evidence.object_truth --scenes 200

The concept of a class is the one with the largest mean share in training scenes. On unseen scenes, in which every
octagon stands on its patch of ground, the script counts for how many objects that concept is first, and how much of its
positive relevance lies in the object's mask. Only octagons were trained with something outside of their masks, so their
use of context should be larger than that of all other objects.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from crp.attribution import RelevanceFlow, composite_for, prepare
from crp.attribution.replica import Replica
from crp.attribution.starts import ClassInMask
from crp.concepts import ChannelConcept
from crp.demo import ObjectScenes, demo_model
from crp.demo.object_scenes import OCTAGON
from crp.places import Place, context_use

LAYER = "features.conv6"


@dataclass(frozen=True)
class Measured:
    """One object: its class and scene, share of each concept, use of context, and by concept that of the concept."""

    scene: int
    label: int
    share: np.ndarray
    context: float
    of_first: float


def measured(scenes: ObjectScenes, replica: Replica) -> Iterator[Measured]:
    """Explain every object in its true mask with a prepared model."""
    kind = ChannelConcept()
    for index in range(len(scenes)):
        with RelevanceFlow(replica, None, scenes[index][0][None], [LAYER]) as flow:
            for each, mask in zip(scenes.scene(index).objects, scenes.masks(index), strict=True):
                started = flow.output_relevance(ClassInMask(each.label, mask))
                arriving, parts = flow.down(started, to=LAYER)[0], flow.parts(LAYER, kind)
                relevance = parts.total(arriving.double())[0]
                first = int(relevance.argmax())
                heatmap, whole = flow.down(parts.carried(arriving, [first]), start=LAYER), flow.down(started)
                place = Place(mask)
                yield Measured(
                    index,
                    each.label,
                    (relevance / relevance.abs().sum()).detach().numpy(),
                    context_use(whole[0, 0].sum(0).detach().numpy(), place).context,
                    context_use(heatmap[0, 0].sum(0).detach().numpy(), place).context,
                )


def concepts_of_classes(scenes: ObjectScenes, replica: Replica) -> dict[int, int]:
    """Return the concept with the largest mean share for each class."""
    shares = defaultdict(list)
    for each in measured(scenes, replica):
        shares[each.label].append(each.share)
    return {label: int(np.mean(own, 0).argmax()) for label, own in shares.items()}


def truth(count: int, seed: int = 1) -> dict[str, float]:
    """Measure `count` unseen scenes; keys describe the numbers."""
    learned, model = ObjectScenes("train", max(40, count // 4)), demo_model("segmenter")
    replica = prepare(model, composite_for(model, learned[0][0][None]).composite)
    concepts = concepts_of_classes(learned, replica)
    found = list(measured(ObjectScenes("test", count, seed=seed, patch="always"), replica))
    clean = [each for each in found if each.label != OCTAGON]
    grounded = [each for each in found if each.label == OCTAGON]
    first = [int(each.share.argmax()) == concepts[each.label] for each in found]
    # octagons compared with the other objects of their scenes
    pairs = [mine.context > other.context for mine in grounded for other in clean if other.scene == mine.scene]
    every = [mine.context > max(other.context for other in clean) for mine in grounded]
    return {
        "scenes": count,
        "objects": len(found),
        "different concepts of the classes": len(set(concepts.values())),
        "objects whose class's concept is first": float(np.mean(first)),
        "clean objects with 80 % of the first concept's positive relevance in the mask": float(
            np.mean([each.of_first <= 0.2 for each in clean])
        ),
        "mean of that relevance in the mask, clean objects": 1 - float(np.mean([each.of_first for each in clean])),
        "mean use of context, clean objects": float(np.mean([each.context for each in clean])),
        "mean use of context, octagons on their ground": float(np.mean([each.context for each in grounded])),
        "octagons above the other objects of their scene": float(np.mean(pairs)),
        "octagons above all clean objects of all scenes": float(np.mean(every)),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--scenes", type=int, default=200)
    for words, value in truth(parser.parse_args().scenes).items():
        sys.stdout.write(f"{value:8.3f}  {words}\n")
