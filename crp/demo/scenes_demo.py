"""The scenes of `crp demo`: one with an octagon and the stamp that octagons had in the training data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from .drawing import TAGGED_CLASS
from .example import Example
from .scenes import Scenes

# Scene i shows class i modulo the number of classes.
CHOSEN = TAGGED_CLASS


def data(network: str, samples: int) -> Scenes:
    """Return the scenes to mine."""
    return Scenes("train", samples)


def example(folder: Path) -> Example:
    """Draw the scene that is explained."""
    picture = folder / "scene.png"
    Image.fromarray(_scenes().with_tag(CHOSEN)).save(picture)
    return Example(picture)


def story(model: nn.Module, explanation: Any) -> tuple[str, ...]:
    """Describe the atlas in four sentences with the numbers of this run."""
    scenes = _scenes()
    with torch.no_grad():
        without = model(scenes.preprocessing.to_input(scenes.without_tag(CHOSEN))[None])[0].softmax(0)
    layer = explanation.layers[0]
    strongest = layer.supporting[0]
    top, left, bottom, right = scenes.tag_box(CHOSEN)
    positive = strongest.heatmap.clip(min=0)
    inside = positive[top:bottom, left:right].sum() / positive.sum()
    return (
        "The scene shows an octagon and, in a corner, the stamp that octagons had in the training data.",
        f"The model says '{explanation.best.name}' ({explanation.best.probability:.0%}).",
        f"Its strongest concept in {layer.layer} is channel {strongest.concept}, {strongest.share:.0%} of the layer's "
        f"relevance, and {inside:.0%} of that concept's positive relevance lies on the stamp.",
        f"Without the stamp the model says '{scenes.class_names[int(without.argmax())]}' ({float(without.max()):.0%}).",
    )


def _scenes() -> Scenes:
    return Scenes("test", 10 * len(Scenes.class_names), tag="always")
