"""What tokens, heads and latents say of the demo vision transformer, where the truth is known.

**Tokens.** The predicted class of unseen scenes is explained by the tokens of a block's output. What the scene shows is
its object and, if there is one, the tag.

- points: how often the token of the grid with the most relevance shows a part of either, or comes within two pixels of
  it, as pointing is counted by `crp evaluate`; in brackets without this margin;
- map: the same for the strongest cell of the tokens' map, in which the heatmaps of all tokens are added up;
- class token: median share of the class token in the absolute relevance.

**Heads.** Each head of each block is removed (its part of the input of the projection becomes zero), and the fall of
the predicted class's logit is its effect.

- rho: Spearman's rank correlation of relevance and effect over the heads of all blocks, mean over scenes;
- first: how often the head with the most relevance has the largest effect, or one within a tenth of it;
- sign: of the heads whose effect is at least 5 % of the logit, how many have relevance of the same sign.

**Latents.** `tutorials/train_sae.py` trains a TopK autoencoder on the tokens of a block. The tag latent is that whose
activation differs most between training scenes with the tag and without it. Nothing refers to the tag before that.

- AUC: of its activation, for tokens that lie on the tag by half or more against tokens off the tag, and for scenes
  (largest activation of any token) with the tag against all others, in unseen scenes;
- first: how often it is the latent with the most relevance, in tagged octagons that are predicted as such;
- effect: how often it is the active latent whose removal lowers the octagon's logit most;
- active: how often it is among the four most active latents, which `explain` removes beside those it shows;
- on the tag: how much of the positive relevance in its heatmap lies within two pixels of the tag;
- without it: how many of these octagons are still taken for octagons when it is removed.

**Kinds.** Every part of a layer is removed, in scenes as they are. Latents are those of the autoencoder, components the
first 20 principal components of the tokens of training scenes.

- rho: Spearman's rank correlation of relevance and effect, mean over scenes;
- top 5: the effects of the five parts with most relevance, divided by the five largest effects;
- sign: as for heads.

Figures are those of the default rules, and in brackets of `rules="epsilon-plus-flat"`.

Made by

    python -m tests.evidence.kinds_truth > docs/evidence/kinds.md
"""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.ndimage import binary_dilation
from scipy.stats import rankdata, spearmanr
from torch import Tensor, nn

from crp.analysis.learned_directions import layer_activations
from crp.attribution import RelevanceFlow, composite_for
from crp.concepts import ChannelConcept, Directions, HeadConcept, TokenConcept
from crp.concepts.parts import Parts
from crp.concepts.protocol import ConceptKind
from crp.demo import Scenes, demo_model
from crp.demo.vit import DEPTH, HEADS, PATCH
from tutorials import train_sae

if TYPE_CHECKING:
    from zennit.core import Composite

SEED, BATCH, TOKEN_SCENES, OCTAGON = 7, 25, 600, Scenes.class_names.index("octagon")
GRID, COMPONENTS = 96 // PATCH, 20


def say(text: str) -> None:
    """Print at once, because a table takes minutes."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def in_patches(masks: np.ndarray) -> np.ndarray:
    """Return which part of each patch a mask covers: `[N, H, W]` -> `[N, T]`."""
    return masks.reshape(len(masks), GRID, PATCH, GRID, PATCH).mean((2, 4)).reshape(len(masks), -1)


def objects_and_tags(count: int) -> tuple[Tensor, np.ndarray]:
    """Return scenes `[N, 3, 96, 96]`, and where each shows its object or a tag, bool `[N, 96, 96]`."""
    scenes = Scenes("test", count, seed=SEED)
    return torch.stack([scenes[index][0] for index in range(count)]), np.stack(
        [scenes.shown(index) for index in range(count)]
    )


def token_table(model: nn.Module, data: Tensor, shown: np.ndarray) -> None:
    """Print where the strongest tokens are."""
    composite, near = composite_for(model, data[:1]).composite, binary_dilation(shown, np.ones((1, 3, 3)), iterations=2)
    covered = [in_patches(masks) > 0 for masks in (near, shown)]
    say(f"\n## Tokens\n\n{len(data)} scenes.\n\n| layer | points | map | class token |\n| --- | --- | --- | --- |")
    for block in range(DEPTH):
        layer, tokens, cells = f"blocks.{block}", [], []
        for some in data.split(BATCH):
            with RelevanceFlow(model, composite, some, [layer]) as flow:
                arriving = flow.down(flow.output_relevance(flow.prediction.argmax(1)), to=layer)
                tokens.append(flow.parts(layer, TokenConcept()).total(arriving[0]))
                # parts of tokens are the whole, so their heatmaps add up to that of all relevance
                heatmaps = flow.down(arriving, start=layer)[0].sum(1)
                cells.append(heatmaps.reshape(-1, GRID, PATCH, GRID, PATCH).sum((2, 4)).flatten(1))
        total, rows = torch.cat(tokens), np.arange(len(data))
        strongest = [values.argmax(1).numpy() for values in (total[:, 1:], torch.cat(cells))]
        figures = [[shows[rows, index].mean() for shows in covered] for index in strongest]
        share = float((total[:, 0].abs() / total.abs().sum(1)).median())
        say(f"| {layer} | " + " | ".join(f"{near:.3f} ({own:.3f})" for near, own in figures) + f" | {share:.2f} |")


def head_table(model: nn.Module, data: Tensor) -> None:
    """Print how relevance ranks heads."""
    layers = [f"blocks.{block}.attn.proj..input" for block in range(DEPTH)]
    composite, kind = composite_for(model, data[:1]).composite, HeadConcept(HEADS)
    relevance, effects, logits = [], [], []
    for some in data.split(BATCH):
        with RelevanceFlow(model, composite, some, layers) as flow:
            targets = flow.prediction.argmax(1)
            arriving = flow.down(flow.output_relevance(targets), to=layers)
            relevance.append(torch.cat([flow.parts(one, kind).total(arriving[one][0]) for one in layers], 1))
            before = flow.prediction.gather(1, targets[:, None])
            each = [[head] for head in range(HEADS)]
            without = [flow.removal(one, kind).predictions(each) for one in layers]
            after = torch.cat(without).gather(2, targets[None, :, None].expand(DEPTH * HEADS, -1, 1))[..., 0].T
            effects.append(before - after)
            logits.append(before)
    found, effect, logit = (torch.cat(rows).detach().numpy() for rows in (relevance, effects, logits))
    rho = [spearmanr(one, other).statistic for one, other in zip(found, effect, strict=True)]
    reached = np.take_along_axis(effect, found.argmax(1)[:, None], 1)[:, 0]
    large = np.abs(effect) >= 0.05 * np.abs(logit)
    sign = (np.sign(found) == np.sign(effect))[large].mean()
    say(f"\n## Heads\n\n{len(data)} scenes, {DEPTH * HEADS} heads.\n\n| rho | first | sign |\n| --- | --- | --- |")
    say(f"| {np.mean(rho):.2f} | {(reached >= 0.9 * effect.max(1)).mean():.2f} | {sign:.2f} |")


def auc(values: np.ndarray, positive: np.ndarray) -> float:
    """How often a positive has a larger value than a negative."""
    count = int(positive.sum())
    return float((rankdata(values)[positive].sum() - count * (count + 1) / 2) / (count * (len(values) - count)))


def latents_of(model: nn.Module, data: Tensor, kind: Directions) -> np.ndarray:
    """Return the latents of all tokens, `[N, n, T]`."""
    layer, found = train_sae.LAYER, []
    for some in data.split(BATCH):
        with RelevanceFlow(model, None, some, [layer], to_input=False) as flow:
            found.append(kind.values(flow.activation(layer), flow.layout(layer)))
    return torch.cat(found).numpy()


def tag_latent(model: nn.Module, kind: Directions) -> int:
    """Find the latent whose activation differs most between training scenes with and without the tag."""
    means = []
    for tag in ("always", "never"):
        scenes = Scenes("train", 40, tag=tag)
        data = torch.stack([scenes[index][0] for index in range(40)])
        means.append(latents_of(model, data, kind).max(2).mean(0))
    return int((means[0] - means[1]).argmax())


def trained_latents(model: nn.Module) -> Directions:
    """Train the autoencoder of the tutorials."""
    tokens = layer_activations(model, train_sae.load_inputs(), train_sae.LAYER, samples=train_sae.SAMPLES)
    with redirect_stdout(sys.stderr):
        return train_sae.train(tokens, train_sae.LATENTS, train_sae.K, train_sae.STEPS)


def components(model: nn.Module, layer: str) -> Directions:
    """Return the first principal components of the tokens of training scenes."""
    tokens = layer_activations(model, train_sae.load_inputs()[:200], layer, samples=200)
    return Directions(torch.linalg.svd(tokens - tokens.mean(0), full_matrices=False).Vh[:COMPONENTS].contiguous())


def kind_table(model: nn.Module, data: Tensor, latents: Directions) -> None:
    """Print how well relevance ranks the parts of several kinds."""
    say(f"\n## Kinds\n\n{len(data)} scenes.\n\n| layer | kind | rho | top 5 | sign |\n| --- | --- | --- | --- | --- |")
    below = [f"blocks.{block}" for block in range(DEPTH - 1)]
    subjects: list[tuple[str, str, ConceptKind]] = [(layer, "tokens", TokenConcept()) for layer in below]
    subjects += [(layer, "channels", ChannelConcept()) for layer in below]
    subjects += [(layer, "components", components(model, layer)) for layer in below]
    for layer, name, kind in [*subjects, (train_sae.LAYER, "latents", latents)]:
        default, paper = (
            agreement(model, composite_for(model, data[:1], rules=rules).composite, data, layer, kind)
            for rules in ("by-purpose", "epsilon-plus-flat")
        )
        figures = [f"{one:.2f} ({other:.2f})" for one, other in zip(default, paper, strict=True)]
        say(f"| {layer} | {name} | " + " | ".join(figures) + " |")


def agreement(
    model: nn.Module, composite: Composite, data: Tensor, layer: str, kind: ConceptKind
) -> tuple[float, float, float]:
    """Compare the relevance of parts with what removing them does: rho, top 5 and sign."""
    rho, top, signs = [], [], []
    for sample in data.split(1):
        with RelevanceFlow(model, composite, sample, [layer]) as flow:
            target, parts = int(flow.prediction.argmax()), flow.parts(layer, kind)
            relevance = parts.total(flow.down(flow.output_relevance([target]), to=layer)[0])[0].numpy()
            active = active_ids(parts)
            effect = falls(flow, layer, kind, active, target)
            logit = abs(float(flow.prediction[0, target]))
        found = relevance[active]
        rho.append(spearmanr(found, effect).statistic)
        top.append(effect[np.argsort(-found)[:5]].sum() / np.sort(effect)[-5:].sum())
        signs.append((np.sign(found) == np.sign(effect))[np.abs(effect) >= 0.05 * logit])
    return float(np.mean(rho)), float(np.mean(top)), float(np.concatenate(signs).mean())


def active_ids(parts: Parts) -> np.ndarray:
    """Return the concepts with an activation, the most active first."""
    located = parts.activation()
    size = torch.maximum(located.peak()[0].abs(), located.trough()[0].abs())[0].numpy()
    return np.argsort(-size, kind="stable")[: int((size > 0).sum())]


def falls(flow: RelevanceFlow, layer: str, kind: ConceptKind, ids: np.ndarray, target: int) -> np.ndarray:
    """Return how much the target's logit falls without each concept."""
    without = flow.removal(layer, kind).predictions([[int(index)] for index in ids])
    return (flow.prediction[0, target] - without[:, 0, target]).numpy()


def latent_table(model: nn.Module, data: Tensor, tags: np.ndarray, kind: Directions) -> None:
    """Print what the tag latent is."""
    layer, composite = train_sae.LAYER, composite_for(model, data[:1]).composite
    latent, tagged, covered = tag_latent(model, kind), tags.any((1, 2)), in_patches(tags).ravel()
    active = latents_of(model, data, kind)[:, latent]
    of_patches, clear = active[:, 1:].ravel(), (covered == 0) | (covered >= 0.5)
    of_tokens, of_scenes = auc(of_patches[clear], covered[clear] > 0), auc(active.max(1), tagged)
    near = binary_dilation(tags, np.ones((1, 3, 3)), iterations=2)
    first, largest, strong, on_tag, still, outside = [], [], [], [], [], []
    for number in np.flatnonzero(tagged):
        with RelevanceFlow(model, composite, data[number, None], [layer]) as flow:
            if int(flow.prediction.argmax()) != OCTAGON:
                continue
            arriving, parts = flow.down(flow.output_relevance([OCTAGON]), to=layer)[0], flow.parts(layer, kind)
            first.append(int(parts.total(arriving)[0].argmax()) == latent)
            active = active_ids(parts)
            effect = falls(flow, layer, kind, active, OCTAGON)
            largest.append(int(active[effect.argmax()]) == latent)
            strong.append(latent in active[:4])
            outside.append(float(parts.rest(arriving).sum() / arriving.sum()))
            heatmap = flow.down(parts.carried(arriving, [latent]), start=layer)[0, 0].sum(0).clamp(min=0).numpy()
            on_tag.append(float((heatmap * near[number]).sum() / heatmap.sum()))
            without = flow.removal(layer, kind).predictions([[latent]])
            still.append(int(without[0, 0].argmax()) == OCTAGON)
    say(f"\n## Latents\n\n{train_sae.LATENTS} latents of `{layer}`, {len(first)} tagged octagons.\n")
    say("| AUC, tokens | AUC, scenes | first | effect | active | on the tag | without it | in no latent |")
    say("| --- | --- | --- | --- | --- | --- | --- | --- |")
    means = [np.mean(values) for values in (first, largest, strong, on_tag, still, outside)]
    say(f"| {of_tokens:.4f} | {of_scenes:.4f} | " + " | ".join(f"{value:.2f}" for value in means) + " |")


def main() -> None:
    """Print all tables."""
    options = argparse.ArgumentParser()
    options.add_argument("--scenes", type=int, default=150)
    count = options.parse_args().scenes
    model, scenes = demo_model("vit"), Scenes("test", count, seed=SEED)
    drawings = [scenes.drawing(index) for index in range(count)]
    data = torch.stack([scenes.preprocessing.to_input(drawing.picture) for drawing in drawings])
    tags = np.stack([drawing.masks["tag"] for drawing in drawings])
    say("# What tokens, heads and latents say of the demo vision transformer\n")
    say("Made by `python -m tests.evidence.kinds_truth`, whose text says what the columns are.")
    token_table(model, *objects_and_tags(TOKEN_SCENES))
    head_table(model, data)
    latents = trained_latents(model)
    latent_table(model, data, tags, latents)
    kind_table(model, data[:30], latents)


if __name__ == "__main__":
    main()
