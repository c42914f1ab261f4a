"""A softmax or sigmoid at the end is left out: everything is as for the model of logits."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional

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
