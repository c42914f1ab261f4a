"""Edges against measured changes, by a script of plain torch that shares no code with `crp.evaluation`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

import crp
from crp.evaluation import Finding
from crp.visualization.report import evaluation_report

LOWER, UPPER = "1", "3"


def model() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 7, 3), nn.ReLU(), nn.Flatten(), nn.Linear(112, 3)
    ).double()  # fmt: skip


DATA = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(scope="module")
def finding() -> Finding:
    found = crp.evaluate(model(), DATA, [LOWER, UPPER], measures=["edges"], progress=False)
    assert found.layers == ()
    return found.findings[0]


def expected() -> dict[str, np.ndarray]:
    """Rank correlation and right signs of each sample by way to rank, `[N, 2]`."""
    net = model().eval()
    low, between, high = net[:2], net[2:4], net[4:]
    rows: dict[str, list[list[float]]] = {"relevance": [], "gradient × part": [], "integrated gradients": []}
    for sample in DATA:
        below = low(sample[None]).detach()
        above = between(below).detach().requires_grad_()
        logits = high(above)
        (gradient,) = torch.autograd.grad(logits.max(), above)
        # above the upper layer is a linear head: epsilon's relevance per activation is the gradient
        gradient = gradient * (above != 0)
        upper = (gradient * above).sum((2, 3))[0].detach()
        numbers: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
        for concept in upper.abs().argsort(descending=True)[:5].tolist():

            def value(lower: Tensor, concept: int = concept, gradient: Tensor = gradient) -> Tensor:
                return (gradient[0, concept] * between(lower)[0, concept]).sum()

            def slope(place: Tensor, value=value) -> Tensor:
                leaf = place.clone().requires_grad_()
                return torch.autograd.grad(value(leaf), leaf)[0]

            with torch.no_grad():
                active = [index for index in range(6) if below[0, index].max() > 0]
                effects = []
                for index in active:
                    without = below.clone()
                    without[0, index] = 0
                    effects.append(float(value(below) - value(without)))
            path = sum(slope(below * (step + 0.5) / 20) for step in range(20)) / 20
            scores = {"gradient × part": slope(below) * below, "integrated gradients": path * below}
            scores["relevance"] = scores["gradient × part"]  # epsilon at one convolution
            matter = np.abs(effects) >= 0.01 * abs(float(value(below).detach()))
            for name, each in scores.items():
                own = each.sum((2, 3))[0][active].numpy()
                right = (np.sign(own) == np.sign(effects)) & matter
                sign = right.sum() / matter.sum() if matter.any() else np.nan
                constant = np.ptp(own) == 0 or np.ptp(effects) == 0
                numbers[name].append((np.nan if constant else stats.spearmanr(own, effects).statistic, sign))
        for name, each in numbers.items():
            rows[name].append(np.nanmean(each, 0).tolist())
    return {name: np.array(each) for name, each in rows.items()}


def test_figures_are_those_of_a_plain_script(finding: Finding) -> None:
    assert finding.place == "1 → 3"
    for name, values in expected().items():
        for column, own in zip(("rank correlation", "right sign"), values.T, strict=True):
            figure = finding.figure(name, column)
            assert figure.mean == pytest.approx(np.mean(own), abs=1e-6), (name, column)
            assert figure.error == pytest.approx(np.std(own, ddof=1) / 6**0.5, abs=1e-6), (name, column)


def test_pairs_are_neighbours() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Linear(4, 4) if place % 2 == 0 else nn.ReLU() for place in range(8)))
    found = crp.evaluate(net, torch.rand(2, 4), ["1", "3", "5"], measures=["edges"], progress=False)
    assert [one.place for one in found.findings] == ["1 → 3", "3 → 5"]


def test_report_and_json_have_it(finding: Finding) -> None:
    found = crp.evaluate(model(), DATA, [LOWER, UPPER], measures=["edges"], progress=False)
    numbers = found.to_json()["findings"][0]
    assert numbers["verdict"] == finding.verdict == found.verdicts[0]
    mean = finding.figure("relevance", "rank correlation").mean
    assert numbers["rows"]["relevance"]["rank correlation"]["mean"] == mean
    page = evaluation_report(found, "tiny")
    assert finding.verdict in page
    assert "Edges of the attribution graph" in page
    assert f"{mean:.2f} ±" in page


def test_a_measure_that_does_not_exist_is_refused() -> None:
    with pytest.raises(crp.InputError, match="edges"):
        crp.evaluate(model(), DATA, [LOWER], measures=["edge"], progress=False)
