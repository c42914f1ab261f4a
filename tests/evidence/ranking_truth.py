"""Which rules rank concepts as the network uses them: relevances against the measured effect of removing each channel.

For predictions of trained networks, each channel of a layer is set to zero by a plain hook, and the change of the
predicted class's logit is its effect. Ways to rank are compared by

- rho: Spearman's rank correlation of relevance and effect, over the channels of a layer;
- deletion: the mean logit lost while the first 1 to 50 % of the channels are removed in the order of relevance, divided
  by the same for random orders;
- insertion: the mean logit while only these channels are kept, divided by the logit;
- sign: of the channels whose effect is at least 1 % of the logit, how many have relevance of the same sign;
- wrong: of the six concepts that a page would show as supporting, those whose removal raises the logit by over 1 %.

Samples with even numbers choose the best way to rank, those with odd numbers give the figures. Made by

    python -m tests.evidence.ranking_truth FOLDER_OF_REAL_DATA > docs/evidence/ranking.md
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import crp.attribution  # noqa: F401  (the workaround must run before zennit is imported)

# isort: split
import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn
from zennit.core import Hook
from zennit.rules import AlphaBeta, Epsilon, Gamma
from zennit.types import Convolution

from crp.attribution import INPUT, RelevanceFlow, composite_for, prepare
from crp.attribution.copies import replicate
from crp.attribution.observation import observe
from crp.attribution.operation_composite import OperationComposite, network_kind
from crp.demo import Scenes, demo_model
from tests.evidence.asked import networks_asked
from tests.oracle import nets, photos

KEPT = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
CARDS, CLEAR = 6, 0.01


@dataclass(frozen=True)
class Subject:
    """A trained network, the layers whose channels are ranked, and samples `[N, c, H, W]`."""

    name: str
    model: nn.Module
    layers: Sequence[str]
    data: Tensor


def subjects(folder: Path, samples: int) -> list[Subject]:
    """The trained networks, each with samples that it classifies rightly."""
    files = photos.samples(folder)
    pictures = {
        prepared: torch.stack([prepared(folder / "imagenet_samples" / entry["file"]) for entry in files])
        for prepared in (photos.for_squeezenet, photos.for_mobilenet)
    }
    labels = torch.tensor([entry["class_index"] for entry in files])
    scenes = [Scenes("test", 4 * samples)[index] for index in range(4 * samples)]
    scene_data, scene_labels = (torch.stack([torch.as_tensor(item[part]) for item in scenes]) for part in (0, 1))
    found = [
        ("SqueezeNet 1.1", nets.trained_squeezenet(folder), [f"features.{n}" for n in (4, 6, 7, 9, 10)],
         pictures[photos.for_squeezenet], labels),
        ("ResNet-20", nets.trained_resnet20(folder), ["layer1.2", "layer2.0", "layer2.1", "layer2.2", "layer3.0",
         "layer3.1"], *photos.cifar10(folder, 4 * samples)),
        ("MobileNet v1", nets.trained_mobilenet(folder), [f"pw{n}_relu" for n in (3, 5, 7, 9, 11, 12)],
         pictures[photos.for_mobilenet], labels),
        ("demo CNN", demo_model(), ["relu2", "relu3", "relu4", "relu5"], scene_data, scene_labels),
    ]  # fmt: skip
    return [Subject(name, model, layers, _right(model, *data, samples)) for name, model, layers, *data in found]


def _right(model: nn.Module, data: Tensor, labels: Tensor, samples: int) -> Tensor:
    with torch.no_grad():
        return data[model(data).argmax(1) == labels][:samples]


class Above:
    """The network above a layer, for one sample: the layer's output is replaced by a plain hook."""

    def __init__(self, model: nn.Module, layer: str, sample: Tensor) -> None:
        self.model, self.module, self.sample = model, model.get_submodule(layer), sample[None]
        self.own: Tensor | None = None
        with torch.no_grad():
            logits = self._run(lambda output: setattr(self, "own", output.detach()) or output)
        self.target = int(logits[0].argmax())
        self.logit = float(logits[0, self.target])

    def _run(self, replace: Callable[[Tensor], Tensor]) -> Tensor:
        handle = self.module.register_forward_hook(lambda module, args, output: replace(output))
        try:
            return self.model(self.sample)
        finally:
            handle.remove()

    def logits(self, masks: Tensor, fill: Tensor | None = None) -> Tensor:
        """Compute the logit under each of `masks`, `[B, C]`: 1 for channels that stay, 0 for those set to `fill`.

        `fill` is `[C]`, by default zero.
        """
        fill = torch.zeros(masks.shape[1]) if fill is None else fill
        with torch.no_grad():
            parts = [
                self._run(lambda output, kept=kept: output * kept + fill[:, None, None] * (1 - kept))[:, self.target]
                for kept in masks[:, :, None, None].split(64)
            ]
        return torch.cat(parts)

    def gradients(self, scales: Sequence[float]) -> Tensor:
        """Compute the gradient of the logit at scaled outputs of the layer, `[len(scales), C, H, W]`."""
        scaled = torch.cat([self.own * scale for scale in scales]).requires_grad_()
        logits = self._run(lambda output: scaled)[:, self.target]
        return torch.autograd.grad(logits.sum(), scaled)[0]


# -- ways to rank ----------------------------------------------------------------------------------------------------


def rules(chosen: Callable[[nn.Module, str, list[str]], Hook]) -> Callable[[nn.Module, Tensor], OperationComposite]:
    """Make a composite with the rule `chosen(module, name, names in the order of calls)` at linear operations."""

    def make(model: nn.Module, data: Tensor) -> OperationComposite:
        calls = observe(replicate(model), data).linear
        names = [call.module for call in calls]

        class Chosen(OperationComposite):
            def linear_rule(self, module: nn.Module, name: str, first: bool) -> Hook:
                return chosen(module, name, names)

        return Chosen(network_kind(calls))

    return make


def gamma(value: float) -> Callable[[nn.Module, Tensor], OperationComposite]:
    """Gamma at convolutions, epsilon at the last linear operation."""
    return rules(
        lambda module, name, names: (
            Gamma(value) if isinstance(module, Convolution) and name != names[-1] else Epsilon()
        )
    )


def _by_depth(module: nn.Module, name: str, names: list[str]) -> Hook:
    depth = names.index(name) / max(1, len(names) - 1)
    return Gamma(0.25 if depth < 1 / 3 else 0.05) if depth < 2 / 3 else Epsilon()


COMPOSITES: dict[str, Callable[[nn.Module, Tensor], OperationComposite]] = {
    "z+ (maps)": lambda model, data: composite_for(model, data, rules="epsilon-plus-flat").composite,
    "epsilon": lambda model, data: composite_for(model, data).composite.ranking,
    "epsilon, no biases": rules(lambda module, name, names: Epsilon(zero_params="bias")),
    "gamma 0.02": gamma(0.02),
    "gamma 0.05": gamma(0.05),
    "gamma 0.25": gamma(0.25),
    "gamma by depth": rules(_by_depth),
    "alpha-beta 2, 1": rules(
        lambda module, name, names: AlphaBeta(2, 1) if isinstance(module, Convolution) else Epsilon()
    ),
}
NOISE, COPIES, PATHS = 0.1, 4, {"path of 3": 3, "integrated gradients (20)": 20}


def relevances(subject: Subject) -> dict[str, dict[str, Tensor]]:
    """Compute the relevance of each channel by LRP, `[N, C]` by way and layer."""
    found: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, make in COMPOSITES.items():
        replica = prepare(subject.model, make(subject.model, subject.data[:1]))
        copies = [("", 1)] + [("mean of 4 noisy copies", COPIES)] * (name == "epsilon")
        for way, count in copies:
            noise = torch.Generator().manual_seed(0)
            parts: dict[str, list[Tensor]] = defaultdict(list)
            for sample in subject.data:
                data = sample.repeat(count, 1, 1, 1)
                if count > 1:
                    data = data + NOISE * data.std() * torch.randn(data.shape, generator=noise)
                with RelevanceFlow(replica, None, data, subject.layers) as flow:
                    with torch.no_grad():
                        target = int(subject.model(sample[None]).argmax())
                    arriving = flow.down(flow.output_relevance([target] * count), to=list(subject.layers))
                for layer, relevance in arriving.items():
                    parts[layer].append(relevance[0].mean(0).sum((1, 2)))
            for layer, values in parts.items():
                found[f"epsilon, {way}" if way else name][layer] = torch.stack(values)
    assert INPUT not in found
    return found


def at_layer(above: Above) -> dict[str, Tensor]:
    """Compute the baselines that need the layer's output alone, `[C]` each."""
    output = above.own[0]
    found = {"gradient x activation": (above.gradients([1.0])[0] * output).sum((1, 2))}
    for name, steps in PATHS.items():
        gradients = above.gradients([(step + 0.5) / steps for step in range(steps)])
        found[name] = (gradients.mean(0) * output).sum((1, 2))
    found["activation"] = output.sum((1, 2))
    return found


# -- measures --------------------------------------------------------------------------------------------------------


def measured(above: Above, ways: dict[str, Tensor], seed: int) -> dict[str, dict[str, float]]:
    """Compare the relevances of a layer's channels with their effects, for one sample."""
    count = above.own.shape[1]
    effect = above.logit - above.logits(1 - torch.eye(count))
    ways = {**ways, "ablation": effect}
    orders = [way.argsort(descending=True) for way in ways.values()]
    generator = torch.Generator().manual_seed(seed)
    orders += [torch.randperm(count, generator=generator) for _ in range(5)]
    sizes = sorted({max(1, round(part * count)) for part in KEPT})
    removed = torch.ones(len(orders), len(sizes), count)
    for row, order in enumerate(orders):
        for column, size in enumerate(sizes):
            removed[row, column, order[:size]] = 0
    lost = (above.logit - above.logits(removed.flatten(0, 1))).view(len(orders), -1).mean(1)
    kept = above.logits(1 - removed.flatten(0, 1)).view(len(orders), -1).mean(1)
    clear = effect.abs() >= CLEAR * abs(above.logit)
    found = {}
    for row, (name, relevance) in enumerate(ways.items()):
        shown = [index for index in relevance.argsort(descending=True)[:CARDS].tolist() if relevance[index] > 0]
        wrong = [float(effect[index]) < -CLEAR * abs(above.logit) for index in shown]
        found[name] = {
            "rho": spearman(relevance, effect),
            "deletion": float(lost[row] / lost[-5:].mean()),
            "insertion": float(kept[row] / above.logit),
            "sign": float((relevance[clear].sign() == effect[clear].sign()).float().mean()),
            "wrong": float(np.mean(wrong)) if wrong else 0.0,
        }
    return found


def spearman(one: Tensor, other: Tensor) -> float:
    """Rank correlation; ties have their mean rank."""
    return float(np.corrcoef(rankdata(one.numpy()), rankdata(other.numpy()))[0, 1])


def report(folder: Path, samples: int, only: str) -> None:
    """Print the tables."""
    say(__doc__.split("Made by")[0])
    names = ("rho", "deletion", "insertion", "sign", "wrong")
    for subject in subjects(folder, samples):
        if only not in subject.name:
            continue
        lrp = relevances(subject)
        results: dict[str, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
        for layer in subject.layers:
            for number, sample in enumerate(subject.data):
                above = Above(subject.model, layer, sample)
                ways = {name: found[layer][number] for name, found in lrp.items()}
                for name, values in measured(above, {**ways, **at_layer(above)}, number).items():
                    results[layer][name].append([values[key] for key in names])
        say(f"## {subject.name}\n\n{len(subject.data)} samples, {len(subject.data) // 2} of them held out.\n")
        say("| way to rank | " + " | ".join(f"rho {layer}" for layer in subject.layers) + " | mean rho, tuning half |"
              " deletion | insertion | sign | wrong |")  # fmt: skip
        say("| --- " * (len(subject.layers) + 6) + "|")
        for name in results[subject.layers[0]]:
            tables = {layer: np.array(results[layer][name]) for layer in subject.layers}
            held = {layer: table[1::2] for layer, table in tables.items()}
            cells = [f"{_mean(table[:, 0])} ± {_error(table[:, 0])}" for table in held.values()]
            cells.append(_mean(np.concatenate([table[::2, 0] for table in tables.values()])))
            cells += [_mean(np.concatenate([table[:, place] for table in held.values()])) for place in range(1, 5)]
            say(f"| {name} | " + " | ".join(cells) + " |")
        say("")


def say(line: str) -> None:
    """Write one line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _mean(values: np.ndarray) -> str:
    return f"{np.nanmean(values):.2f}"


def _error(values: np.ndarray) -> str:
    return f"{np.nanstd(values, ddof=1) / np.sqrt(len(values)):.2f}"


if __name__ == "__main__":
    chosen = networks_asked(samples=24)
    report(chosen.folder, chosen.samples, chosen.only)
