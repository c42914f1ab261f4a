"""Made-up explanations: smooth random heatmaps, coloured patches, shares that add up."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from PIL import Image

from crp.explanations import (
    ClassScore,
    ClassShare,
    ConceptMap,
    ConceptPart,
    Explanation,
    LayerExplanation,
    Patch,
)
from crp.graphs.concept_graph import ConceptGraph, GraphEdge, GraphNode

NAMES = ("zebra", "horse", "tiger", "dog", "fence")
HOSTILE = "</script><script>alert(1)</script>\"'&$x_{$\u2028\u202e\n"


def smooth(random: np.random.Generator, height: int, width: int, detail: int = 5) -> np.ndarray:
    """Random hills, float32 [height, width], both signs, some of it exactly zero."""
    coarse = random.normal(size=(detail, detail)).astype(np.float32)
    values = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return np.sign(values) * np.maximum(np.abs(values) - 0.5, 0)


def picture(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    return np.stack([np.clip(128 + 60 * smooth(random, height, width), 0, 255) for _ in range(3)], axis=-1).astype(
        np.uint8
    )


def patch(random: np.random.Generator, sample: int, name: str) -> Patch:
    height, width = random.integers(8, 60, size=2)
    heatmap = smooth(random, height, width, detail=3)
    return Patch(
        sample=sample,
        score=0.5 / (sample + 1),
        target=sample % 10,
        position=(1, 2),
        box=(0, 0, height, width),
        picture=picture(random, height, width),
        heatmap=heatmap / max(np.abs(heatmap).max(), 1e-6),
        target_name=name,
    )


def layer(
    random: np.random.Generator,
    name: str,
    *,
    shape=(64, 64),
    supporting=6,
    opposing=3,
    patches=8,
    size=64,
    grid=(7, 7),
    names="cat",
) -> LayerExplanation:
    relevance = random.gamma(0.3, size=size) * random.choice([1, 1, -1], size=size)
    shares = relevance / np.abs(relevance).sum()
    order = np.argsort(shares)
    best = [int(i) for i in order[::-1][:supporting] if shares[i] > 0]
    worst = [int(i) for i in order[:opposing] if shares[i] < 0]

    def part(concept: int) -> ConceptPart:
        return ConceptPart(
            layer=name,
            concept=concept,
            relevance=relevance[concept],
            share=shares[concept],
            heatmap=smooth(random, *shape) * np.float32(shares[concept]),
            relevance_patches=tuple(patch(random, i, names) for i in range(patches)),
            activation_patches=tuple(patch(random, i + 100, names) for i in range(patches)),
            classes=(ClassShare(0, names, 0.25, samples=40, spread=0.0625), ClassShare(7, "fox", 0.125, samples=1)),
        )

    strength = np.abs(smooth(random, *grid, detail=3))
    owner = random.choice([*best[:4], *range(3)], size=(3, 3)).astype(np.uint8)
    owner = np.asarray(Image.fromarray(owner).resize(grid[::-1], Image.Resampling.NEAREST)).astype(np.int64)
    # Other concepts hold less than the owner of a cell, some of it against.
    table = random.uniform(-1, 1, size=(*grid, size)).astype(np.float32) * strength[..., None] * np.float32(0.9)
    np.put_along_axis(table, owner[..., None], strength[..., None], axis=2)
    others = [i for i in range(size) if i not in {*best, *worst}][: 10 if patches else 0]
    return LayerExplanation(
        layer=name,
        size=size,
        supporting=tuple(map(part, best)),
        opposing=tuple(map(part, worst)),
        rest=1 - np.abs(shares[[*best, *worst]]).sum(),
        coverage=0.97,
        concept_map=ConceptMap(name, np.where(strength > 0, owner, -1), strength, shape, table),
        relevance=relevance,
        glimpses={i: patch(random, i, names) for i in others},
    )


def graph(random: np.random.Generator, layers, name: str, shape) -> ConceptGraph:
    """The class, the best concepts of each layer, and an edge from each to each of the next; a tenth is left over."""
    rows = [[("(output)", 0)], *([(layer.layer, part.concept) for part in layer.ranked[:3]] for layer in layers)]
    relevance = {key: float(random.normal()) for row in rows for key in row}
    relevance["(output)", 0] = 2.0
    edges = [
        GraphEdge(upper, lower, 0.9 * relevance[lower] / len(row), 0.45 * relevance[lower] / len(row), 0.9 / len(row))
        for row, below in itertools.pairwise(rows)
        for upper in row
        for lower in below
    ]
    nodes = [
        GraphNode(
            *key,
            relevance=value,
            share=value / 2,
            rest=value if key[0] == "(output)" else 0.1 * value,
            carried=0.75,
            heatmap=smooth(random, *shape),
            patch=None if key[0] == "(output)" else patch(random, 3, name),
            name=name if key[0] == "(output)" else "",
        )
        for key, value in relevance.items()
    ]
    names = ("(output)", *(layer.layer for layer in layers))
    return ConceptGraph(names, nodes, edges, started=2.0, coverage=0.8, breadth=3)


def explanation(
    seed: int = 0, *, shape=(64, 64), layers=("layer3", "layer4"), names=NAMES, image="zebra.jpg", **options
) -> Explanation:
    random = np.random.default_rng(seed)
    logits = [5.0, 2.5, 1.0, 0.5, -0.25][: len(names)]
    probabilities = np.exp(logits) / np.exp(logits).sum()
    classes = tuple(ClassScore(3 * i, names[i], logits[i], probabilities[i]) for i in range(len(names)))
    given = picture(random, *shape)
    explained = tuple(layer(random, name, shape=shape, names=names[0], **options) for name in layers)
    return Explanation(
        picture=given,
        heatmap=smooth(random, *shape),
        classes=classes,
        target=classes[0],
        layers=explained,
        absorbed=0.04,
        provenance={
            "image": image,
            "command": f"crp atlas library.crp '{image}' --out atlas.html",
            "versions": {"crp-atlas": "0.1.0", "torch": "2.13.0"},
            "fingerprints": {"weights": "9f86d081884c7d65"},
            "settings": {"composite": "EpsilonPlusFlat", "concepts": 6},
        },
        graph=graph(random, explained, names[0], shape) if layers else None,
    )


def beside(value: Explanation, seed: int = 1, **options) -> Explanation:
    """The same input explained for the second class, and for the difference of the first two, beside `value`."""
    other, difference = (
        dataclasses.replace(explanation(seed + i, **options), picture=value.picture, provenance=value.provenance)
        for i in range(2)
    )
    other = dataclasses.replace(other, target=other.classes[1])
    difference = dataclasses.replace(difference, against=difference.classes[1])
    return dataclasses.replace(value, beside=(other, difference))
