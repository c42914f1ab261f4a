"""Relevance for ranking, in nets with norms, attention and gates, against the derivatives of plain torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from zennit.rules import Epsilon, Norm

from crp.attribution import RelevanceFlow, composite_for
from crp.attribution.operation_composite import OperationComposite, RankingComposite
from tests.attribution.test_against_explicit_lrp import FAMILIES, TARGETS, prepared
from tests.oracle import first_order
from tests.oracle.comparing import assert_relevance_close
from tests.oracle.explicit_networks import small_models


class Unstabilised(RankingComposite):
    """The rules for ranking with stabilisers that do not count."""

    def __init__(self, network, ranking=None) -> None:
        super().__init__(network, ranking)
        self._epsilon, self._norm = Epsilon(1e-14), Norm(1e-14)


def unstabilised(model: nn.Module, data: Tensor) -> OperationComposite:
    network = composite_for(model, data).composite.network
    return OperationComposite(network, Unstabilised(network))


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    found = small_models()[request.param]
    return found, *prepared(found.build)


def test_gradient_times_activation_without_squares(family: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the output, and from some channels of a layer."""
    found, model, data = family
    upper, lower = found.layers[0], found.layers[-1]
    with first_order.unstabilised(monkeypatch), RelevanceFlow(
        model, unstabilised(model, data), data, found.layers
    ) as flow:
        arriving = flow.down(flow.output_relevance(TARGETS), to=found.layers)
        for layer in found.layers:
            expected = first_order.relevance(
                model, data, layer, lambda run: run.output[range(len(TARGETS)), TARGETS].sum()
            )
            assert_relevance_close(arriving[layer][0], expected, 1e-9)
        values = flow.activation(upper)
        masks = (torch.rand(2, *values.shape[1:], generator=torch.Generator().manual_seed(0)) < 0.5).double()[:, None]
        parts = flow.down(arriving[upper] * masks, start=upper, to=lower)
        for mask, part in zip(masks, parts, strict=True):
            per_unit = (arriving[upper][0] * mask / values).nan_to_num()
            expected = first_order.relevance(
                model, data, lower, lambda run, per_unit=per_unit: (run.layers[upper] * per_unit).sum(), [upper]
            )
            assert_relevance_close(part, expected, 1e-9)
