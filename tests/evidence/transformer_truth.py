"""What rules say of the demo vision transformer, where the truth is known.

**Maps.** The predicted class of unseen scenes is explained at the input. What the scene shows is its object and, if
there is one, the tag.

- share: of positive relevance, within two pixels of the object or the tag;
- points: how often the patch with the largest sum of relevance shows a part of either;
- on the tag: the same share for the tag alone, on tagged octagons;
- arrived: median of the relevance that arrives at the input, divided by the logit.

**Ranking.** Each channel of a block's output is set to zero in all tokens by a plain hook (or to its mean over the
scenes), and the change of the predicted class's logit is its effect.

- rho, rho of means: Spearman's rank correlation of relevance, summed over tokens, and effect, over the channels;
- sign: of the channels whose effect (zero) is at least 1 % of the logit, how many have relevance of the same sign;
- sum: median of the sum over channels, divided by the logit.

The rows "norm ..., attention ..." are gradient times activation of the network above the block in plain torch, with
scales of layer norms or attention weights as constants ("constant") or not ("gradient"). With "half", the scale's
derivative is halved: removing a channel from a layer norm takes its square from the variance once, and the derivative
counts it twice. "each square once" corrects that by what the channel itself adds to the norm's input, which is less
where other summands have joined the residual stream: the default rule, written in plain torch. Made by

    python -m tests.evidence.transformer_truth > docs/evidence/transformer.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial

import crp.attribution  # noqa: F401  (the workaround must run before zennit is imported)

# isort: split
import numpy as np
import torch
from scipy.ndimage import binary_dilation
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d
from zennit.core import Hook
from zennit.rules import AlphaBeta, Epsilon, Flat, Gamma, WSquare, ZPlus

from crp.attribution import RelevanceFlow, composite_for
from crp.attribution.operation_composite import OperationComposite
from crp.demo import Scenes, demo_model
from crp.demo.vit import HEADS, PATCH, Attention

SEED, STEPS = 7, 20


def composite(
    model: nn.Module, data: Tensor, first: Callable[[], Hook], others: Callable[[], Hook]
) -> OperationComposite:
    """Make a composite with a rule at the patch embedding, one at the linear layers, and epsilon at the head."""

    class Chosen(OperationComposite):
        def linear_rule(self, module: nn.Module, name: str, first_: bool) -> Hook:
            if first_:
                return first()
            return Epsilon() if name == self.network.last else others()

    return Chosen(composite_for(model, data).composite.network)


RULES = {
    f"{first}, {others}": (one, other)
    for first, one in (("flat", Flat), ("epsilon", Epsilon), ("w²", WSquare))
    for others, other in (
        ("epsilon", Epsilon),
        ("gamma 0.05", partial(Gamma, 0.05)),
        ("gamma 0.1", partial(Gamma, 0.1)),
        ("gamma 0.25", partial(Gamma, 0.25)),
        ("gamma 1", partial(Gamma, 1.0)),
        ("z+", ZPlus),
        ("alpha-beta 2, 1", partial(AlphaBeta, 2.0, 1.0)),
    )
    if first == "flat" or others in ("epsilon", "gamma 0.25")
}


def logit_gradient(model: nn.Module, data: Tensor, targets: Tensor) -> Tensor:
    """Compute the gradient of each sample's target logit."""
    data = data.detach().requires_grad_()
    return torch.autograd.grad(model(data).gather(1, targets[:, None]).sum(), data)[0]


def maps(model: nn.Module, data: Tensor, targets: Tensor) -> dict[str, tuple[Tensor, float]]:
    """Compute heatmaps `[N, H, W]` and the part of the logit that arrives, by the way they are made."""
    gradient = logit_gradient(model, data, targets)
    scales = [(step + 0.5) / STEPS for step in range(STEPS)]
    path = sum(logit_gradient(model, data * scale, targets) for scale in scales) / STEPS
    generator = torch.Generator().manual_seed(0)
    found = {
        "random": (torch.randn(gradient.sum(1).shape, generator=generator), np.nan),
        "size of the gradient": (gradient.abs().sum(1), np.nan),
        "gradient x input": ((gradient * data).sum(1), np.nan),
        f"integrated gradients ({STEPS})": ((path * data).sum(1), np.nan),
    }
    choices = {"default": composite_for(model, data[:1]).composite}
    choices |= {name: composite(model, data[:1], *rules) for name, rules in RULES.items()}
    for name, chosen in choices.items():
        heatmaps, arrived = [], []
        for some, some_targets in zip(data.split(50), targets.split(50), strict=True):
            with RelevanceFlow(model, chosen, some) as flow:
                started = flow.output_relevance(some_targets.tolist())
                heatmaps.append(flow.down(started)[0].sum(1))
                arrived.append(heatmaps[-1].sum((1, 2)) / started[0].sum(1))
        found[name] = torch.cat(heatmaps), float(torch.cat(arrived).median())
    return found


def map_table(model: nn.Module, count: int) -> None:
    """Print how well maps point."""
    scenes = Scenes("test", count, seed=SEED)
    drawings = [scenes.drawing(index) for index in range(count)]
    data = torch.stack([scenes.preprocessing.to_input(drawing.picture) for drawing in drawings])
    shown = np.stack([drawing.masks["shape"] | drawing.masks["tag"] for drawing in drawings])
    tags = np.stack([drawing.masks["tag"] for drawing in drawings])
    near, near_tags = (binary_dilation(masks, np.ones((1, 3, 3)), iterations=2) for masks in (shown, tags))
    tagged = tags.any((1, 2))
    patches = shown.reshape(count, 96 // PATCH, PATCH, 96 // PATCH, PATCH).any((2, 4)).reshape(count, -1)
    with torch.no_grad():
        targets = model(data).argmax(1)
    right = (targets == torch.arange(count) % 10).double().mean()
    say(f"\n## Maps\n\n{count} scenes, {right:.1%} right, {tagged.sum()} of them tagged.\n")
    say("| patch embedding, linear layers | share | points | on the tag | arrived |\n| --- | --- | --- | --- | --- |")
    for name, (heatmaps, arrived) in maps(model, data, targets).items():
        positive = heatmaps.clamp(min=0).numpy()
        total = positive.sum((1, 2))
        strongest = avg_pool2d(heatmaps, PATCH).flatten(1).argmax(1).numpy()
        share, on_tag = (positive * near).sum((1, 2)) / total, ((positive * near_tags).sum((1, 2)) / total)[tagged]
        known = "" if np.isnan(arrived) else f"{arrived:.2f} "
        points = patches[np.arange(count), strongest]
        say(f"| {name} | {share.mean():.3f} | {points.mean():.3f} | {on_tag.mean():.3f} | {known}|")


# -- ranking ---------------------------------------------------------------------------------------------------------


class Scaled(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a number."""

    @staticmethod
    def forward(ctx, values: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return values.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


FACTORS = {"constant": 0.0, "half": 0.5, "gradient": 1.0}


def normalized(norm: nn.LayerNorm, tokens: Tensor, factor: float) -> Tensor:
    """Apply a layer norm with the derivative of its scale multiplied by a factor."""
    scale = (tokens.var(-1, correction=0, keepdim=True) + norm.eps).rsqrt()
    return (tokens - tokens.mean(-1, keepdim=True)) * Scaled.apply(scale, factor) * norm.weight + norm.bias


def attended(attention: Attention, tokens: Tensor, factor: float) -> Tensor:
    """Apply attention with the derivative of its weights multiplied by a factor."""
    query, key, value = attention.qkv(tokens).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
    weights = (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(-1)
    return attention.proj((Scaled.apply(weights, factor) @ value).transpose(1, 2).flatten(2))


def above(model: nn.Module, block: int, tokens: Tensor, norm: float = 1.0, attention: float = 1.0) -> Tensor:
    """Run the network above a block, with factors of derivatives."""
    for part in model.blocks[block + 1 :]:
        tokens = tokens + attended(part.attn, normalized(part.norm1, tokens, norm), attention)
        tokens = tokens + part.mlp(normalized(part.norm2, tokens, norm))
    return model.head(normalized(model.norm, tokens, norm)[:, 0])


def squares_once(model: nn.Module, block: int, tokens: Tensor, targets: Tensor) -> Tensor:
    """Compute gradient times activation, less what the derivative of each variance counts twice, `[N, T, D]`."""
    tokens, variances = tokens.detach().requires_grad_(), []

    def normed(norm: nn.LayerNorm, values: Tensor) -> Tensor:
        centred = values - values.mean(-1, keepdim=True)
        variances.append(centred.square().mean(-1, keepdim=True))
        return centred * (variances[-1] + norm.eps).rsqrt() * norm.weight + norm.bias

    stream = tokens
    for part in model.blocks[block + 1 :]:
        stream = stream + attended(part.attn, normed(part.norm1, stream), 1.0)
        stream = stream + part.mlp(normed(part.norm2, stream))
    logits = model.head(normed(model.norm, stream)[:, 0]).gather(1, targets[:, None]).sum()
    gradient, *through = torch.autograd.grad(logits, [tokens, *variances])
    size = tokens.shape[2]
    # the residual stream carries the tokens unchanged to all norms above
    return gradient * tokens - sum(through) * tokens.square() * (1 - 1 / size) / size


def rankings(model: nn.Module, block: int, data: Tensor, tokens: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Compute the relevance of each channel, `[N, D]`, by the way it is made."""

    def gradient(at: Tensor, **factors: float) -> Tensor:
        return logit_gradient(lambda values: above(model, block, values, **factors), at, targets)

    scales = [(step + 0.5) / STEPS for step in range(STEPS)]
    generator = torch.Generator().manual_seed(0)
    found = {
        "random": torch.randn(len(tokens), tokens.shape[2], generator=generator),
        "activation": tokens.abs().sum(1),
        f"integrated gradients ({STEPS})": (sum(gradient(tokens * scale) for scale in scales) * tokens).sum(1) / STEPS,
    }
    for norm, norm_factor in FACTORS.items():
        for attention in ("constant", "gradient"):
            factors = {"norm": norm_factor, "attention": FACTORS[attention]}
            found[f"norm {norm}, attention {attention}"] = (gradient(tokens, **factors) * tokens).sum(1)
    found["norm gradient, attention gradient, each square once"] = squares_once(model, block, tokens, targets).sum(1)
    fitting = composite_for(model, data[:1]).composite
    layer = f"blocks.{block}"
    for name, chosen in (
        ("default", fitting),
        ("gamma 0.1", composite(model, data[:1], Epsilon, partial(Gamma, 0.1))),
        ("gamma 0.25", composite(model, data[:1], Epsilon, partial(Gamma, 0.25))),
        ("z+", composite(model, data[:1], Epsilon, ZPlus)),
    ):
        with RelevanceFlow(model, chosen, data, [layer]) as flow:
            found[name] = flow.down(flow.output_relevance(targets.tolist()), to=layer)[0].sum(1)
    return found


@torch.no_grad()
def effects(model: nn.Module, block: int, data: Tensor, values: Tensor, logits: Tensor, targets: Tensor) -> np.ndarray:
    """Set each channel of a block's output to its value in `values` `[T, D]`; the logit that is lost, `[N, D]`."""
    found = []
    for channel in range(values.shape[1]):

        def changed(module: nn.Module, args: Sequence, output: Tensor, channel: int = channel) -> Tensor:
            output = output.clone()
            output[:, :, channel] = values[:, channel]
            return output

        handle = model.blocks[block].register_forward_hook(changed)
        found.append(logits - model(data).gather(1, targets[:, None])[:, 0])
        handle.remove()
    return torch.stack(found, 1).numpy()


def ranking_table(model: nn.Module, count: int) -> None:
    """Print how well relevance ranks channels."""
    scenes = Scenes("test", count, seed=SEED)
    data = torch.stack([scenes[index][0] for index in range(count)])
    with torch.no_grad():
        logits, targets = model(data).max(1)
    for block in range(len(model.blocks)):
        kept: list[Tensor] = []
        handle = model.blocks[block].register_forward_hook(lambda module, args, output, kept=kept: kept.append(output))
        with torch.no_grad():
            model(data)
        handle.remove()
        tokens = kept[0].detach()
        zero = effects(model, block, data, torch.zeros_like(tokens[0]), logits, targets)
        mean = effects(model, block, data, tokens.mean(0), logits, targets)
        clear = np.abs(zero) >= 0.01 * np.abs(logits.numpy()[:, None])
        say(f"\n## Ranking, blocks.{block}\n\n{count} scenes.\n\n| way | rho | rho of means | sign | sum |")
        say("| --- | --- | --- | --- | --- |")
        for name, relevance in rankings(model, block, data, tokens, targets).items():
            values = relevance.detach().numpy()
            to_zero, to_mean = (
                np.array([spearmanr(one, other).statistic for one, other in zip(values, effect, strict=True)])
                for effect in (zero, mean)
            )
            agreeing = (np.sign(values) == np.sign(zero))[clear].mean()
            total = np.median(values.sum(1) / logits.numpy())
            say(
                f"| {name} | {to_zero.mean():.2f} ± {to_zero.std(ddof=1) / count**0.5:.2f} | {to_mean.mean():.2f} | "
                f"{agreeing:.2f} | {total:.2f} |"
            )


def say(line: str) -> None:
    """Write one line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--maps", type=int, default=200, help="Scenes whose maps are judged.")
    parser.add_argument("--ranked", type=int, default=50, help="Scenes whose channels are removed.")
    chosen, network = parser.parse_args(), demo_model("vit").requires_grad_(False)
    say("# Rules on the demo vision transformer\n\n" + __doc__.split("\n\n", 1)[1].split(" Made by")[0])
    map_table(network, chosen.maps)
    ranking_table(network, chosen.ranked)
