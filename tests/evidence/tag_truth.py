"""Whether the planted tag is first where the demo network uses it: by its measured effect, and in the page's order.

The octagons of the demo carry a tag, and the network learned it instead of the shape. In each tagged octagon that is
predicted as one, every channel of a layer is removed by a plain hook, as zero and at its mean over scenes, and the fall
of the octagon's logit is its effect. The channels of the tag are those whose largest activation tells training scenes
with the tag from all others with an AUC of at least 0.98; nothing refers to effects in that.

- largest effect: how often the channel with the largest effect is one of the tag's;
- page agrees: how often the channel with the most relevance is the one with the largest effect.

Made by

    python -m tests.evidence.tag_truth
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from crp.attribution import RelevanceFlow, composite_for
from crp.demo import Scenes, demo_model

LAYERS = ("conv3", "conv4", "conv5")
SEED, SCENES, OCTAGON = 11, 2400, Scenes.class_names.index("octagon")


def at_layer(model: nn.Module, layer: str, data: Tensor, replaced: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return a layer's output and the logits, with another output of the layer if one is given."""
    found = {}

    def hook(_: nn.Module, args: tuple, output: Tensor) -> Tensor:
        found["output"] = output
        return output if replaced is None else replaced

    handle = model.get_submodule(layer).register_forward_hook(hook)
    with torch.no_grad():
        logits = model(data)
    handle.remove()
    return found["output"], logits


def area(positive: np.ndarray, negative: np.ndarray) -> float:
    """Return the area under the ROC curve: how often a positive value is above a negative one."""
    ranks = rankdata(np.concatenate([positive, negative]))[: len(positive)]
    return (ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative))


def effects(model: nn.Module, layer: str, sample: Tensor, fill: Tensor) -> np.ndarray:
    """Return the fall of the octagon's logit if each channel becomes its fill, `[C]`."""
    output, logits = at_layer(model, layer, sample)
    channels = torch.arange(output.shape[1])
    replaced = output.repeat(len(channels), 1, 1, 1)
    replaced[channels, channels] = fill[:, None, None]
    _, without = at_layer(model, layer, sample.repeat(len(channels), 1, 1, 1), replaced)
    return (logits[0, OCTAGON] - without[:, OCTAGON]).double().numpy()


def report() -> None:
    """Write a row for each layer and way of removing channels."""
    model = demo_model().eval()
    known, unseen = Scenes("train", 800, seed=SEED), Scenes("test", SCENES, seed=SEED)
    seen = torch.stack([known[index][0] for index in range(len(known))])
    with_tag = np.array([known.tag_box(index) is not None for index in range(len(known))])
    tagged = [n for n in range(len(unseen)) if unseen[n][1] == OCTAGON and unseen.tag_box(n) is not None]
    data = torch.stack([unseen[number][0] for number in tagged])
    with torch.no_grad():
        data = data[model(data).argmax(1) == OCTAGON]
    composite = composite_for(model, data[:1]).composite
    sys.stdout.write(f"{len(data)} tagged octagons that are predicted as octagons.\n\n")
    sys.stdout.write("| layer | channels of the tag | removed | largest effect: the tag | page agrees |\n")
    sys.stdout.write("| --- | --- | --- | --- | --- |\n")
    for layer in LAYERS:
        output, _ = at_layer(model, layer, seen)
        strongest = output.amax((2, 3)).numpy()
        areas = np.array([area(values[with_tag], values[~with_tag]) for values in strongest.T])
        of_tag = np.flatnonzero(areas >= 0.98)
        with RelevanceFlow(model, composite, data, [layer], to_input=False) as flow:
            relevance = flow.down(flow.output_relevance([OCTAGON]), to=layer)[0].sum((2, 3)).numpy()
        for name, fill in (("zero", torch.zeros(output.shape[1])), ("mean", output.mean((0, 2, 3)))):
            measured = np.stack([effects(model, layer, sample[None], fill) for sample in data])
            first = measured.argmax(1)
            listed = ", ".join(f"{channel} ({areas[channel]:.3f})" for channel in of_tag)
            sys.stdout.write(
                f"| {layer} | {listed} | {name} | {np.isin(first, of_tag).mean():.1%} | "
                f"{(relevance.argmax(1) == first).mean():.1%} |\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    report()
