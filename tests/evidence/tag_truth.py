"""Whether the planted tag is first where the demo network uses it: by its measured effect, and in the page's order.

The octagons of the demo carry a tag, and the network learned it instead of the shape. In each tagged octagon that is
predicted as one, every channel of a layer is removed by plain torch, as zero and at its mean over scenes, and the fall
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

LAYERS = ("conv5", "conv4")
SEED, SCENES, OCTAGON = 11, 2400, Scenes.class_names.index("octagon")


def divided(model: nn.Sequential, layer: str) -> tuple[nn.Sequential, nn.Sequential]:
    """Divide the network above a layer."""
    place = [name for name, _ in model.named_children()].index(layer) + 1
    return model[:place], model[place:]


def area(positive: np.ndarray, negative: np.ndarray) -> float:
    """Return the area under the ROC curve: how often a positive value is above a negative one."""
    ranks = rankdata(np.concatenate([positive, negative]))[: len(positive)]
    return (ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative))


def effects(above: nn.Sequential, output: Tensor, fill: Tensor) -> np.ndarray:
    """Return the fall of the octagon's logit if each channel of one sample's `[C, H, W]` becomes its fill, `[C]`."""
    channels = torch.arange(len(output))
    replaced = output.repeat(len(channels), 1, 1, 1)
    replaced[channels, channels] = fill[:, None, None]
    with torch.no_grad():
        without = above(replaced)[:, OCTAGON]
        return (above(output[None])[0, OCTAGON] - without).double().numpy()


def report() -> None:
    """Write a row for each layer and way of removing channels."""
    model = demo_model().eval()
    known, unseen = Scenes("train", 400, seed=SEED), Scenes("test", SCENES, seed=SEED)
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
        below, above = divided(model, layer)
        with torch.no_grad():
            output, at_data = below(seen), below(data)
        strongest = output.amax((2, 3)).numpy()
        areas = np.array([area(values[with_tag], values[~with_tag]) for values in strongest.T])
        of_tag = np.flatnonzero(areas >= 0.98)
        with RelevanceFlow(model, composite, data, [layer], to_input=False) as flow:
            relevance = flow.down(flow.output_relevance([OCTAGON]), to=layer)[0].sum((2, 3)).numpy()
        for name, fill in (("zero", torch.zeros(output.shape[1])), ("mean", output.mean((0, 2, 3)))):
            measured = np.stack([effects(above, sample, fill) for sample in at_data])
            first = measured.argmax(1)
            listed = ", ".join(f"{channel} ({areas[channel]:.3f})" for channel in of_tag)
            sys.stdout.write(
                f"| {layer} | {listed} | {name} | {np.isin(first, of_tag).mean():.1%} | "
                f"{(relevance.argmax(1) == first).mean():.1%} |\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    report()
