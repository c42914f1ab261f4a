"""The scenes with objects of `crp demo`: one with an octagon on the patch of ground that octagons had in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image
from torch import nn

from crp.attribution.starts import ClassInMask
from crp.mining.objects import ObjectLabel, ObjectSamples
from crp.places import context_use

from .example import Example
from .object_scenes import OCTAGON, ObjectScenes

# A scene with an octagon and two other objects.
CHOSEN = 6


def data(network: str, samples: int) -> ObjectSamples:
    """Return the objects to mine, each explained in its own mask; about 2.5 in each of `samples` scenes."""
    scenes = ObjectScenes("train", samples)
    return ObjectSamples(scenes, [object_labels(scenes, index) for index in range(samples)])


def object_labels(scenes: ObjectScenes, index: int) -> list[ObjectLabel]:
    """Return the objects of a scene, to be explained in their masks."""
    return [
        ObjectLabel(each.label, ClassInMask(each.label, mask, "its mask"))
        for each, mask in zip(scenes.scene(index).objects, scenes.masks(index), strict=True)
    ]


def example(folder: Path) -> Example:
    """Draw the scene that is explained, for its octagon."""
    picture = folder / "scene.png"
    Image.fromarray(_scenes().picture(CHOSEN)).save(picture)
    words = ("--objects", "--out", str(folder / "objects"))
    return Example(picture, {"target": ObjectScenes.class_names[OCTAGON]}, words)


def story(model: nn.Module, explanation: Any) -> tuple[str, ...]:
    """Describe the atlas in four sentences with the numbers of this run."""
    scenes = _scenes()
    layer = explanation.layers[0]
    strongest = layer.supporting[0]
    context, outside = context_use(explanation.heatmap, explanation.place), explanation.context_of(strongest).context
    bare = ObjectScenes("test", CHOSEN + 1, patch="never")
    found = model(bare[CHOSEN][0][None])[0].argmax(0)
    place = [each.label for each in scenes.scene(CHOSEN).objects].index(OCTAGON)
    seen = int(found.numpy()[bare.masks(CHOSEN)[place]].max())
    return (
        "The scene shows three objects, one of them an octagon on the hatched ground that octagons had in the training "
        "data.",
        f"The model finds the octagon, and {context.context:.0%} of the positive relevance lies outside of its mask.",
        f"Its strongest concept in {layer.layer} is channel {strongest.concept}, {strongest.share:.0%} of the layer's "
        f"relevance, of which {outside:.0%} lies outside.",
        f"Without the hatched ground the model sees '{scenes.class_names[seen]}' instead.",
    )


def _scenes() -> ObjectScenes:
    return ObjectScenes("test", CHOSEN + 1, patch="always")
