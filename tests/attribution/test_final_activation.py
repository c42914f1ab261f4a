"""A softmax or sigmoid at the end is left out: everything is as for the model of logits."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import crp
from crp.attribution import CondAttribution, RelevanceFlow
from crp.attribution.composites import composite_for


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
    "end",
    [
        lambda v: functional.softmax(v, 0),  # not over the classes
        lambda v: functional.softmax(v, 1)[:, :2],
        lambda v: functional.softmax(v, 1) * 2,
        lambda v: v * torch.sigmoid(v),
        lambda v: (torch.sigmoid(v), v)[1],
    ],
)
def test_another_end_is_explained_as_it_is(end):
    model = Net(end).eval()
    prediction, _, notes = heatmaps(model, [0, 1, 0, 1])
    assert torch.allclose(prediction, model(DATA))
    assert notes == ()


def test_the_final_activation_may_be_kept():
    model = Net(nn.Softmax(1)).eval()
    prediction, _, notes = heatmaps(model, before_activation=False)
    assert torch.equal(prediction, model(DATA))
    assert notes == ()
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
