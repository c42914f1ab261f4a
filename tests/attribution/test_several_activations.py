"""Outputs that are made of several softmaxes or sigmoids: heads that are joined, means of an ensemble."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from zennit.composites import EpsilonPlusFlat

import crp
from crp.attribution import RelevanceFlow
from crp.attribution.composites import composite_for
from crp.errors import ModelError

from .test_final_activation import DATA, Net

SEVERAL = {
    "joined": lambda v: torch.cat([v.softmax(1), v.mul(2).softmax(1)], 1),
    "stacked": lambda v: torch.stack([v.softmax(1), v.mul(2).log_softmax(1)], 1),
    "an ensemble's mean": lambda v: (v.softmax(1) + v.mul(2).softmax(1)) / 2,
    "a mean weighted by the data": lambda v: (
        v.softmax(1) * v[:, :1].sigmoid() + v.mul(2).softmax(1) * v[:, 1:2].sigmoid()
    ),
}


class Heads(nn.Module):
    """Two linear heads, of which one or both end in an activation of their own."""

    def __init__(self, first, second):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.a, self.b = nn.Conv2d(1, 4, 3), nn.Linear(144, 3), nn.Linear(144, 2)
        self.first, self.second = first, second

    def forward(self, data):
        features = self.conv(data).relu().flatten(1)
        return torch.cat([self.first(self.a(features)), self.second(self.b(features))], 1)


@pytest.mark.parametrize("composite", [EpsilonPlusFlat(), None], ids=["the caller's", "ours"])
def test_the_activation_of_one_head_is_not_forgotten_when_the_next_runs(composite):
    def flow(first, second):
        model = Heads(first, second).eval()
        return RelevanceFlow(model, composite or composite_for(model).composite, DATA, ["conv"])

    with pytest.raises(ModelError, match="is computed from 2 softmaxes"):
        flow(lambda v: v.softmax(1), nn.Softmax(1))
    for first, second in ((nn.Softmax(1), nn.Identity()), (nn.Identity(), lambda v: v.softmax(1))):
        with flow(first, second) as found:
            note = "Relevance starts at the output, a part of which is computed from a softmax, not at the logits."
            assert found.notes[0] == note
    with flow(torch.sigmoid, nn.Sigmoid()) as found, flow(nn.Identity(), nn.Identity()) as expected:
        assert torch.equal(found.prediction, expected.prediction)
        assert found.notes == ("Relevance starts at the logits, before the final sigmoid.",)


class Parts(Heads):
    """The first head, and the second as another part of the output, which runs later."""

    def forward(self, data):
        features = self.conv(data).relu().flatten(1)
        classes = self.first(self.a(features))
        return {"classes": classes, "box": self.b(features)}


@pytest.mark.parametrize(
    "end",
    [torch.sigmoid, nn.Softmax(1), lambda v: v.sigmoid()[:, :3], lambda v: torch.cat([v.sigmoid()] * 2, 1)],
    ids=["sigmoid", "softmax", "chosen", "joined"],
)
def test_a_part_of_the_output_is_undone_in_every_pass(end):
    """Also in those without a graph, in which concepts are removed, and which cannot see what `b` is computed from."""
    found = []
    for first in (end, nn.Identity()):
        model = crp.select_output(Parts(first, nn.Identity()).eval(), "classes")
        with RelevanceFlow(model, composite_for(model).composite, DATA, ["conv"]) as flow:
            found.append((flow.prediction[:, :3], flow.without("conv", [[0], [1, 2]])[..., :3]))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-6)


@pytest.mark.parametrize("composite", [EpsilonPlusFlat(), None], ids=["the caller's", "ours"])
@pytest.mark.parametrize("end", SEVERAL.values(), ids=SEVERAL)
def test_several_softmaxes_at_the_end_are_refused(end, composite):
    model = Net(end).eval()
    composite = composite or composite_for(model).composite
    with pytest.raises(ModelError) as caught:
        RelevanceFlow(model, composite, DATA, ["conv"])
    assert str(caught.value) == (
        "The model's output is computed from 2 softmaxes, and relevance for its values is not relevance for the class: "
        "return the logits, or the probabilities of one of them."
    )
    with RelevanceFlow(model, composite, DATA, ["conv"], before_activation=False) as flow:
        assert torch.allclose(flow.prediction, model(DATA))


@pytest.mark.parametrize("composite", [EpsilonPlusFlat(), None], ids=["the caller's", "ours"])
@pytest.mark.parametrize(
    "join",
    [
        lambda a, b: torch.cat([a, b], 1),
        lambda a, b: torch.hstack((a, b)),
        lambda a, b: torch.stack([a, b], 2).flatten(1),
    ],
    ids=["cat", "hstack", "stack"],
)
def test_relevance_starts_at_the_logits_of_joined_sigmoids(join, composite):
    ends = [
        lambda v: join(v.sigmoid(), torch.sigmoid(2 * v)),
        lambda v: join(v, 2 * v),
    ]
    flows = [
        RelevanceFlow(model := Net(end).eval(), composite or composite_for(model).composite, DATA, ["conv"])
        for end in ends
    ]
    found, expected = (flow.down(flow.output_relevance([1] * 4)) for flow in flows)
    assert torch.equal(flows[0].prediction, flows[1].prediction)
    assert torch.equal(found, expected)
    assert [flow.independent for flow in flows] == [True, None]
    assert flows[0].notes == ("Relevance starts at the logits, before the final sigmoid.", *flows[1].notes)
    for flow in flows:
        flow.close()


NAMED = {
    "sigmoids of two kinds": ("which", "sigmoid", lambda v: torch.cat([v.sigmoid(), functional.logsigmoid(v)], 1)),
    "an ensemble's mean": ("which", "sigmoid", lambda v: (v.sigmoid() + torch.sigmoid(2 * v)) / 2),
    "sigmoid and logits": ("a part of which", "sigmoid", lambda v: torch.cat([v.sigmoid(), v], 1)),
    "softmax and logits": ("a part of which", "softmax", lambda v: torch.cat(tensors=[v, v.softmax(1)], dim=1)),
    "stacked": ("a part of which", "softmax", lambda v: torch.stack([v, v.softmax(1)]).sum(0)),
}


@pytest.mark.parametrize("name", NAMED)
def test_what_is_computed_from_some_activations_is_named(name):
    part, activation, end = NAMED[name]
    for composite in (EpsilonPlusFlat(), composite_for(Net(end)).composite):
        with RelevanceFlow(Net(end).eval(), composite, DATA, ["conv"]) as flow:
            note = f"Relevance starts at the output, {part} is computed from a {activation}, not at the logits."
            assert flow.notes[0] == note


def test_a_gate_beside_the_output_is_no_end():
    """As in squeeze-and-excitation after the last layer: the output is a signal times a gate."""
    with RelevanceFlow(Net(lambda v: v * torch.softmax(v, 1)).eval(), EpsilonPlusFlat(), DATA, ["conv"]) as flow:
        assert flow.notes == ()
