"""Concepts whose relevance adds up to exactly 0 carry relevance on, so a whole graph has them."""

import pytest
import torch
from torch import nn

import crp
from crp.attribution import RelevanceFlow
from crp.concepts import ChannelConcept, Directions, Groups, HeadConcept, TokenConcept


class Balanced(nn.Module):
    """Two tokens of four channels; for class 0 the first token, channel and head get relevance that adds up to 0."""

    def __init__(self) -> None:
        super().__init__()
        self.low = nn.Linear(4, 4, bias=False)
        self.high = nn.Linear(4, 4, bias=False)
        self.head = nn.Linear(8, 2, bias=False)
        with torch.no_grad():
            self.low.weight.copy_(torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
            self.high.weight.copy_(torch.tensor([[0.5, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 0.5, 0.5], [0, 0, 0, 1]]))
            self.head.weight.copy_(torch.tensor([[1, -1, 1, -1, -1, 0.5, 1, 1], [1.0, 1, 1, 1, 1, 1, 1, 1]]))

    def forward(self, tokens):
        return self.head(self.high(self.low(tokens)).flatten(1))


@pytest.mark.parametrize(
    "kind",
    [
        TokenConcept(),
        HeadConcept(2),
        ChannelConcept(),
        Directions(torch.eye(4)),
        Groups(ChannelConcept(), {"half": [0, 1], "rest": [2, 3]}),
    ],
)
def test_a_concept_whose_relevance_adds_up_to_0_is_in_the_whole_graph(kind):
    tokens = torch.tensor([[[1.0, 1, 2, 2], [0, 2, 2, 4]]]).double()  # high: 1 1 2 2, 1 2 3 4
    layers = ["high", "low"]
    model = crp.prepared(Balanced().double(), data=tokens)
    with RelevanceFlow(model.replica, None, tokens, layers) as flow:
        arriving = flow.down(flow.output_relevance([0]), to="high")
        assert flow.parts("high", kind).total(arriving)[0, 0, 0] == 0
    kinds = {"high": kind, "low": ChannelConcept()}
    graph = crp.compose(model, tokens, layers, target=0, coverage=1.0, breadth=9, concept=kinds)
    assert graph.node("high", 0).relevance == 0
    assert any(edge.relevance for edge in graph.edges if edge.upper == ("high", 0))
    for node in graph.nodes[1:]:
        assert node.rest == pytest.approx(0, abs=1e-9)
