"""What directions say of the demo network, where the truth is known: pattern-CAVs and factors of NMF.

**Pattern-CAVs** of four concepts (the tag, stripes, red, the disc) are learned from 50 training scenes with each. A
position of the layer has a concept where its mask covers at least half of the position's pixels; positions that the
mask does not touch, in these scenes and in 50 without the concept, are the others. Nothing is fitted to a prediction.
In unseen octagons with the tag that are predicted as octagons:

- log-odds: how often the direction of the tag has the most relevance of the four, if the octagon's log-odds against all
  other classes are explained: why an octagon and not another class;
- logit: the same for the logit of the octagon alone;
- effect: how often the octagon's logit falls most without it;
- both: how often it is first (of the logit) where its effect is the largest;
- on the tag: how much of the positive relevance in its heatmap lies on the tag, and within two pixels of it;
- striped: of the octagons in which it is not first (of the logit), how many are striped.

**Other relevances** of the logit, and how often the tag is first: the gradient also counts where the activation is 0
(there, relevance belongs to the rest, but removing a direction changes the activation, too); parts are those of the
deviation from the mean of the training scenes; or both.

**In the picture**: octagons in which the tag is not first (of the logit), and striped ones in which it is, are drawn
again without the tag, and again with a plain object instead of a striped one. Means of the relevance of both
directions, of how much the logit falls without each direction, and of how much it falls in the picture drawn again; and
in how many of them that is more without the tag than without the stripes. Directions play no part in what is drawn.

**Why stripes come first**: means over the octagons, at `relu5`, of what becomes of the logit without a direction: its
relevance; the first order, with units whose activation is 0; the same if the maxima of the pooling above may move; and
if the ReLUs above may switch, too, which is the effect.

**NMF** with 20 directions learns from the positions of the same training scenes, without any labels.

- AUC: of the largest activation in a scene, for unseen scenes with the tag against all others; of the direction that
  separates *training* scenes best.

Made by

    python -m tests.evidence.direction_truth > docs/evidence/directions.md
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from scipy.ndimage import binary_dilation
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from crp.analysis.learned_directions import layer_activations, nmf_directions, pattern_directions
from crp.attribution import RelevanceFlow, composite_for
from crp.attribution.starts import LogOdds
from crp.concepts import Directions
from crp.demo import Scenes, demo_model
from crp.demo.drawing import Scene, draw
from tests.evidence.tag_truth import area

LAYERS = ("relu5", "relu4")
SEED, LEARNED, UNSEEN, EXAMPLES, MEAN_OF, FACTORS, BATCH = 13, 1000, 1600, 50, 300, 20, 50
OCTAGON = Scenes.class_names.index("octagon")
HOLDERS: dict[str, tuple[Callable[[Scene], bool], str]] = {
    "tag": (lambda scene: scene.tagged, "tag"),
    "stripes": (lambda scene: scene.texture == "striped", "texture"),
    "red": (lambda scene: scene.colour == "red", "colour"),
    "disc": (lambda scene: scene.shape == "disc", "shape"),
}


def inputs(scenes: Scenes, indices: list[int]) -> Tensor:
    """Return the inputs of some scenes, `[N, 3, 96, 96]`."""
    return torch.stack([scenes[index][0] for index in indices])


def activations(model: nn.Module, layer: str, data: Tensor) -> Tensor:
    """Return a layer's output, `[N, C, H, W]`."""
    found = []
    for some in data.split(BATCH):
        with RelevanceFlow(model, None, some, [layer], to_input=False) as flow:
            found.append(flow.activation(layer))
    return torch.cat(found)


def examples(model: nn.Module, layer: str, scenes: Scenes, name: str) -> tuple[Tensor, Tensor]:
    """Return the activations at positions with and without a concept, `[M, C]` each."""
    has, mask = HOLDERS[name]
    described = [scenes.scene(index) for index in range(len(scenes))]
    held = [index for index, scene in enumerate(described) if has(scene)][:EXAMPLES]
    others = [index for index, scene in enumerate(described) if not has(scene)][:EXAMPLES]
    covered = np.zeros((2 * EXAMPLES, 96, 96))
    covered[:EXAMPLES] = [scenes.drawing(index).masks[mask] for index in held]
    output = activations(model, layer, inputs(scenes, held + others))
    side = output.shape[-1]
    parts = torch.from_numpy(covered.reshape(2 * EXAMPLES, side, 96 // side, side, 96 // side).mean((2, 4)))
    values = output.movedim(1, -1)
    return values[parts >= 0.5], values[parts == 0]


def strongest(model: nn.Module, layer: str, data: Tensor, kind: Directions) -> np.ndarray:
    """Return the largest activation of each direction in each sample, `[N, n]`."""
    found = []
    for some in data.split(BATCH):
        with RelevanceFlow(model, None, some, [layer], to_input=False) as flow:
            found.append(kind.values(flow.activation(layer), flow.layout(layer)).amax(-1))
    return torch.cat(found).numpy()


def pattern_rows(
    model: nn.Module,
    layer: str,
    kind: Directions,
    mean: Tensor,
    data: Tensor,
    tags: np.ndarray,
    striped: np.ndarray,
    redrawn: np.ndarray,
) -> tuple[str, str, str]:
    """Measure the tag's pattern among the four: rows of the first three tables."""
    tag, composite = list(HOLDERS).index("tag"), composite_for(model, data[:1]).composite
    near = binary_dilation(tags, np.ones((1, 3, 3)), iterations=2)
    odds, held, falls, on_tag, around, others = [], [], [], [], [], []
    for sample, mask, ring in zip(data, tags, near, strict=True):
        with RelevanceFlow(model, composite, sample[None], [layer]) as flow:
            against = flow.down(flow.output_relevance(LogOdds(OCTAGON)), to=layer)[0]
            arriving = flow.down(flow.output_relevance([OCTAGON]), to=layer)[0]
            parts, activation, layout = flow.parts(layer, kind), flow.activation(layer), flow.layout(layer)
            odds.append(int(parts.total(against)[0].argmax()) == tag)
            held.append(parts.total(arriving)[0].numpy())
            without = flow.removal(layer, kind).predictions([[index] for index in range(len(HOLDERS))])
            falls.append((flow.prediction[0, OCTAGON] - without[:, 0, OCTAGON]).numpy())
            heatmap = flow.down(parts.carried(arriving, [tag]), start=layer)[0, 0].sum(0).clamp(min=0).numpy()
        on_tag.append(float(heatmap[mask].sum() / heatmap.sum()))
        around.append(float(heatmap[ring].sum() / heatmap.sum()))
        everywhere, deviation = gradient(model, layer, sample[None]), activation - mean[:, None, None]
        ways = [(everywhere, activation), (everywhere * (activation != 0), deviation), (everywhere, deviation)]
        others.append([int(kind.by_position(*way, layout).sum(2).argmax()) == tag for way in ways])
    held, falls = np.array(held), np.array(falls)
    first, largest = held.argmax(1) == tag, falls.argmax(1) == tag
    shares = [np.mean(values) for values in (odds, first, largest, first[largest], on_tag, around)]
    missed = ~first
    head = f"| `{layer}` | {len(data)} |"
    figures, other = (" | ".join(f"{share:.1%}" for share in some) for some in (shares, np.mean(others, 0)))
    pair = [tag, list(HOLDERS).index("stripes")]
    drawn = [
        f"| `{layer}` | {name} | {chosen.sum()} | "
        + " | ".join(f"{value[chosen].mean():.2f}" for value in (*held[:, pair].T, *falls[:, pair].T, *redrawn))
        + f" | {(redrawn[0] > redrawn[1])[chosen].sum()} |"
        for name, chosen in (("not first", missed), ("first, striped", first & striped))
    ]
    return f"{head} {figures} | {striped[missed].sum()} of {missed.sum()} |", f"{head} {other} |", "\n".join(drawn)


def redrawn_falls(model: nn.Module, scenes: Scenes, indices: list[int]) -> np.ndarray:
    """Measure how much the octagon's logit falls in scenes drawn without the tag, and without stripes, `[2, N]`."""

    def logits(**change: object) -> np.ndarray:
        pictures = [draw(replace(scenes.scene(index), **change)).picture for index in indices]
        with torch.no_grad():
            output = model(torch.stack([scenes.preprocessing.to_input(picture) for picture in pictures]))
        return output[:, OCTAGON].numpy()

    return logits() - np.array([logits(tagged=False), logits(texture="plain")])


def gradient(model: nn.Module, layer: str, sample: Tensor) -> Tensor:
    """Compute the gradient of the octagon's logit at a layer, `[1, C, H, W]`."""
    with RelevanceFlow(model, None, sample, [layer], to_input=False) as flow:
        return flow.down(torch.eye(len(Scenes.class_names))[None, None, OCTAGON], to=layer)[0]


def reason_rows(model: nn.Module, kind: Directions, data: Tensor) -> list[str]:
    """Follow the logit without each direction from the first order to the effect: rows of the third table."""
    activation = activations(model, "relu5", data)
    with RelevanceFlow(model, None, data[:1], ["relu5"], to_input=False) as flow:
        layout = flow.layout("relu5")
    _, places = max_pool2d(activation, 4, return_indices=True)

    def fixed_maxima(values: Tensor) -> Tensor:
        return values.flatten(2).gather(2, places.flatten(2)).mean(2)

    def moving_maxima(values: Tensor) -> Tensor:
        return max_pool2d(values, 4).mean((2, 3))

    gates = model.hidden(moving_maxima(activation)) > 0

    def fixed_gates(values: Tensor) -> Tensor:
        return model.logits(model.hidden(values) * gates)[:, OCTAGON]

    def switching_gates(values: Tensor) -> Tensor:
        return model.logits(model.hidden(values).clamp(min=0))[:, OCTAGON]

    logit, rows = switching_gates(moving_maxima(activation)), []
    for name, part in zip(HOLDERS, kind.parts(activation, range(len(HOLDERS)), layout), strict=True):
        falls = [
            logit - fixed_gates(fixed_maxima(activation - part * (activation != 0))),
            logit - fixed_gates(fixed_maxima(activation - part)),
            logit - fixed_gates(moving_maxima(activation - part)),
            logit - switching_gates(moving_maxima(activation - part)),
        ]
        rows.append(f"| {name} | " + " | ".join(f"{float(fall.mean()):.2f}" for fall in falls) + " |")
    return rows


def factor_row(model: nn.Module, layer: str, learned: Scenes, unseen: Scenes) -> str:
    """Measure the factor that separates training scenes with the tag best."""
    kind = nmf_directions(layer_activations(model, learned, layer, samples=len(learned)), FACTORS)
    areas = []
    for scenes in (learned, unseen):
        tagged = np.array([scenes.scene(index).tagged for index in range(len(scenes))])
        values = strongest(model, layer, inputs(scenes, list(range(len(scenes)))), kind)
        areas.append([area(column[tagged], column[~tagged]) for column in values.T])
    best = int(np.argmax(areas[0]))
    return f"| `{layer}` | {best} | {areas[0][best]:.4f} | {areas[1][best]:.4f} |"


def main() -> None:
    """Print all tables."""
    model = demo_model().eval()
    learned, unseen = Scenes("train", LEARNED, seed=SEED), Scenes("test", UNSEEN, seed=SEED)
    tagged = [index for index in range(UNSEEN) if unseen.scene(index).tagged]
    data = inputs(unseen, tagged)
    with torch.no_grad():
        predicted = model(data).argmax(1) == OCTAGON
    tags = np.stack([unseen.drawing(index).masks["tag"] for index in tagged])[predicted.numpy()]
    striped = np.array([unseen.scene(index).texture == "striped" for index in tagged])[predicted.numpy()]
    data = data[predicted]
    kinds = {
        layer: pattern_directions({name: examples(model, layer, learned, name) for name in HOLDERS}) for layer in LAYERS
    }
    some = inputs(learned, list(range(MEAN_OF)))
    means = {layer: activations(model, layer, some).mean((0, 2, 3)) for layer in LAYERS}
    known = tags, striped, redrawn_falls(model, unseen, np.array(tagged)[predicted.numpy()].tolist())
    found = [pattern_rows(model, layer, kind, means[layer], data, *known) for layer, kind in kinds.items()]
    rows, others, drawn = zip(*found, strict=True)
    with torch.no_grad():
        reasons = reason_rows(model, kinds["relu5"], data)
    factors = [factor_row(model, layer, learned, unseen) for layer in LAYERS]
    sys.stdout.write(
        "# What directions say of the demo network\n\n"
        "Made by `python -m tests.evidence.direction_truth`, whose text says what the columns are.\n\n"
        "## Pattern-CAVs\n\n"
        "| layer | tagged octagons | log-odds | logit | effect | both | on the tag | within two pixels | striped |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n" + "\n".join(rows) + "\n\n## Other relevances\n\n"
        "| layer | tagged octagons | also where activations are 0 | deviations from the mean | both |\n"
        "| --- | --- | --- | --- | --- |\n" + "\n".join(others) + "\n\n## In the picture\n\n"
        "| layer | octagons | number | relevance: tag | stripes | without the direction: tag | stripes "
        "| drawn without: tag | stripes | more without the tag |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        + "\n".join(drawn) + "\n\n## Why stripes come first\n\n"
        "| direction | relevance | first order | maxima may move | effect |\n"
        "| --- | --- | --- | --- | --- |\n" + "\n".join(reasons) + "\n\n## NMF\n\n"
        f"{FACTORS} directions.\n\n| layer | direction | AUC, training | AUC, unseen |\n| --- | --- | --- | --- |\n"
        + "\n".join(factors) + "\n"
    )


if __name__ == "__main__":
    main()
