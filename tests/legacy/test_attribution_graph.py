"""`AttributionGraph` as zennit-crp's users know it: equal where theirs is right, and right where it is not."""

from __future__ import annotations

import pytest
from torch import nn
from zennit.composites import EpsilonPlusFlat

from crp.attribution import AttributionGraph, CondAttribution
from crp.concepts import ChannelConcept
from crp.errors import InputError
from crp.graph import trace_model_graph
from crp.helper import get_layer_names
from tests.legacy import scripts
from tests.legacy.golden import assert_as_recorded

COMPOSITE = EpsilonPlusFlat()


@pytest.fixture
def graph(model):
    layers = get_layer_names(model, [nn.Conv2d, nn.Linear])
    traced = trace_model_graph(model, scripts.data().detach(), layers)
    return AttributionGraph(CondAttribution(model), traced, dict.fromkeys(layers, ChannelConcept()))


def test_decompositions_are_theirs():
    assert_as_recorded(scripts.decompositions)


def test_an_edge_is_the_relevance_that_a_condition_sends(model, graph):
    """By hand, for both levels."""
    result = graph(scripts.data(), COMPOSITE, 1, "conv3", target=2, width=[2, 1], verbose=False)
    attribution = CondAttribution(model)
    for (layer, concept), edges in result.connections.items():
        condition = {"y": [2], "conv3": [1], layer: [concept]}
        arriving = attribution(
            scripts.data(), [condition], COMPOSITE, ["conv1", "conv2"], exclude_parallel=False
        ).relevances
        for lower, each, relevance in edges:
            totals = arriving[lower][0].sum((1, 2))
            assert relevance == pytest.approx(float(totals[each] / totals.abs().sum()), rel=1e-9)


def test_bug_below_a_parent_the_concept_was_lost(model, graph):
    """attribution.py:616. From the second level on, only the parent's condition was kept."""
    result = graph(
        scripts.data(), COMPOSITE, 1, "conv3", parent_c_id=0, parent_layer="linear", width=[1, 2], verbose=False
    )
    ((lower, concept),) = [node for node in result.nodes if node[0] == "conv2"]
    condition = {"linear": [0], "conv3": [1], lower: [concept]}
    arriving = CondAttribution(model)(
        scripts.data(), [condition], COMPOSITE, ["conv1"], start_layer="linear", exclude_parallel=False
    ).relevances["conv1"][0]
    totals = arriving.sum((1, 2)) / arriving.sum((1, 2)).abs().sum()
    edges = result.connections[lower, concept]
    assert [relevance for _, _, relevance in edges] == pytest.approx([float(totals[each]) for _, each, _ in edges])
    assert [each for _, each, _ in edges] == totals.argsort(descending=True)[:2].tolist()


def test_bug_shared_concepts_were_listed_and_decomposed_again(graph):
    """attribution.py:667. conv1 feeds conv2 and conv3, so its concepts are found on two levels."""
    result = graph(scripts.data(), COMPOSITE, 1, "linear", width=[2, 2, 2], verbose=False)
    assert len(result.nodes) == len(set(result.nodes))
    for edges in result.connections.values():
        assert len(edges) == len({(layer, concept) for layer, concept, _ in edges})
    assert result.nodes[0] == ("linear", 1)


def test_a_layer_map_that_lacks_a_layer_is_refused(graph):
    graph.set_layer_map({"conv3": ChannelConcept(), "conv1": ChannelConcept()})
    assert set(graph.mask_map) == {"conv3", "conv1"}
    with pytest.raises(InputError, match=r"^Layer 'conv2' feeds 'conv3', and layer_map has no concept for it: did you"):
        graph(scripts.data(), COMPOSITE, 1, "conv3", verbose=False)
