"""Conditions on any kind of concept, with weights, and what a dry run says of them."""

from __future__ import annotations

import pytest
import torch

from crp.attribution import ConditionalAttribution, RelevanceFlow
from crp.concepts import ChannelConcept, HeadConcept, TokenConcept, all_but
from crp.errors import InputError
from tests.crp.concepts.small_nets import ChannelsLast, Transformer, data, made


def by_hand(model, sample, target, masks):
    """Heatmap of one sample; `masks` are pairs of layer and factor of the relevance there, from the output down."""
    with RelevanceFlow(model, None, sample, [layer for layer, _ in masks]) as flow:
        relevance, start = flow.output_relevance([target]), None
        for layer, factor in masks:
            relevance = flow.down(relevance, to=layer, **({} if start is None else {"start": start})) * factor
            start = layer
        return flow.down(relevance, start=start)[0, 0].sum(0)


def test_several_kinds_in_one_condition():
    model, samples = made(Transformer), data(2)
    conditions = [{"high": [3], "attention.proj..input": {0: 1.0, 1: -0.5}, "y": [1]}]
    kinds = {"high": TokenConcept(), "attention.proj..input": HeadConcept(2)}
    found = ConditionalAttribution(model)(samples, conditions, mask_map=kinds).heatmap
    token, heads = torch.zeros(5, 1).double(), torch.tensor([1.0] * 3 + [-0.5] * 3).double()
    token[3] = 1
    for sample in range(2):
        expected = by_hand(model, samples[sample, None], 1, [("high", token), ("attention.proj..input", heads)])
        torch.testing.assert_close(found[sample], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("chosen", "weights"),
    [([0, 2], [1, 0, 1, 0, 0]), ({1: 2.0, 4: -1.0}, [0, 2, 0, 0, -1]), (all_but([1]), [1, 0, 1, 1, 1])],
)
def test_channels_of_a_layer_with_the_channels_last_are_masked_on_the_last_axis(chosen, weights):
    model, samples = made(ChannelsLast), data(1)
    found = ConditionalAttribution(model)(samples, [{"high": chosen, "y": [2]}]).heatmap[0]
    expected = by_hand(model, samples, 2, [("high", torch.tensor(weights).double())])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_a_dry_run_says_which_relevance_passes():
    attribution, kinds = ConditionalAttribution(made(Transformer)), {"high": TokenConcept(), "low": ChannelConcept()}
    conditions = [{"low": {0: 1.0, 3: -0.5}, "high": [0, 3], "y": [1]}, {"high": all_but([1, 2, 3]), "y": [0, 2]}]
    assert attribution.dry_run(data(1), conditions, kinds) == [
        "Condition 0: relevance starts at output [1]; then 'high' lets 0 (token 0), 3 (token at 1, 0) of 5 pass; then "
        "'low' lets 0, 3 times -0.5 of 6 pass.",
        "Condition 1: relevance starts at output [0, 2]; then 'high' lets 0 (token 0), 4 (token at 1, 1) of 5 pass.",
    ]
    with pytest.raises(InputError, match=r"layer 'high'"):
        attribution.dry_run(data(1), [{"high": [5], "y": 0}], kinds)
