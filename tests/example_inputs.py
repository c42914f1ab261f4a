"""Made-up explanations of inputs of each kind, whose numbers add up."""

from __future__ import annotations

import math

import numpy as np

from crp.explanations import ClassScore, ConceptMap, ConceptPart, Explanation, LayerExplanation, Patch
from crp.media.medium import Medium
from crp.media.stft import Stft

CONCEPTS = 5
# Medium, shape of the input `[c, *S]`, cells along each axis.
MEDIA = {
    "signal": (Medium.signal(100, channels=("left", "right"), unit="mV"), (2, 600), (12,)),
    "audio": (Medium.audio(2000), (1, 4000), (16,)),
    "spectrogram": (Medium.spectrogram(Stft(2000, 64, 32)), (1, 32, 124), (4, 8)),
    "volume": (Medium.volume((3, 2, 2)), (1, 12, 10, 16), (3, 2, 4)),
    "image": (Medium.image(("nir", "red", "green", "blue"), shown=("nir", "red", "green")), (4, 12, 16), (3, 4)),
    "video": (Medium.video(8), (3, 12, 10, 16), (3, 2, 4)),
}


def drawn(medium: Medium, values: np.ndarray) -> np.ndarray:
    """Values `[c, *S]` as explanations and patches hold them."""
    return medium.to_picture(values)


def patch_of(random: np.random.Generator, medium: Medium, shape: tuple[int, ...], sample: int) -> Patch:
    """A patch of half of each axis."""
    sides = [length // 2 for length in shape[1:]]
    heatmap = random.normal(size=sides).astype(np.float32)
    return Patch(
        sample=sample,
        score=1 / (sample + 1),
        target=0,
        position=(1,) * len(sides),
        box=(*[1] * len(sides), *[1 + side for side in sides]),
        picture=drawn(medium, random.normal(size=(shape[0], *sides)).astype(np.float32)),
        heatmap=heatmap / np.abs(heatmap).max(),
        target_name="call",
    )


def explanation_of(kind: str, seed: int = 0) -> Explanation:
    """Explain an input of a kind of `MEDIA`: heatmaps and the table of cells agree."""
    random = np.random.default_rng(seed)
    medium, shape, grid = MEDIA[kind]
    space = shape[1:]
    heatmaps = random.normal(size=(CONCEPTS, *space)).astype(np.float32)
    heatmaps *= np.linspace(2, 0.5, CONCEPTS, dtype=np.float32).reshape(-1, *[1] * len(space))
    table = heatmaps.astype(np.float64)
    for axis, (length, cells) in enumerate(zip(space, grid, strict=True), start=1):
        table = np.add.reduceat(table, [-(-index * length // cells) for index in range(cells)], axis=axis)
    table = np.moveaxis(table, 0, -1).reshape(-1, grid[-1], CONCEPTS)
    relevance = heatmaps.reshape(CONCEPTS, -1).sum(1, dtype=np.float64)
    total = np.abs(relevance).sum()
    parts = [
        ConceptPart(
            "layer", concept, relevance[concept], relevance[concept] / total, heatmaps[concept],
            relevance_patches=tuple(patch_of(random, medium, shape, sample) for sample in range(2)),
        )
        for concept in np.argsort(-np.abs(relevance))[: CONCEPTS - 1].tolist()
    ]  # fmt: skip
    winner, strongest = table.argmax(-1), table.max(-1)
    layer = LayerExplanation(
        layer="layer",
        size=CONCEPTS,
        supporting=tuple(part for part in parts if part.share > 0),
        opposing=tuple(part for part in parts if part.share < 0),
        rest=1 - math.fsum(abs(part.share) for part in parts),
        coverage=1.0,
        concept_map=ConceptMap(
            "layer", np.where(strongest > 0, winner, -1), np.where(strongest > 0, strongest, 0),
            (math.prod(space[:-1]), space[-1]), table, grid if len(grid) == 3 else (),
        ),
        relevance=relevance,
    )  # fmt: skip
    classes = (ClassScore(0, "call", 2.0, 0.8), ClassScore(1, "noise", 0.6, 0.2))
    return Explanation(
        picture=drawn(medium, random.normal(size=shape).astype(np.float32)),
        heatmap=heatmaps.sum(0),
        classes=classes,
        target=classes[0],
        layers=(layer,),
        absorbed=0.0,
        provenance={"image": f"example of a {kind}"},
        medium=medium,
    )
