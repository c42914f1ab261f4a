"""Relevance of transformers and modern convolutional nets, against LRP of the same nets written out by hand.

With rules by purpose, relevance at the input is; what ranks is compared in `test_ranking_rules.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from zennit.core import Composite, Hook
from zennit.rules import Epsilon

from crp.attribution import ConditionalAttribution, RelevanceFlow, composite_for
from crp.attribution.observation import LinearCall
from crp.attribution.operation_composite import OperationComposite, network_kind
from tests.oracle.comparing import assert_relevance_close
from tests.oracle.explicit_lrp import Value, relevance_at
from tests.oracle.explicit_networks import Network, small_models

FAMILIES = ["ViT", "Swin", "ConvNeXt", "EfficientNet", "MobileNetV3"]
RULES = ["by default", "epsilon", "by purpose"]
TARGETS = [1, 3]


class EpsilonEverywhere(OperationComposite):
    """Epsilon at every linear operation, also at convolutions."""

    def linear_rule(self, module: nn.Module, name: str, first: bool) -> Hook:
        return Epsilon()


def prepared(build: Callable[[], nn.Module]) -> tuple[nn.Module, Tensor]:
    """A model in float64 with random weights and calibrated batch norms, and its input."""
    torch.manual_seed(0)
    model = build().double()
    data = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn_like(parameter) * (parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3)
            # factors of norms and blocks are near one
            parameter.copy_(values + 1 if parameter.ndim == 1 and name.endswith("weight") else values)
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = None  # the mean over everything that was seen
        model.train()(torch.randn(16, 3, 8, 8, dtype=torch.float64))
    return model.eval(), data


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    found = small_models()[request.param]
    return found, *prepared(found.build)


@pytest.fixture(scope="module", params=RULES)
def rules(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def composite(family: tuple, rules: str) -> Composite:
    _, model, data = family
    if rules == "epsilon":
        return EpsilonEverywhere(network_kind([LinearCall("", nn.Linear, False)]))
    return composite_for(model, data, rules="by-purpose" if rules == "by purpose" else "epsilon-plus-flat").composite


class ByHand:
    """A network computed by hand, with its rules for relevance at the input."""

    def __init__(self, found: SimpleNamespace, model: nn.Module, data: Tensor, rules: str) -> None:
        network = Network(model, "epsilon" if rules == "epsilon" else found.rules)
        source, output = found.by_hand(network, data)
        self._values: dict[str, Value] = {"input": source, "output": output, **network.layers}

    @property
    def prediction(self) -> Tensor:
        return self._values["output"].tensor

    def activation(self, layer: str) -> Tensor:
        return self._values[layer].tensor

    def at(self, layer: str) -> Tensor:
        """What arrives at a layer, or at the input, from the output at the targets."""
        values = self._values
        started = torch.zeros_like(self.prediction)
        rows = range(len(TARGETS))
        started[rows, TARGETS] = self.prediction[rows, TARGETS]
        return relevance_at(values["output"], started, {layer: values[layer]})[layer]

    def sent(self, layer: str, relevance: Tensor) -> Tensor:
        """What arrives at the input from relevance at a layer."""
        values = self._values
        return relevance_at(values[layer], relevance, {"input": values["input"]})["input"]


@pytest.fixture(scope="module")
def flow(family: tuple, composite: Composite) -> Iterator[RelevanceFlow]:
    """One forward pass for all that is asked of a network under some rules."""
    found, model, data = family
    with RelevanceFlow(model, composite, data, found.layers) as opened:
        yield opened


@pytest.fixture(scope="module")
def by_hand(family: tuple, rules: str) -> ByHand:
    return ByHand(*family, rules)


def test_relevance_at_layers_and_at_the_input(
    family: tuple, rules: str, flow: RelevanceFlow, by_hand: ByHand
) -> None:
    layers = family[0].layers
    assert flow.notes == ()
    assert_relevance_close(flow.prediction, by_hand.prediction, 1e-12)
    started = flow.output_relevance(TARGETS)
    assert_relevance_close(flow.down(started)[0], by_hand.at("input"), 1e-9)
    arriving = flow.down(started, to=layers)
    for layer in layers:
        assert_relevance_close(flow.activation(layer), by_hand.activation(layer), 1e-12)
        if rules != "by purpose":
            assert_relevance_close(arriving[layer][0], by_hand.at(layer), 1e-9)


def test_any_part_of_a_layer(family: tuple, flow: RelevanceFlow, by_hand: ByHand) -> None:
    """Two parts that make up the layer, and the layer, in one pass."""
    layer = family[0].layers[1]
    mask = torch.rand(by_hand.activation(layer).shape[1:], generator=torch.Generator().manual_seed(1)) < 0.4
    masks = torch.stack([mask, ~mask, torch.ones_like(mask)])[:, None].double()
    arriving = flow.down(flow.output_relevance(TARGETS), to=layer)
    heatmaps = flow.down(arriving * masks, start=layer)
    for heatmap, kept in zip(heatmaps, arriving[0] * masks, strict=True):
        assert_relevance_close(heatmap, by_hand.sent(layer, kept), 1e-9)


def test_concepts_by_their_ids(family: tuple, composite: Composite, flow: RelevanceFlow, by_hand: ByHand) -> None:
    """Some channels of a layer `[N, C, H, W]`, `[N, H, W, C]` or `[N, T, C]`."""
    found, model, data = family
    last = type(model).__name__ in ("VisionTransformer", "SwinTransformer")
    layer, ids = found.layers[1], [1, 2]
    conditions = [{"y": [target], layer: ids} for target in TARGETS]
    result = ConditionalAttribution(model)(data, conditions, composite)
    arriving = flow.down(flow.output_relevance(TARGETS), to=layer)[0]
    kept = torch.zeros_like(arriving)
    chosen = (..., ids) if last else (slice(None), ids)
    kept[chosen] = arriving[chosen]
    assert_relevance_close(result.heatmap, by_hand.sent(layer, kept).sum(1), 1e-9)


def test_conditional_heatmaps_add_up(family: tuple, flow: RelevanceFlow) -> None:
    """All parts of a layer, along each of its axes."""
    for layer in family[0].layers:
        arriving = flow.down(flow.output_relevance(TARGETS), to=layer)
        whole = flow.down(arriving, start=layer)[0]
        for axis in range(2, arriving.ndim):
            size = arriving.shape[axis]
            ones = [size, *(size if other == axis else 1 for other in range(1, arriving.ndim))]
            parts = flow.down(arriving * torch.eye(size, dtype=torch.float64).view(ones), start=layer)
            assert len(parts) == size
            assert_relevance_close(parts.sum(0), whole, 1e-9)
