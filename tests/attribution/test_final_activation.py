"""A softmax or sigmoid at the end is left out: everything is as for the model of logits."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional
from zennit.composites import EpsilonPlusFlat

import crp
from crp.attribution import CondAttribution, RelevanceFlow
from crp.attribution.composites import composite_for
from crp.errors import ModelError


class Net(nn.Module):
    def __init__(self, end, classes=3):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.relu, self.fc, self.end = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Linear(144, classes), end

    def forward(self, data):
        return self.end(self.fc(self.relu(self.conv(data)).flatten(1)))


ENDS = {
    "functional.log_softmax": ("log_softmax", lambda v: functional.log_softmax(v, 1)),
    "functional.log_softmax, dim=-1": ("log_softmax", lambda v: functional.log_softmax(v, dim=-1)),
    "nn.LogSoftmax": ("log_softmax", nn.LogSoftmax(1)),
    "torch.log_softmax": ("log_softmax", lambda v: torch.log_softmax(v, dim=1)),
    "Tensor.log_softmax": ("log_softmax", lambda v: v.log_softmax(-1)),
    "functional.softmax": ("softmax", lambda v: functional.softmax(v, 1)),
    "nn.Softmax": ("softmax", nn.Softmax(dim=1)),
    "Tensor.softmax": ("softmax", lambda v: v.softmax(1)),
    "torch.special.softmax": ("softmax", lambda v: torch.special.softmax(v, 1)),
    "torch.sigmoid": ("sigmoid", torch.sigmoid),
    "nn.Sigmoid": ("sigmoid", nn.Sigmoid()),
    "Tensor.sigmoid": ("sigmoid", lambda v: v.sigmoid()),
    "torch.special.expit": ("sigmoid", torch.special.expit),
    "nn.LogSigmoid": ("logsigmoid", nn.LogSigmoid()),
    "sequence": ("softmax", nn.Sequential(nn.Identity(), nn.Softmax(1))),
}
BY_GRADIENT = "Without a rule, run by their gradient: softmax in 'the model itself'."
DATA = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(2))


def heatmaps(model, targets=(0, 1, 2, 0), layers=("conv",), **options):
    with RelevanceFlow(model, composite_for(model).composite, DATA, layers, **options) as flow:
        return flow.prediction, flow.down(flow.output_relevance(list(targets))), flow.notes


@pytest.mark.parametrize("end", ENDS)
def test_relevance_starts_at_the_logits(end):
    name, function = ENDS[end]
    logits, expected, notes = heatmaps(Net(nn.Identity()))
    assert notes == ()
    prediction, found, notes = heatmaps(Net(function))
    assert torch.equal(prediction, logits)
    assert torch.equal(found, expected)
    assert notes == (f"Relevance starts at the logits, before the final {name}.",)


@pytest.mark.parametrize("end", ["nn.Softmax", "nn.Sigmoid"])
def test_the_layer_of_the_final_activation_may_be_named(end):
    module = ENDS[end][1]
    prediction, found, _ = heatmaps(Net(module), layers=["conv", "end"])
    logits, expected, _ = heatmaps(Net(nn.Identity()))
    assert torch.equal(prediction, logits)
    assert torch.equal(found, expected)


def test_a_sigmoid_may_be_reshaped():
    logits, expected, _ = heatmaps(Net(nn.Identity(), 1), [0] * 4)
    for reshape in (lambda v: v.squeeze(1), lambda v: v.flatten(), lambda v: torch.reshape(v, (-1,)), torch.squeeze):
        prediction, found, _ = heatmaps(Net(lambda v, reshape=reshape: reshape(torch.sigmoid(v)), 1), [0] * 4)
        assert torch.equal(prediction, logits)
        assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        # not over the classes
        (lambda v: functional.softmax(v, 0), (BY_GRADIENT,)),
        (lambda v: v * torch.sigmoid(v), ()),
        (lambda v: (torch.sigmoid(v), v)[1], ()),
    ],
)
def test_another_end_is_explained_as_it_is(end, expected):
    model = Net(end).eval()
    prediction, _, notes = heatmaps(model, [0, 1, 0, 1])
    assert torch.allclose(prediction, model(DATA))
    assert notes == expected


def overwritten(function):
    """Return a function that computes in place what `function` does to probabilities."""

    def run(v):
        probabilities = functional.softmax(v, 1)
        function(probabilities)
        return probabilities

    return run


@pytest.mark.parametrize(
    "end",
    [
        lambda v: functional.softmax(v, 1)[..., :],
        lambda v: functional.softmax(v, 1).view(-1, 3),
        lambda v: functional.softmax(v, 1)[:, :, None].squeeze(2).contiguous(),
        lambda v: functional.softmax(input=v, dim=1),
        lambda v: functional.softmax(v, 1).clone(),
        lambda v: functional.softmax(functional.softmax(v, 1), 1),
        lambda v: (v * 1).sigmoid_(),
        lambda v: torch.sigmoid_(v * 1),
        lambda v: torch.sigmoid(v.transpose(0, 1)).transpose(0, 1),
        lambda v: torch.sigmoid(v)[:, :, None].select(2, 0),
        overwritten(lambda p: p.mul_(1)),
        overwritten(lambda p: p.clamp_(0, 1)),
    ],
)
def test_an_end_that_keeps_the_probabilities_is_found(end):
    logits, expected, _ = heatmaps(Net(nn.Identity()))
    prediction, found, notes = heatmaps(Net(end))
    assert torch.equal(prediction, logits)
    assert torch.equal(found, expected)
    assert len(notes) == 1
    assert notes[0].startswith("Relevance starts at the logits, before the final ")


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
def test_without_an_axis_torch_takes_the_first_of_three():
    model = Net(lambda v: functional.softmax(v[None])[0] + v).eval()
    assert heatmaps(model)[2] == (BY_GRADIENT,)
    assert heatmaps(Net(functional.softmax))[2] == ("Relevance starts at the logits, before the final softmax.",)
    with pytest.raises(ModelError, match="does not depend"):
        heatmaps(Net(lambda v: functional.softmax(v[None]).detach()[0]))


@pytest.mark.parametrize("inner", [lambda v: v.log_softmax(1), nn.LogSoftmax(1)], ids=["function", "module"])
def test_a_softmax_elsewhere_is_named(inner):
    inside = nn.Sequential(Net(inner), nn.Linear(3, 3)).eval()
    (note,) = heatmaps(inside, layers=())[2]
    assert re.fullmatch(r"Without a rule, run by their gradient: log_softmax in '0(\.end)?'\.", note)


def test_chosen_values_of_a_sigmoid_are_found():
    logits, expected, _ = heatmaps(Net(nn.Identity()), [2] * 4)
    prediction, found, _ = heatmaps(Net(lambda v: torch.sigmoid(v)[:, 1:]), [1] * 4)
    assert torch.equal(prediction, logits[:, 1:])
    assert torch.equal(found, expected)
    prediction, found, _ = heatmaps(Net(lambda v: torch.sigmoid(v)[:, 2]), [0] * 4)
    assert torch.equal(prediction, logits[:, 2:])
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("softmax", lambda v: functional.softmax(v, 1)[:, :2]),
        ("softmax", lambda v: functional.softmax(v, 1) * 2),
        ("softmax", lambda v: (functional.softmax(v, 1) + 1e-9).log()),
        ("softmax", lambda v: functional.softmax(v, 1).flip(1)),
        ("log_softmax", lambda v: -nn.functional.log_softmax(v, 1)),
        ("softmax", overwritten(lambda p: p.mul_(2))),
        ("softmax", overwritten(lambda p: p[:, 0].mul_(2))),
    ],
)
def test_what_is_computed_from_a_softmax_is_refused(name, end):
    model = Net(end)
    with pytest.raises(ModelError) as caught:
        heatmaps(model, [0, 1, 0, 1])
    assert str(caught.value) == (
        f"The model's output is computed from a {name} of its logits, and relevance for its values is not relevance "
        "for the class: return the logits, or the probabilities themselves."
    )


def test_what_is_computed_from_a_softmax_is_explained_if_that_is_asked_for():
    model = Net(lambda v: functional.softmax(v, 1)[:, :2]).eval()
    prediction, _, notes = heatmaps(model, [0, 1, 0, 1], before_activation=False)
    assert torch.allclose(prediction, model(DATA))
    assert notes == (BY_GRADIENT,)


@pytest.mark.parametrize("returned", [lambda p: p, lambda p: p[..., :]])
def test_logits_that_were_overwritten_are_not_taken_for_logits(returned):
    def end(v):
        logits = v * 8
        probabilities = functional.softmax(logits, 1)
        logits.zero_()
        return returned(probabilities)

    with pytest.raises(ModelError, match="is computed from a softmax of its logits"):
        heatmaps(Net(end))


@pytest.mark.parametrize("returned", [lambda p: p, lambda p: p[..., :]])
def test_logits_that_are_changed_after_their_softmax_are_kept(returned):
    """What was added in place is not read again, so it ran out of place."""

    def end(v):
        probabilities = functional.softmax(v, 1)
        v.sub_(1)
        return returned(probabilities)

    logits, expected, _ = heatmaps(Net(nn.Identity()))
    prediction, found, _ = heatmaps(Net(end))
    assert torch.equal(prediction, logits)
    assert torch.equal(found, expected)


def test_what_is_computed_from_a_sigmoid_is_named():
    model = Net(lambda v: 5 * torch.sigmoid(v)).eval()
    prediction, _, notes = heatmaps(model)
    assert torch.allclose(prediction, model(DATA))
    assert notes == ("Relevance starts at the output, which is computed from a sigmoid, not at the logits.",)


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


def test_a_softmax_before_a_linear_layer_is_not_at_the_end():
    head = nn.Linear(3, 3)
    for end in (nn.Sequential(nn.Softmax(1), head), lambda v: v.softmax(1) @ head.weight.t()):
        model = Net(end).eval()
        prediction, _, notes = heatmaps(model)
        assert torch.allclose(prediction, model(DATA), atol=1e-6)
        place = "end.0" if isinstance(end, nn.Module) else "the model itself"
        assert notes == (f"Without a rule, run by their gradient: softmax in '{place}'.",)


def test_the_final_activation_may_be_kept():
    model = Net(nn.Softmax(1)).eval()
    prediction, _, notes = heatmaps(model, before_activation=False)
    assert torch.equal(prediction, model(DATA))
    assert notes == ("Without a rule, run by their gradient: softmax in 'end'.",)
    # as zennit-crp, whose arguments it takes
    assert torch.equal(CondAttribution(model)(DATA, [{"y": [0]}]).prediction, model(DATA))


def test_no_hook_is_left_on_the_model():
    model = Net(nn.Softmax(1)).eval()
    heatmaps(model)
    assert not model.end._forward_hooks
    from crp.attribution import prepare

    replica = prepare(model)
    for _ in range(3):
        RelevanceFlow(replica, None, DATA).close()
    assert not replica.model.end._forward_hooks


def test_the_library_and_the_explanation_say_so_and_are_those_of_the_logits(tmp_path):
    data = [(sample, index % 3) for index, sample in enumerate(DATA)]
    found = {}
    for end in ("logits", "nn.LogSoftmax"):
        model = Net(nn.Identity() if end == "logits" else ENDS[end][1])
        path = tmp_path / f"{end}.crp"
        library = crp.mine(model, data, layers=["conv"], path=path, progress=False, patches=1)
        found[end] = library, crp.explain(model, DATA[0], library, graph=False)
    (logits, plain), (library, explained) = found.values()
    for mode in ("relevance", "activation", "negative"):
        assert (logits.references("conv", mode).sample == library.references("conv", mode).sample).all()
        assert (logits.references("conv", mode).score == library.references("conv", mode).score).all()
    assert explained.target.probability == plain.target.probability
    assert (explained.layers[0].relevance == plain.layers[0].relevance).all()
    sentence = "Relevance starts at the logits, before the final log_softmax."
    assert library.manifest["composite"]["reason"].endswith(sentence)
    assert explained.provenance["settings"]["reason"].endswith(sentence)
    assert "final" not in logits.manifest["composite"]["reason"]
