"""Which rule at the first layer draws heatmaps best: candidates (`first_layer_rules`) on data whose truth is known.

- planted: of the positive relevance of the first concept, the part in the mask of what is planted (`planted_truth`);
- objects: the same for clean objects in scenes with several (`object_truth`), how many have at least 80 %, and how many
  octagons on their ground use more context than every clean object;
- scenes: the part of the first concept of tagged octagons (relu5) on the tag and within two pixels of it; of whole
  heatmaps the part within two pixels of object or tag, and how many have their strongest pixel there;
- zero elsewhere: the same network for other numbers, in which what is planted, or the middle of all values, or the
  colour of the tag or of a plain object, is 0. What a rule says of a place should not depend on it;
- tokens: the transformer's heatmaps, by patches;
- AOPC: pixel flipping as in `crp.evaluate`, both fills, and pixel by pixel, up to a tenth of all; higher is better;
- SSIM: similarity of the heatmaps to those of the network with shuffled weights; lower is better. Of the demo, also how
  much of these heatmaps lies on the object: a rule that gains as much there follows the picture, not the network.

An arrow says that a rule's mean is higher or lower than that of flat by more than two standard errors of the
differences in single samples. Rules were compared first on other samples (`--choosing`). Made by

    python -m tests.evidence.first_layer_truth FOLDER_OF_REAL_DATA > docs/evidence/first-layer.md

The same for rules above the first layer, with flat at the first layer:

    python -m tests.evidence.first_layer_truth FOLDER_OF_REAL_DATA \\
        --rules flat "gamma 1 above" "gamma 0.25 above" > docs/evidence/rules-above.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional

from crp.attribution import RelevanceFlow
from crp.attribution.replica import Replica
from crp.demo import Calls, Heartbeats, ObjectScenes, Scans, Scenes, demo_model
from crp.evaluation.localisation import located
from crp.evaluation.passes import modules_as_called, with_shuffled_weights
from crp.evaluation.pixels import cell_numbers, cell_sums
from crp.evaluation.randomisation import similarity
from tests.evidence import object_truth
from tests.evidence.first_layer_rules import ABOVE, RULES, Box, cut, moved, moved_input, with_first_layer
from tests.evidence.planted_truth import first_concept, share
from tests.oracle import nets, photos

PLANTED = {"spectrogram": (Calls, "conv4"), "heartbeat": (Heartbeats, "conv4"), "scan": (Scans, "conv3")}
OCTAGON, SCENE_LAYER = Scenes.class_names.index("octagon"), "relu5"

# What is measured, and its value in each sample.
Row = tuple[str, np.ndarray]


class Plan(NamedTuple):
    """The samples: those to choose on, or those to report; the real data; and the part of all samples to use."""

    choosing: bool
    folder: Path
    size: float

    @property
    def seed(self) -> int:
        """The seed of built-in data."""
        return 101 if self.choosing else 202

    def count(self, full: int) -> int:
        """Return how many samples to use."""
        return max(4, round(full * self.size))


# -- built-in data ---------------------------------------------------------------------------------------------------


class Elsewhere:
    """A network with a candidate at its first layer, for inputs in which `at` became zero.

    Parameters
    ----------
    model
        The network, whose first convolution is `conv1`.
    rule
        A key of `RULES`.
    values
        An input, `[N, c, *S]`.
    box
        The smallest and largest value of each channel.
    at
        `[c]`; None to leave all as it is.
    """

    def __init__(self, model: nn.Module, rule: str, values: Tensor, box: Box, at: Tensor | None) -> None:
        self.at, self.margin = at, 0
        if at is not None:
            model, self.margin = moved(model, "conv1", -at)
            box = tuple(bound - at.view(bound.shape) for bound in box)
        self.replica = with_first_layer(model, self.input(values), rule, box)

    def input(self, values: Tensor) -> Tensor:
        """Return the same input for this network."""
        return values if self.at is None else moved_input(values, self.margin, -self.at)

    def first_concept(self, values: Tensor, layer: str, label: int) -> np.ndarray:
        """Return the positive relevance of the first concept, `[*S]`."""
        return cut(first_concept(self.replica, self.input(values), layer, label)[1], self.margin)

    def heatmap(self, values: Tensor, target: Tensor) -> Tensor:
        """Return the heatmap of a class, `[*S]`."""
        return cut(heatmaps_of(self.replica, self.input(values), target)[0], self.margin)


def planted(rule: str, plan: Plan) -> Iterator[Row]:
    """Measure sounds, signals and volumes."""
    for network, (data_of, layer) in PLANTED.items():
        model, count = demo_model(network), plan.count(60)
        data, learned = data_of("test", 2 * count, seed=plan.seed), data_of("train", 60)
        box = box_of(torch.stack([learned[index][0] for index in range(60)]))
        samples = [data.sample(index) for index in range(2 * count) if index % 3][:count]
        middle = (box[0] + box[1]).flatten() / 2
        for words, at, per_sample in (
            ("", None, False), (", zero in the middle", middle, False), (", zero at what is planted", None, True),
        ):  # fmt: skip
            used, found = Elsewhere(model, rule, learned[0][0][None], box, at), {1: [], 2: []}
            for sample in samples[: ceil(count / 2)] if words else samples:
                values = torch.from_numpy(sample.values)[None]
                if per_sample:
                    used = Elsewhere(model, rule, values, box, values[0][:, sample.mask].mean(1))
                found[sample.label].append(share(used.first_concept(values, layer, sample.label), sample.mask))
            for label, inside in found.items():
                yield f"{network}, {data_of.class_names[label]}{words}: in the mask", np.array(inside)
                if not words:
                    yield "… samples with at least 80 %", np.array(inside) >= 0.8


def objects(rule: str, plan: Plan) -> Iterator[Row]:
    """Measure scenes with several objects."""
    data = ObjectScenes("test", plan.count(100), seed=plan.seed, patch="always")
    replica = with_first_layer(demo_model("segmenter"), data[0][0][None], rule, SCENE_BOX)
    found = list(object_truth.measured(data, replica))
    clean = [each for each in found if each.label != object_truth.OCTAGON]
    inside = np.array([1 - each.of_first for each in clean])
    yield "objects: in the mask", inside
    yield "… objects with at least 80 %", inside >= 0.8
    most = max(each.context for each in clean)
    above = [each.context > most for each in found if each.label == object_truth.OCTAGON]
    yield "octagons on their ground: more context than every clean object", np.array(above)


def scenes(rule: str, plan: Plan) -> Iterator[Row]:
    """Measure scenes with one object."""
    model, count = demo_model().eval(), 10 * plan.count(36)
    data = Scenes("test", count, seed=plan.seed)
    tagged = [index for index in range(OCTAGON, count, 10) if data.scene(index).tagged]
    plain = [index for index in range(count) if data.scene(index).texture == "plain" and not data.scene(index).tagged]
    for name, indices, masks in (
        ("tag, first concept", tagged, [data.masks(index)["tag"] for index in tagged]),
        ("whole heatmaps", range(0, count, 7), [data.shown(index) for index in range(0, count, 7)]),
        ("plain objects", plain[: count // 6], [data.masks(index)["shape"] for index in plain[: count // 6]]),
    ):
        for words, centred in (("", False), (", zero at its colour", True)):
            used, found = Elsewhere(model, rule, data[0][0][None], SCENE_BOX, None), []
            for index, mask in zip(indices, map(torch.from_numpy, masks), strict=True):
                values = data[index][0][None]
                if centred:
                    used = Elsewhere(model, rule, values, SCENE_BOX, values[0][:, mask].mean(1))
                if name.startswith("tag"):
                    heatmap = torch.from_numpy(used.first_concept(values, SCENE_LAYER, OCTAGON))
                else:
                    heatmap = used.heatmap(values, predicted(model, values))
                found.append(torch.cat(located(heatmap[None], mask[None])[:3]).numpy())
            inside, near, points = np.array(found).T
            yield f"{name}{words}: in the mask", inside
            yield "… within two pixels", near
            if name == "whole heatmaps" and not centred:
                yield "… strongest pixel within two pixels", points


def tokens(rule: str, plan: Plan) -> Iterator[Row]:
    """Measure the transformer's heatmaps."""
    model, data = demo_model("vit").eval(), Scenes("test", plan.count(100), seed=plan.seed)
    inputs = torch.stack([data[index][0] for index in range(len(data))])
    masks = torch.from_numpy(np.stack([data.shown(index) for index in range(len(data))]))
    heatmaps = heatmaps_of(with_first_layer(model, inputs[:1], rule, SCENE_BOX), inputs, predicted(model, inputs))
    side = next(module.kernel_size[0] for module in model.modules() if isinstance(module, nn.Conv2d))
    strongest = functional.avg_pool2d(heatmaps, side).flatten(1).argmax(1, keepdim=True)
    shown = functional.max_pool2d(masks[:, None].float(), side).flatten(1)
    yield "transformer: strongest patch shows object or tag", shown.gather(1, strongest)[:, 0].numpy()
    yield "… within two pixels of object or tag", located(heatmaps, masks)[1].numpy()


# -- real data -------------------------------------------------------------------------------------------------------


def real(plan: Plan, pictures: int) -> list[tuple[str, nn.Module, Tensor]]:
    """Return SqueezeNet with photos, and ResNet-20 with four times as many CIFAR pictures."""
    files = [plan.folder / "imagenet_samples" / one["file"] for one in photos.samples(plan.folder)]
    if plan.choosing:
        files = sorted((plan.folder / "imagenet_photos").glob("*.jpg"))[::18]
    large = torch.stack([photos.for_squeezenet(file) for file in files[:pictures]])
    small = photos.cifar10(plan.folder, 8 * pictures)[0].split(4 * pictures)[plan.choosing]
    return [
        ("SqueezeNet", nets.trained_squeezenet(plan.folder), large),
        ("ResNet-20", nets.trained_resnet20(plan.folder), small),
    ]


def flipping(rule: str, plan: Plan) -> Iterator[Row]:
    """Destroy the most relevant regions, as `crp.evaluate` does."""
    for name, model, data in real(plan, plan.count(48)):
        targets = predicted(model, data)
        heatmaps = heatmaps_of(with_first_layer(model, data[:1], rule, PHOTO_BOX), data, targets)
        channels = data.transpose(0, 1).flatten(1).double()
        mean, low, high = (
            values.view(1, 3, 1, 1).to(data) for values in (channels.mean(1), channels.amin(1), channels.amax(1))
        )
        noise = low + (high - low) * torch.rand(data[:1].shape, generator=torch.Generator().manual_seed(0))
        numbers = cell_numbers(data.shape[2:])
        for words, fill in (("mean", mean), ("noise", noise)):
            yield f"AOPC, {name}, {words}", falls(model, data, targets, cell_sums(heatmaps), numbers, 0.3, fill)
        some = slice(ceil(len(data) / 3))
        data, targets, pixels = data[some], targets[some], heatmaps[some].flatten(1)
        numbers = torch.arange(pixels.shape[1]).view(data.shape[2:])
        blurred = functional.avg_pool2d(functional.pad(data, [4] * 4, mode="reflect"), 9, 1)
        for words, fill in (("mean", mean), ("noise", noise), ("blurred", blurred)):
            yield f"… pixel by pixel, {words}", falls(model, data, targets, pixels, numbers, 0.1, fill)


def falls(
    model: nn.Module, data: Tensor, targets: Tensor, scores: Tensor, numbers: Tensor, part: float, fill: Tensor
) -> np.ndarray:
    """Return the mean fall of each logit while a part of the cells is destroyed in ten steps, by the mean logit.

    `scores` is `[N, cells]`, and `numbers` `[H, W]` says which cell a pixel is in.
    """
    ranks = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    most, curve = ceil(part * scores.shape[1]), []
    for step in range(11):
        gone = (ranks < round(step * most / 10))[:, numbers][:, None]
        curve.append(logits(model, torch.where(gone, fill, data)).gather(1, targets[:, None])[:, 0].double())
    values = torch.stack(curve, 1)
    return ((values[:, :1] - values).mean(1) / values[:, 0].mean()).numpy()


def randomised(rule: str, plan: Plan) -> Iterator[Row]:
    """Compare heatmaps with those of the same network with shuffled weights, for the same classes."""
    count = plan.count(8)
    shown = Scenes("test", 4 * count, seed=plan.seed)
    masks = torch.from_numpy(np.stack([shown.shown(index) for index in range(len(shown))]))
    shown = torch.stack([shown[index][0] for index in range(len(shown))])
    subjects = [(*subject, PHOTO_BOX) for subject in real(plan, count)]
    for name, model, data, box in (*subjects, ("demo CNN", demo_model().eval(), shown, SCENE_BOX)):
        targets, names = predicted(model, data), modules_as_called(model, data[:1])
        before = heatmaps_of(with_first_layer(model, data[:1], rule, box), data, targets)
        for words, shuffled in (("upper half", names[-ceil(len(names) / 2) :]), ("all", names)):
            copy = with_shuffled_weights(model, 0, shuffled)
            after = heatmaps_of(with_first_layer(copy, data[:1], rule, box), data, targets)
            yield f"SSIM, {name}, {words} shuffled", similarity(before, after).numpy()
            pairs = zip(before.flatten(1), after.flatten(1), strict=True)
            yield "… rank correlation of pixels", np.array([spearmanr(*pair).statistic for pair in pairs])
            if name == "demo CNN":
                yield "… whole heatmaps: in the mask", located(after, masks)[0].numpy()


# -- what they share -------------------------------------------------------------------------------------------------


def box_of(data: Tensor) -> Box:
    """Return the smallest and the largest value of each channel of `[N, c, *S]`, `[1, c, 1, ...]`."""
    shape = 1, -1, *[1] * (data.ndim - 2)
    return tuple(bound(data.transpose(0, 1).flatten(1), 1).view(shape) for bound in (torch.amin, torch.amax))


def box_of_pictures(mean: Tensor, deviation: Tensor) -> Box:
    """Return the smallest and the largest possible value of each channel of a normalised picture."""
    return tuple(((bound - mean) / deviation).expand(3, 1, 1)[None] for bound in (0.0, 1.0))


SCENE_BOX = box_of_pictures(torch.tensor(0.5), torch.tensor(0.25))
PHOTO_BOX = box_of_pictures(photos.MEAN, photos.DEVIATION)


def logits(model: nn.Module, data: Tensor) -> Tensor:
    """Run the plain model, `[N, classes]`."""
    with torch.no_grad():
        return torch.cat([model(some) for some in data.split(16)])


def predicted(model: nn.Module, data: Tensor) -> Tensor:
    """Return the predicted class of each sample, `[N]`."""
    return logits(model, data).argmax(1)


def heatmaps_of(replica: Replica, data: Tensor, targets: Tensor) -> Tensor:
    """Compute heatmaps of classes, `[N, H, W]`."""
    found = []
    for some, classes in zip(data.split(16), targets.split(16), strict=True):
        with RelevanceFlow(replica, None, some, []) as flow:
            found.append(flow.down(flow.output_relevance(classes.tolist()))[0].sum(1))
    return torch.cat(found)


MEASURES: dict[str, Callable[[str, Plan], Iterator[Row]]] = {
    "planted": planted, "objects": objects, "scenes": scenes, "tokens": tokens, "flipping": flipping,
    "randomised": randomised,
}  # fmt: skip


def table(measures: list[str], rules: list[str], plan: Plan) -> Iterator[str]:
    """Yield the lines of a table, a row for each number."""
    yield f"| | {' | '.join(rules)} |"
    yield "| --- " * (len(rules) + 1) + "|"
    for measure in measures:
        for each in zip(*(MEASURES[measure](rule, plan) for rule in rules), strict=True):
            words, numbers = each[0][0], [np.asarray(values, float) for _, values in each]
            yield f"| {words} | {' | '.join(cell(values, numbers[0]) for values in numbers)} |"


def cell(values: np.ndarray, reference: np.ndarray) -> str:
    """Write a mean, and whether it is higher or lower than that of the reference."""
    defined = ~np.isnan(values) & ~np.isnan(reference)
    values, differences = values[defined], (values - reference)[defined]
    error = differences.std(ddof=1) / len(differences) ** 0.5
    change = differences.mean()
    arrow = "" if abs(change) <= 2 * error or abs(change) < 5e-4 else " ↑" if change > 0 else " ↓"
    return f"{values.mean():.3f}{arrow}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--choosing", action="store_true", help="use the samples on which rules were compared first")
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=[*RULES, *ABOVE])
    parser.add_argument("--measures", nargs="+", default=list(MEASURES), choices=list(MEASURES))
    parser.add_argument("--size", type=float, default=1.0, help="part of the samples to use")
    given = parser.parse_args()
    sys.stdout.write("# Rules for heatmaps, at the first layer or above\n\n")
    sys.stdout.write("Made by `python -m tests.evidence.first_layer_truth`, whose text says what the rows are.\n\n")
    for line in table(given.measures, given.rules, Plan(given.choosing, given.folder, given.size)):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
