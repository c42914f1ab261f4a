"""Heatmaps of many conditions are made in pieces."""

import pytest
import torch
from torch import nn

from crp.attribution import RelevanceFlow, composite_for
from crp.attribution.condition_passes import conditional_heatmaps, in_passes
from crp.concepts import ChannelConcept


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_pieces_have_the_size_of_a_pass_and_give_what_the_whole_gives(chunk: int):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 2)).double()
    data = torch.randn(1, 1, 6, 6, 6, dtype=torch.float64)
    sizes = []
    with RelevanceFlow(model, composite_for(model, data).composite, data, ["0"], chunk=chunk) as flow:
        arriving = flow.down(flow.output_relevance([1]), to="0")[0]
        parts = flow.parts("0", ChannelConcept())
        whole = flow.down(parts.carried(arriving, range(7)), start="0")[:, 0].sum(1)

        def some(ids: range) -> torch.Tensor:
            sizes.append(len(ids))
            return flow.down(parts.carried(arriving, ids), start="0")

        found = conditional_heatmaps(flow, range(7), some)
    assert whole.abs().sum() > 0
    torch.testing.assert_close(found, whole, rtol=1e-12, atol=1e-14)
    assert sizes == {1: [1] * 7, 3: [3, 3, 1], 64: [7]}[chunk]


def test_no_condition_makes_no_pass():
    model = nn.Linear(2, 2)
    with RelevanceFlow(model, None, torch.ones(1, 2)) as flow:
        assert in_passes(flow, []) == []
