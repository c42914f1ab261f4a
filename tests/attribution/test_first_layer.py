"""The candidates for the rule at the first layer: against their formulas, and with zero elsewhere."""

import numpy as np
import pytest
import torch
from torch import nn

from crp.attribution import RelevanceFlow
from crp.attribution.purposes import Purpose
from crp.demo import Heartbeats, Scans, Scenes, demo_model
from tests.evidence.first_layer_rules import RULES, cut, moved, moved_input, with_first_layer

BOX = torch.tensor([-3.0, -2.0]).view(1, 2, 1).double(), torch.tensor([3.0, 4.0]).view(1, 2, 1).double()


def shares(rule: str, inputs: np.ndarray, weight: np.ndarray, bias: float) -> np.ndarray:
    """Return the part of the relevance of a positive unit that each of its inputs `[c, k]` gets, by the formula."""
    low, high = (bound[0].numpy() for bound in BOX)
    rest = 0.0
    match rule:
        case "flat":
            parts = np.ones_like(weight)
        case "w²":
            parts = weight**2
        case "z+":
            parts, rest = np.maximum(inputs * weight, 0), max(bias, 0)
        case "gamma":
            parts = inputs * weight + 0.25 * np.maximum(inputs * weight, 0)
            rest = bias + 0.25 * max(bias, 0)
        case "z^B":
            parts = inputs * weight - low * np.maximum(weight, 0) - high * np.minimum(weight, 0)
        case "z^B of the sample":
            low, high = inputs.min(1, keepdims=True), inputs.max(1, keepdims=True)
            parts = inputs * weight - low * np.maximum(weight, 0) - high * np.minimum(weight, 0)
        case "z+ around the median":
            parts = np.maximum((inputs - np.median(inputs, axis=1, keepdims=True)) * weight, 0)
    return parts / (parts.sum() + rest)


@pytest.mark.parametrize("rule", RULES)
def test_a_candidate_follows_its_formula(rule):
    generator = torch.Generator().manual_seed(3)
    convolution = nn.Conv1d(2, 1, 5).double()
    data = torch.randn(1, 2, 5, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        convolution.weight.copy_(torch.randn(1, 2, 5, generator=generator))
        convolution.bias.fill_(0.3)
        convolution.weight.mul_(convolution(data).sign())  # a positive output
        convolution.bias.add_(4)
    model = nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), nn.Linear(1, 1, bias=False).double())
    with RelevanceFlow(with_first_layer(model, data, rule, BOX), None, data) as flow:
        assert flow.prediction.item() != 0
        started = flow.output_relevance([0])
        found = flow.down(started)[0, 0] / started.sum()
    weight, bias = convolution.weight[0].detach().numpy(), convolution.bias.item()
    np.testing.assert_allclose(found.numpy(), shares(rule, data[0].numpy(), weight, bias), atol=1e-5)


@pytest.mark.parametrize(
    ("network", "data"),
    [
        (None, Scenes("test", 1)),
        pytest.param("scan", Scans("test", 2), marks=pytest.mark.slow),  # what two axes and one show already
        ("heartbeat", Heartbeats("test", 2)),
    ],
)
def test_a_moved_network_has_the_same_output_and_its_heatmap_shows_which_rules_depend_on_zero(network, data):
    model = (demo_model(network) if network else demo_model()).double().eval()
    values = data[len(data) - 1][0][None].double()
    by = torch.arange(1, values.shape[1] + 1).double() * -0.4
    found = []
    for shift in (torch.zeros_like(by), by):
        copy, margin = moved(model, "conv1", shift)
        inputs = moved_input(values, margin, shift)
        torch.testing.assert_close(copy(inputs), model(values))
        found.append((copy, inputs, margin, shift))
    box = tuple(
        bound(values.flatten(2), 2)[0].view(1, -1, *[1] * (values.ndim - 2)) for bound in (torch.amin, torch.amax)
    )
    for rule in RULES:
        heatmaps = []
        for copy, inputs, margin, shift in found:
            limits = tuple(bound + shift.view(bound.shape) for bound in box)
            with RelevanceFlow(with_first_layer(copy, inputs, rule, limits), None, inputs) as flow:
                heatmaps.append(cut(flow.down(flow.output_relevance([1]))[0, 0].sum(0), margin))
        assert heatmaps[0].shape == values.shape[2:]
        change = (heatmaps[0] - heatmaps[1]).abs().max() / heatmaps[0].abs().max()
        assert (change > 0.05) if rule in ("z+", "gamma") else (change < 1e-3), rule


def test_rules_above_the_first_layer_replace_z_plus_alone():
    model, values = demo_model(), Scenes("test", 1)[0][0][None]
    replica = with_first_layer(model, values, "gamma 0.25 above", BOX)
    with RelevanceFlow(replica, None, values):
        found = {ruled.name: type(ruled.rules[Purpose.MAPS].hook).__name__ for ruled in replica.rules}
    expected = {"conv1": "Flat", "hidden": "Epsilon", "logits": "Epsilon"}
    expected |= {f"conv{number}": "GammaRule" for number in (2, 3, 4, 5)}
    assert {name: rule for name, rule in found.items() if name in expected} == expected
