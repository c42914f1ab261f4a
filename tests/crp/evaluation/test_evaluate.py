"""`evaluate`, against a script of plain torch hooks that shares no code with it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

import crp
from crp.attribution import RelevanceFlow
from crp.attribution.detectors import box_logits
from crp.attribution.raw_boxes import RawBoxes, read_boxes
from crp.attribution.starts import Box, ClassInMask, Given, Sum
from crp.concepts import Directions, PositionConcept
from crp.errors import InputError
from crp.evaluation.evaluation import Evaluation, Figure
from crp.visualization.report import evaluation_report

FRACTIONS = (0.0, 0.2, 0.5, 1.0)
LAYER = "3"


def model() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 7, 3), nn.ReLU(), nn.Conv2d(7, 5, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(20, 3),
    ).double()  # fmt: skip


DATA = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(scope="module")
def found() -> Evaluation:
    return crp.evaluate(model(), DATA, [LAYER], fractions=FRACTIONS, progress=False)


class Hooked:
    """The model, with channels of the layer replaced by a hook."""

    def __init__(self) -> None:
        self.net = model().eval()
        layers = list(self.net)
        with torch.no_grad():
            self.at_layer = nn.Sequential(*layers[:4])(DATA)
            self.classes = self.net(DATA).argmax(1)

    def logit(self, sample: int, removed: list[int], fill: str) -> float:
        def replace(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
            output = output.clone()
            for channel in removed:
                output[0, channel] = 0 if fill == "zero" else self.at_layer[:, channel].mean()
            return output

        handle = self.net[3].register_forward_hook(replace)
        with torch.no_grad():
            value = self.net(DATA[sample, None])[0, self.classes[sample]].item()
        handle.remove()
        return value

    def effects(self, fill: str) -> np.ndarray:
        return np.array(
            [[self.logit(i, [], fill) - self.logit(i, [c], fill) for c in range(7)] for i in range(len(DATA))]
        )

    def curves(self, scores: np.ndarray, kind: str, fill: str) -> np.ndarray:
        rows = []
        for i, row in enumerate(scores):
            order = sorted(range(7), key=lambda c, row=row: (-row[c], c))
            counts = [math.ceil(f * 7) for f in FRACTIONS]
            removed = [order[:k] if kind == "deletion" else order[k:] for k in counts]
            rows.append([self.logit(i, gone, fill) for gone in removed])
        return np.array(rows)


@pytest.mark.parametrize("fill", ["zero", "mean"])
def test_curves_are_those_of_a_plain_script(found: Evaluation, fill: str) -> None:
    hooked = Hooked()
    effects, scores = hooked.effects(fill), hooked.effects("zero")
    reference = found.layers[0].ranking("single effects")
    expected = [stats.spearmanr(scores[i], effects[i]).statistic for i in range(len(DATA))]
    assert reference.correlation[fill].mean == pytest.approx(np.mean(expected), abs=1e-9)
    assert reference.correlation[fill].error == pytest.approx(np.std(expected, ddof=1) / 5**0.5, abs=1e-9)
    base = np.mean([hooked.logit(i, [], fill) for i in range(len(DATA))])
    for kind in ("deletion", "insertion"):
        expected = hooked.curves(scores, kind, fill).mean(0) / base
        assert reference.curves[kind, fill].mean == pytest.approx(expected, abs=1e-9)


def test_baselines_are_those_of_a_plain_script(found: Evaluation) -> None:
    hooked = Hooked()
    upper = nn.Sequential(*list(hooked.net)[4:])
    effects = hooked.effects("zero")

    def gradient(place: Tensor) -> Tensor:
        leaf = place.clone().requires_grad_()
        (grad,) = torch.autograd.grad(upper(leaf)[range(5), hooked.classes].sum(), leaf)
        return grad

    steps = [gradient(hooked.at_layer * (step + 0.5) / 20) for step in range(20)]
    scores = {
        "activation": hooked.at_layer.sum((2, 3)),
        "gradient × part": (gradient(hooked.at_layer) * hooked.at_layer).sum((2, 3)),
        "integrated gradients": (torch.stack(steps).mean(0) * hooked.at_layer).sum((2, 3)),
    }
    for name, values in scores.items():
        ranking = found.layers[0].ranking(name)
        expected = [stats.spearmanr(values[i], effects[i]).statistic for i in range(5)]
        assert ranking.correlation["zero"].mean == pytest.approx(np.mean(expected), abs=1e-9), name
        expected = hooked.curves(values.numpy(), "insertion", "mean").mean(0)
        base = np.mean([hooked.logit(i, [], "zero") for i in range(5)])
        assert ranking.curves["insertion", "mean"].mean == pytest.approx(expected / base, abs=1e-9), name


def test_relevance_is_that_of_explanations(found: Evaluation) -> None:
    with crp.RelevanceFlow(model(), crp.composite_for(model(), DATA).composite, DATA, [LAYER]) as flow:
        relevance = flow.down(flow.output_relevance(flow.prediction.argmax(1)), to=LAYER)[0].sum((2, 3)).numpy()
    hooked = Hooked()
    effects = hooked.effects("zero")
    ranking = found.layers[0].ranking("relevance")
    base = np.array([hooked.logit(i, [], "zero") for i in range(5)])
    matter = np.abs(effects) >= 0.01 * np.abs(base)[:, None]
    agree = [
        ((np.sign(r) == np.sign(e)) & m).sum() / m.sum() for r, e, m in zip(relevance, effects, matter, strict=True)
    ]
    assert ranking.sign.mean == pytest.approx(np.mean(agree))
    assert ranking.curves["deletion", "zero"].mean == pytest.approx(
        hooked.curves(relevance, "deletion", "zero").mean(0) / base.mean(), abs=1e-9
    )


@pytest.mark.parametrize("fill", ["zero", "mean"])
@pytest.mark.parametrize("kind", ["positions", "directions"])
def test_other_kinds_are_removed_part_by_part(kind: str, fill: str) -> None:
    """Positions `[C, H, W] * mask`; directions, of which each part is the coefficient times the direction."""
    matrix = torch.randn(3, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    concept = PositionConcept() if kind == "positions" else Directions(matrix)

    def part(activation: Tensor, index: int) -> Tensor:
        if kind == "positions":
            return activation * (torch.arange(16).view(4, 4) == index)
        coefficients = torch.einsum("nchw,cj->njhw", activation, torch.linalg.pinv(matrix))
        return coefficients[:, index, None] * matrix[index][:, None, None]

    def mean_part(index: int) -> Tensor:
        mean = part(place, index).mean(0)  # directions have the same mean at each position
        return mean if kind == "positions" else mean.mean((1, 2), keepdim=True).expand_as(mean)

    hooked = Hooked()
    upper = nn.Sequential(*list(hooked.net)[4:])
    found = crp.evaluate(model(), DATA, [LAYER], concept=concept, fractions=FRACTIONS, progress=False).layers[0]
    assert found.concepts == (16 if kind == "positions" else 3)
    place = hooked.at_layer
    with torch.no_grad():
        logits = [
            upper(place - part(place, index) + (mean_part(index) if fill == "mean" else 0))
            for index in range(found.concepts)
        ]
        base = upper(place)
    effects = torch.stack([(base - each)[range(5), hooked.classes] for each in logits], 1).numpy()
    activations = np.stack([part(place, index).norm(dim=1).sum((1, 2)).numpy() for index in range(found.concepts)], 1)
    if kind == "directions":
        activations = torch.einsum("nchw,cj->nj", place, torch.linalg.pinv(matrix)).numpy()
    expected = [stats.spearmanr(activations[i], effects[i]).statistic for i in range(5)]
    assert found.ranking("activation").correlation[fill].mean == pytest.approx(np.mean(expected), abs=1e-9)


def test_areas_are_relative_to_random(found: Evaluation) -> None:
    for key, curve in found.layers[0].ranking("random").curves.items():
        assert curve.area.mean == pytest.approx(1.0), key
    best = found.layers[0].ranking("single effects")
    assert best.curves["deletion", "zero"].area.mean > 1.2


def test_the_model_is_not_changed_and_the_result_is_reproducible(found: Evaluation) -> None:
    net = model().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    again = crp.evaluate(net, DATA, [LAYER], fractions=FRACTIONS, progress=False)
    assert again.to_json() == found.to_json()
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_what_does_not_fit_is_refused() -> None:
    for given, message in (
        ({"fractions": (0.1, 0.5)}, "rise from 0"),
        ({"data": DATA[:1]}, "at least two samples"),
        ({"layers": []}, "at least one layer"),
    ):
        arguments = {"data": DATA, "layers": [LAYER], **given}
        with pytest.raises(InputError, match=message):
            crp.evaluate(model(), **arguments, progress=False)


@pytest.mark.parametrize("measures", [["rankings"], ["edges"], ["pairs"], ["pixels"], ["stability"]])
def test_numbers_of_the_caller_do_not_follow_the_output_and_are_refused(measures: list[str]) -> None:
    numbers = Given(torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64))
    for start in (Given(2.0), numbers, Sum([numbers, Given(1.0)])):
        with pytest.raises(
            InputError, match=r"^What starts does not follow the model's output, as with fixed numbers"
        ):
            crp.evaluate(model(), DATA, [LAYER, "1"], target=lambda _, s=start: s, measures=measures, progress=False)


class Detector(nn.Module):
    """Class logits at each position, and boxes; or the logits alone."""

    def __init__(self, boxes: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.low = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU())
        self.classes, self.boxes = nn.Conv2d(6, 3, 1), boxes
        self.double()

    def forward(self, data: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        logits = self.classes(self.low(data)).flatten(2).mT
        return (logits, torch.ones(*logits.shape[:2], 4)) if self.boxes else logits


def test_a_detector_whose_boxes_a_function_reads_is_measured_as_its_logits_are() -> None:
    detector = box_logits(read_boxes(Detector(True), lambda output: RawBoxes(*output)))
    given = {"target": lambda _: Sum([Box(3, 1), Box(8, 2)]), "measures": ["rankings", "localisation", "pixels"]}
    masks = torch.zeros(len(DATA), 8, 8, dtype=torch.bool)
    masks[:, 2:5, 2:5] = True
    ours, plain = (
        crp.evaluate(net, DATA, ["low"], masks=masks, progress=False, **given) for net in (detector, Detector(False))
    )
    assert ours.to_json()["findings"] == plain.to_json()["findings"]
    assert ours.to_json()["layers"] == plain.to_json()["layers"]


def test_heatmaps_of_numbers_of_the_caller_are_compared_with_masks() -> None:
    """Nothing is removed for that; only a gradient, with which heatmaps are compared, does not exist."""
    masks = torch.zeros(len(DATA), *DATA.shape[2:], dtype=torch.bool)
    masks[..., :3, :3] = True
    rows = {}
    for name, start in (("number", Given(2.0)), ("output", Given(lambda output: output / output * 2))):
        (finding,) = crp.evaluate(
            model(), DATA, [LAYER], target=lambda _, s=start: s, measures=["localisation"], masks=masks, progress=False
        ).findings
        rows[name] = finding.rows
    assert set(rows["number"]) == {"heatmap", f"concepts of {LAYER}", "random"}
    for name in rows["number"]:
        assert rows["number"][name] == rows["output"][name]
    with torch.no_grad():
        output = model()(DATA)
    with RelevanceFlow(model(), crp.composite_for(model(), DATA).composite, DATA) as flow:
        heatmaps = flow.down(torch.full_like(output, 2.0)[None])[0].sum(1).clamp(min=0)
    inside = (heatmaps * masks).sum((1, 2)) / heatmaps.sum((1, 2))
    assert rows["number"]["heatmap"][0].mean == pytest.approx(float(inside[~inside.isnan()].mean()), rel=1e-9)


def test_a_class_of_a_segmentation_may_be_predicted_nowhere_in_some_samples() -> None:
    """Its number is 0 there, which does not follow the output; it is one of the samples nevertheless."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1, bias=False)).double()
    data = torch.cat([torch.zeros(8, 1, 6, 6), torch.rand(2, 1, 6, 6)]).double()
    with torch.no_grad():
        net[0].bias.zero_()
        assert not net(data[:8]).argmax(1).any()
        assert net(data[8:]).argmax(1).any()
    found = crp.evaluate(net, data, ["1"], target=lambda _: ClassInMask(1), measures=["rankings"], progress=False)
    correlation = found.layers[0].ranking("single effects").correlation["zero"]
    assert (correlation.mean, correlation.samples) == (1.0, 2)


def test_the_report_says_what_was_measured(found: Evaluation) -> None:
    page = evaluation_report(found, "<tiny>")
    assert "&lt;tiny&gt;" in page
    assert "on 5 samples" in page
    assert found.layers[0].verdict.split("(")[0] in page
    assert f"{found.layers[0].ranking('relevance').correlation['zero'].mean:.2f} ±" in page.replace("−", "-")
    assert "http" not in page.split("<body>")[1].replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("correlation", "said"),
    [(0.9, "is"), (0.89, "is roughly"), (0.5, "is only in part"), (0.39, "is not"), (-1.0, "is not")],
)
def test_a_verdict_says_how_far_the_orders_agree(found: Evaluation, correlation: float, said: str) -> None:
    layer = found.layers[0]
    ranking = layer.ranking("relevance")
    changed = dataclasses.replace(ranking, correlation={**ranking.correlation, "zero": Figure(correlation, 0.1, 5)})
    others = [one for one in layer.rankings if one is not ranking]
    verdict = dataclasses.replace(layer, rankings=(changed, *others)).verdict
    assert f"the order of the concepts {said} that of their measured effects" in verdict
