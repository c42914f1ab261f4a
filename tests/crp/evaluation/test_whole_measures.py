"""Every other measure against a script of plain torch that shares no code with `crp.evaluation`.

With epsilon everywhere and almost no epsilon, relevance at a layer is gradient times activation, and the heatmap is
gradient times input: the scripts need no propagation.
"""

from __future__ import annotations

import itertools
from math import ceil

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from zennit.composites import LayerMapComposite
from zennit.rules import Epsilon
from zennit.types import Convolution, Linear

import crp
from crp.errors import InputError
from crp.evaluation import DEFAULT, NAMES, Evaluation, Finding
from crp.evaluation.trained import looks_untrained
from crp.visualization.report import evaluation_report

LAYER, SAMPLES, CHANNELS = "1", 10, 9
MEASURES = tuple(name for name in NAMES if name not in ("rankings", "edges"))


def model() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, CHANNELS, 3), nn.ReLU(), nn.Conv2d(CHANNELS, 7, 3), nn.ReLU(), nn.Flatten(), nn.Linear(448, 4)
    ).double().eval()  # fmt: skip


NET = model()
DATA = torch.randn(SAMPLES, 1, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
LABELS = [int(NET(sample[None]).argmax()) for sample in DATA]
LABELS[3] = (LABELS[3] + 1) % 4  # predicted wrongly
RIGHT = [index for index in range(SAMPLES) if index != 3]
MASKS = torch.rand(SAMPLES, 12, 12, generator=torch.Generator().manual_seed(2)) > 0.8


@pytest.fixture(scope="module")
def found() -> Evaluation:
    rules = LayerMapComposite([(Convolution, Epsilon(1e-12)), (Linear, Epsilon(1e-12))])
    return crp.evaluate(
        NET, DATA, [LAYER], composite=rules, measures=MEASURES, labels=LABELS, masks=MASKS, progress=False
    )


def of(found: Evaluation, measure: str) -> Finding:
    (finding,) = [one for one in found.findings if one.measure == measure]
    return finding


# -- plain torch -----------------------------------------------------------------------------------------------------


def logit(data: Tensor, index: int, net: nn.Module = NET) -> Tensor:
    """The logit of the class that the whole network predicts for sample `index`."""
    best = int(NET(DATA[index, None]).argmax())
    return net(data)[..., best]


def low(data: Tensor) -> Tensor:
    return NET[:2](data)


def gradient_times(function, place: Tensor) -> Tensor:
    leaf = place.detach().clone().requires_grad_()
    return (torch.autograd.grad(function(leaf).sum(), leaf)[0] * place).detach()


def relevance(data: Tensor, index: int, net: nn.Module = NET) -> np.ndarray:
    """Relevance of the layer's channels for one sample `[1, 1, 12, 12]`."""
    return gradient_times(lambda a: logit(a, index, net[2:]), net[:2](data)).sum((0, 2, 3)).numpy()


def without(activation: Tensor, channels, fill: Tensor | None = None) -> Tensor:
    activation = activation.clone()
    for channel in channels:
        activation[:, channel] = 0 if fill is None else fill[channel]
    return activation


@torch.no_grad()
def effect(data: Tensor, index: int, channels, fill: Tensor | None = None) -> float:
    place = low(data)
    return float(logit(place, index, NET[2:]) - logit(without(place, channels, fill), index, NET[2:]))


def effects(data: Tensor, index: int, fill: Tensor | None = None) -> np.ndarray:
    return np.array([effect(data, index, [channel], fill) for channel in range(CHANNELS)])


def rho(first, second) -> float:
    return stats.spearmanr(first, second).statistic


def assert_figure(figure, values) -> None:
    values = np.asarray(values, float)
    assert figure.mean == pytest.approx(values.mean(), abs=1e-6)
    assert figure.error == pytest.approx(values.std(ddof=1) / len(values) ** 0.5, abs=1e-6)
    assert figure.samples == len(values)


# -- the measures ----------------------------------------------------------------------------------------------------


def test_wrong_predictions_are_left_out(found: Evaluation) -> None:
    assert found.samples == len(RIGHT)
    assert of(found, "pairs").figure("relevance", "rank correlation").samples == len(RIGHT)


def test_pairs(found: Evaluation) -> None:
    """With nine concepts all 36 pairs are drawn."""
    finding = of(found, "pairs")
    ids = list(itertools.combinations(range(CHANNELS), 2))
    scores, singles, gaps = [], [], []
    for index in RIGHT:
        data = DATA[index, None]
        together = np.array([effect(data, index, pair) for pair in ids])
        own, alone = relevance(data, index), effects(data, index)
        scores.append(rho([own[i] + own[j] for i, j in ids], together))
        sums = np.array([alone[i] + alone[j] for i, j in ids])
        singles.append(rho(sums, together))
        gaps.append(np.abs(sums - together).mean() / np.abs(together).mean())
    assert_figure(finding.figure("relevance", "rank correlation"), scores)
    assert_figure(finding.figure("gradient × part", "rank correlation"), scores)
    assert_figure(finding.figure("single effects", "rank correlation"), singles)
    assert_figure(finding.figure("single effects", "interaction"), gaps)


def test_classes(found: Evaluation) -> None:
    finding = of(found, "classes")
    rows: dict[str, list[tuple]] = {"all concepts": [], "first 10%": []}
    for index in RIGHT:
        data = DATA[index, None]
        logits = NET(data)[0].detach().numpy()
        table = [gradient_times(lambda a, c=c: NET[2:](a)[0, c], low(data)).sum((0, 2, 3)).numpy() for c in range(4)]
        first = table[int(logits.argmax())].argmax()
        for name, sums in (
            ("all concepts", [row.sum() for row in table]),
            ("first 10%", [row[first] for row in table]),
        ):
            distance = np.linalg.norm(sums - logits) / np.linalg.norm(logits)
            rows[name].append((np.corrcoef(sums, logits)[0, 1], distance, np.argmax(sums) == logits.argmax()))
    for name, values in rows.items():
        for column, own in zip(finding.columns, zip(*values, strict=True), strict=True):
            assert_figure(finding.figure(name, column), own)
    assert finding.figure("random 10%", "distance").mean > finding.figure("all concepts", "distance").mean


def test_masking(found: Evaluation) -> None:
    """All samples count, and the labels are the truth."""
    finding = of(found, "masking")
    table = np.array([relevance(DATA[index, None], index) for index in range(SAMPLES)])
    order = np.argsort(-table.mean(0))

    @torch.no_grad()
    def right(index: int, removed) -> bool:
        return int(NET[2:](without(low(DATA[index, None]), removed)).argmax()) == LABELS[index]

    def accuracy(removed_of) -> float:
        return float(np.mean([right(index, removed_of(index)) for index in range(SAMPLES)]))

    assert finding.figure("all concepts", "accuracy, kept").mean == 0.9
    for part in (0.05, 0.1, 0.25, 0.5):
        size = ceil(part * CHANNELS)
        name = f"first {part:.0%} ({size})"
        kept, removed = (finding.figure(name, f"accuracy, {what}").mean for what in ("kept", "removed"))
        assert kept == pytest.approx(accuracy(lambda index, size=size: order[size:]))
        assert removed == pytest.approx(accuracy(lambda index, size=size: order[:size]))
    negative = finding.figure("negative ones removed", "accuracy, removed").mean
    assert negative == pytest.approx(accuracy(lambda index: np.flatnonzero(table[index] < 0)))


def test_stability(found: Evaluation) -> None:
    finding = of(found, "stability")
    noise = torch.randn(len(RIGHT), 1, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    data = DATA[RIGHT]
    noisy = data + 0.1 * data.std() * noise
    shifted = torch.cat([data[..., :1], data[..., :-1]], -1)
    for name, changed in (("noise", noisy), ("shift", shifted)):
        rows = []
        for place, index in enumerate(RIGHT):
            pair = [(relevance(one[place, None], index), effects(one[place, None], index)) for one in (data, changed)]
            changes = [pair[1][kind] - pair[0][kind] for kind in (0, 1)]
            rows.append((rho(pair[0][0], pair[1][0]), rho(pair[0][1], pair[1][1]), rho(*changes)))
        for column, own in zip(finding.columns, zip(*rows, strict=True), strict=True):
            assert_figure(finding.figure(name, column), own)
    # the channel's mean over every second sample takes the place of what is removed
    with torch.no_grad():
        halves = [low(data[start::2]).mean((0, 2, 3)) for start in (0, 1)]
    values = [rho(*(effects(DATA[index, None], index, half) for half in halves)) for index in RIGHT]
    assert_figure(finding.figure("other references", "effects"), values)


def test_localisation(found: Evaluation) -> None:
    finding = of(found, "localisation")

    def numbers(heatmap: np.ndarray, mask: np.ndarray) -> tuple:
        near = np.zeros_like(mask)
        for row, column in np.argwhere(mask):
            near[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3] = True
        positive = np.maximum(heatmap, 0)
        inside, outside = positive[mask].mean(), positive[~mask].mean()
        strongest = near[np.unravel_index(positive.argmax(), positive.shape)]
        return (
            positive[mask].sum() / positive.sum(), positive[near].sum() / positive.sum(), strongest,
            inside / outside, outside / inside,
        )  # fmt: skip

    whole, concepts = [], []
    for index in RIGHT:
        data, mask = DATA[index, None], MASKS[index].numpy()
        whole.append(numbers(gradient_times(lambda x, i=index: logit(x, i), data)[0, 0].numpy(), mask))
        maps = []
        place = low(data)
        (slope,) = torch.autograd.grad(logit(leaf := place.detach().requires_grad_(), index, NET[2:]).sum(), leaf)
        for channel in np.argsort(-relevance(data, index))[:5]:
            weight = slope[0, channel]
            heatmap = gradient_times(lambda x, c=channel, w=weight: (low(x)[0, c] * w).sum(), data)[0, 0].numpy()
            if (heatmap > 0).any():
                maps.append(numbers(heatmap, mask))
        concepts.append(np.mean(maps, 0))
    for name, rows in (("heatmap", whole), ("gradient × input", whole), (f"concepts of {LAYER}", concepts)):
        for column, own in zip(finding.columns, zip(*rows, strict=True), strict=True):
            assert_figure(finding.figure(name, column), own)


def test_pixel_flipping(found: Evaluation) -> None:
    """Twelve pixels along each axis are fewer than 14 cells, so each pixel is a cell."""
    finding = of(found, "pixels")
    mean, falls, base = DATA[RIGHT].mean(), [], []
    for index in RIGHT:
        data = DATA[index, None]
        heatmap = gradient_times(lambda x, i=index: logit(x, i), data)[0, 0]
        order = heatmap.flatten().argsort(descending=True)
        curve = []
        for step in range(11):
            destroyed = data.clone().view(-1)
            destroyed[order[: round(step * ceil(0.3 * 144) / 10)]] = mean
            curve.append(float(logit(destroyed.view(1, 1, 12, 12), index).detach()))
        falls.append(np.mean([curve[0] - value for value in curve]))
        base.append(curve[0])
    assert_figure(finding.figure("heatmap", "AOPC, mean"), np.array(falls) / np.mean(base))
    assert_figure(finding.figure("gradient × input", "AOPC, mean"), np.array(falls) / np.mean(base))
    random = finding.figure("random", "AOPC, mean").mean
    assert finding.figure("heatmap", "AOPC, mean").mean > 2 * random


def shuffled(names, seed: int = 0) -> nn.Sequential:
    """A copy with the entries of the weights of some modules in the order of a generator."""
    net, generator = model(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, module in net.named_children():
            for parameter in module.parameters() if name in names else ():
                order = torch.randperm(parameter.numel(), generator=generator)
                parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return net


def test_randomisation(found: Evaluation) -> None:
    finding = of(found, "randomisation")
    steps = {"last layer": "5", "upper quarter": "5", "upper half": "52", "all layers": "520"}
    for name, chosen in steps.items():
        net, ranks, likeness = shuffled(chosen), [], []
        for index in RIGHT:
            data = DATA[index, None]
            ranks.append(rho(relevance(data, index), relevance(data, index, net)))
            maps = [gradient_times(lambda x, i=index, n=n: logit(x, i, n), data)[0, 0].numpy() for n in (NET, net)]
            likeness.append(structural_similarity(*(one / np.abs(one).max() for one in maps)))
        assert_figure(finding.figure(name, f"rank correlation, {LAYER}"), ranks)
        assert_figure(finding.figure(name, "similarity of heatmaps"), likeness)


def structural_similarity(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al. 2004, window by window."""
    values = []
    for row, column in np.ndindex(x.shape[0] - 6, x.shape[1] - 6):
        a, b = (one[row : row + 7, column : column + 7].ravel() for one in (x, y))
        covariance = np.cov(a, b)
        values.append(
            (2 * a.mean() * b.mean() + 0.02**2) * (2 * covariance[0, 1] + 0.06**2)
            / ((a.mean() ** 2 + b.mean() ** 2 + 0.02**2) * (covariance[0, 0] + covariance[1, 1] + 0.06**2))
        )  # fmt: skip
    return float(np.mean(values))


def information(net: nn.Module) -> float:
    with torch.no_grad():
        shares = net(DATA).softmax(1).numpy()
    return stats.entropy(shares.mean(0)) - stats.entropy(shares, axis=1).mean()


def test_trained(found: Evaluation) -> None:
    finding = of(found, "trained")
    copies = [information(shuffled("025", seed)) for seed in range(19)]
    assert finding.figure("this model", "information").mean == pytest.approx(information(NET), abs=1e-9)
    assert finding.figure("shuffled weights, best", "information").mean == pytest.approx(max(copies), abs=1e-9)
    assert finding.figure("shuffled weights, mean", "information").mean == pytest.approx(np.mean(copies), abs=1e-9)
    assert looks_untrained(finding)  # and it is
    assert "looks untrained" in finding.verdict


def test_a_network_that_knows_its_samples_is_trained() -> None:
    net = model()
    truth = torch.arange(SAMPLES) % 4
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(DATA), truth).backward()
        optimiser.step()
    (finding,) = crp.evaluate(net, DATA, [LAYER], measures=["trained"], progress=False).findings
    assert not looks_untrained(finding)
    assert "is trained" in finding.verdict


def test_a_network_a_little_above_its_copies_is_not_said_to_be_below_them(monkeypatch: pytest.MonkeyPatch) -> None:
    copies = iter([0.25] * 19)
    monkeypatch.setattr("crp.evaluation.trained.predicted_information", lambda _: next(copies, 0.3))
    (finding,) = crp.evaluate(NET, DATA, [LAYER], measures=["trained"], progress=False).findings
    assert looks_untrained(finding)
    assert "hold 0.3 nats of information about the samples, and those of copies" in finding.verdict
    assert "up to 0.25. A trained network holds more than 1.5 times as much" in finding.verdict


def test_untrained_networks_are_flagged() -> None:
    """At least 95 % of 40 seeds."""
    flagged = 0
    for seed in range(40):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Flatten(), nn.Linear(144, 20), nn.ReLU(), nn.Linear(20, 4)).double()
        (finding,) = crp.evaluate(net, DATA, ["2"], measures=["trained"], seed=seed, progress=False).findings
        flagged += looks_untrained(finding)
    assert flagged >= 38


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"labels": [1] * SAMPLES}, "all samples have the same label"),
        ({"data": DATA[:7]}, "7 samples are too few"),
    ],
)
def test_what_cannot_be_told_is_said(given: dict, reason: str) -> None:
    arguments = {"data": DATA, **given}
    (finding,) = crp.evaluate(NET, layers=[LAYER], measures=["trained"], progress=False, **arguments).findings
    assert reason in finding.verdict
    assert not looks_untrained(finding)
    assert np.isnan(finding.figure("this model", "information").mean)


def test_if_nothing_is_predicted_correctly_only_the_network_is_measured() -> None:
    wrong = [(int(NET(sample[None]).argmax()) + 1) % 4 for sample in DATA]
    found = crp.evaluate(NET, DATA, [LAYER], measures=DEFAULT, labels=wrong, progress=False)
    assert [one.measure for one in found.findings] == ["trained"]
    assert found.layers == ()
    assert found.samples == 0
    with pytest.raises(InputError, match="0 samples correctly"):
        crp.evaluate(NET, DATA, [LAYER], measures=["edges"], labels=wrong, progress=False)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": [0]}, "10 samples and 1 labels"),
        ({"labels": [4] * SAMPLES}, "A sample has the label 4, but the model has the classes 0 to 3"),
        ({"labels": torch.tensor(LABELS).float()}, r"Sample 0 has the label tensor\(.\.\), which is not a whole"),
        ({"masks": MASKS.double()}, r"Masks are bool \[10, 12, 12\]"),
        ({"measures": ["localisation"]}, "needs masks"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict, message: str) -> None:
    arguments = {"measures": ["trained"], **given}
    with pytest.raises(InputError, match=message):
        crp.evaluate(NET, DATA, [LAYER], progress=False, **arguments)


def test_every_measure_is_in_the_report_and_in_the_numbers(found: Evaluation) -> None:
    page, numbers = evaluation_report(found, "tiny"), found.to_json()
    assert [one["measure"] for one in numbers["findings"]] == list(MEASURES)
    for finding in found.findings:
        assert finding.verdict in page.replace("&#39;", "'"), finding.measure
        assert finding.title in page
    # the figure is the mean over all steps
    said = "while up to 30% of the input is destroyed in its order, the output is lower by"
    assert said in of(found, "pixels").verdict
