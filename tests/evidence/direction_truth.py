"""What directions say of the demo network, where the truth is known: pattern-CAVs and factors of NMF.

**Pattern-CAVs** of four concepts (the tag, stripes, red, the disc) are learned from 50 training scenes with each. A
position of the layer has a concept where its mask covers at least half of the position's pixels; positions that the
mask does not touch, in these scenes and in 50 without the concept, are the others. Nothing is fitted to a prediction.
In unseen octagons with the tag that are predicted as octagons:

- first: how often the direction of the tag has the most relevance of the four, of the logit of the octagon;
- log-odds: the same, of the octagon's log-odds against all other classes;
- effect: how often the octagon's logit falls most without it;
- both: how often it is first (of the logit) where its effect is the largest;
- on the tag: how much of the positive relevance in its heatmap lies on the tag, and within two pixels of it;
- striped: of the octagons in which it is not first, how many are striped.

**NMF** with 20 directions learns from the positions of the same training scenes, without any labels.

- AUC: of the largest activation in a scene, for unseen scenes with the tag against all others; of the direction that
  separates *training* scenes best.

Made by

    python -m tests.evidence.direction_truth > docs/evidence/directions.md
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import binary_dilation
from torch import Tensor, nn

from crp.analysis.learned_directions import layer_activations, nmf_directions, pattern_directions
from crp.attribution import RelevanceFlow, composite_for
from crp.attribution.starts import LogOdds
from crp.concepts import Directions
from crp.demo import Scenes, demo_model
from crp.demo.drawing import Scene
from tests.evidence.tag_truth import area

LAYERS = ("relu5", "relu4")
SEED, LEARNED, UNSEEN, EXAMPLES, FACTORS, BATCH = 13, 1000, 1600, 50, 20, 50
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


def pattern_row(
    model: nn.Module, layer: str, learned: Scenes, data: Tensor, tags: np.ndarray, striped: np.ndarray
) -> str:
    """Measure the tag's pattern among the four."""
    kind = pattern_directions({name: examples(model, layer, learned, name) for name in HOLDERS})
    tag = list(HOLDERS).index("tag")
    composite = composite_for(model, data[:1]).composite
    near = binary_dilation(tags, np.ones((1, 3, 3)), iterations=2)
    first, odds, largest, on_tag, around = [], [], [], [], []
    for sample, mask, ring in zip(data, tags, near, strict=True):
        with RelevanceFlow(model, composite, sample[None], [layer]) as flow:
            arriving = flow.down(flow.output_relevance([OCTAGON]), to=layer)[0]
            parts = flow.parts(layer, kind)
            first.append(int(parts.total(arriving)[0].argmax()) == tag)
            against = flow.down(flow.output_relevance(LogOdds(OCTAGON)), to=layer)[0]
            odds.append(int(parts.total(against)[0].argmax()) == tag)
            without = flow.removal(layer, kind).predictions([[index] for index in range(len(HOLDERS))])
            largest.append(int(without[:, 0, OCTAGON].argmin()) == tag)
            heatmap = flow.down(parts.carried(arriving, [tag]), start=layer)[0, 0].sum(0).clamp(min=0).numpy()
        on_tag.append(float(heatmap[mask].sum() / heatmap.sum()))
        around.append(float(heatmap[ring].sum() / heatmap.sum()))
    shares = [np.mean(values) for values in (first, odds, largest, np.array(first)[largest], on_tag, around)]
    missed = ~np.array(first)
    figures = " | ".join(f"{share:.1%}" for share in shares)
    return f"| `{layer}` | {len(data)} | {figures} | {striped[missed].sum()} of {missed.sum()} |"


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
    """Print both tables."""
    model = demo_model().eval()
    learned, unseen = Scenes("train", LEARNED, seed=SEED), Scenes("test", UNSEEN, seed=SEED)
    tagged = [index for index in range(UNSEEN) if unseen.scene(index).tagged]
    data = inputs(unseen, tagged)
    with torch.no_grad():
        predicted = model(data).argmax(1) == OCTAGON
    tags = np.stack([unseen.drawing(index).masks["tag"] for index in tagged])[predicted.numpy()]
    striped = np.array([unseen.scene(index).texture == "striped" for index in tagged])[predicted.numpy()]
    rows = [pattern_row(model, layer, learned, data[predicted], tags, striped) for layer in LAYERS]
    factors = [factor_row(model, layer, learned, unseen) for layer in LAYERS]
    sys.stdout.write(
        "# What directions say of the demo network\n\n"
        "Made by `python -m tests.evidence.direction_truth`, whose text says what the columns are.\n\n"
        "## Pattern-CAVs\n\n"
        "| layer | tagged octagons | first | log-odds | effect | both | on the tag | within two pixels | striped |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n" + "\n".join(rows) + "\n\n## NMF\n\n"
        f"{FACTORS} directions.\n\n| layer | direction | AUC, training | AUC, unseen |\n| --- | --- | --- | --- |\n"
        + "\n".join(factors) + "\n"
    )


if __name__ == "__main__":
    main()
