"""One part of an output: which, of what kinds of output, and that nothing else changes."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from crp.attribution import ConditionalAttribution, RelevanceFlow, composite_for, select_output
from crp.errors import InputError, ModelError

Pair = namedtuple("Pair", "logits hidden")


@dataclass
class Answer:
    logits: torch.Tensor
    hidden: torch.Tensor


class ModelOutput(OrderedDict):
    """As Hugging Face's: a mapping whose keys are attributes, too."""

    def __getattr__(self, name):
        return self[name]


class Net(nn.Module):
    def __init__(self, whole):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.relu, self.head = nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Linear(12, 2)
        self.whole = whole

    def forward(self, data):
        hidden = self.relu(self.conv(data))
        return self.whole(self.head(hidden.flatten(1)), hidden)


DATA = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(1))
KINDS = {
    "a dict": (lambda logits, hidden: {"hidden": hidden, "logits": logits}, "logits"),
    "a tuple": (lambda logits, hidden: (logits, hidden), 0),
    "a list": (lambda logits, hidden: [hidden, logits], 1),
    "a named tuple by name": (Pair, "logits"),
    "a named tuple by index": (Pair, 0),
    "a dataclass": (Answer, "logits"),
    "a model output": (lambda logits, hidden: ModelOutput(logits=logits, hidden=hidden), "logits"),
    "a function": (lambda logits, hidden: {"inner": [(hidden, logits)]}, lambda output: output["inner"][0][1]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_relevance_is_that_of_the_tensor_alone(kind):
    whole, name = KINDS[kind]
    plain, several = Net(lambda logits, hidden: logits), Net(whole)
    before = dict(vars(several))
    part = select_output(several, name)
    assert torch.equal(part(DATA), plain(DATA))
    fitting = composite_for(part)
    assert fitting.name == composite_for(plain).name
    heatmaps = []
    for model in (part, plain):
        with RelevanceFlow(model, fitting.composite, DATA, ["conv"]) as flow:
            heatmaps.append(flow.down(flow.output_relevance([0, 1])))
            assert flow.notes == ()
    assert torch.equal(*heatmaps)
    conditions = [{"y": [1], "conv": [2]}]
    theirs, ours = (
        ConditionalAttribution(model)(DATA.clone().requires_grad_(), conditions, fitting.composite).heatmap
        for model in (plain, part)
    )
    assert torch.equal(ours, theirs)
    assert vars(several) == before
    assert type(part).__qualname__ == "Net"
    assert [name for name, _ in part.named_modules()] == ["", "conv", "relu", "head"]


def test_a_wrapper_is_taken_off():
    part = select_output(nn.DataParallel(Net(Pair)), "logits")
    assert [name for name, _ in part.named_modules()] == ["", "conv", "relu", "head"]


@pytest.mark.parametrize(
    ("whole", "name", "sentence"),
    [
        (Pair, "logit", "The model's output is a Pair without 'logit': did you mean 'logits'?"),
        (Pair, 2, "The model's output is a Pair without 2: there are 'logits', 'hidden', 0, 1."),
        (lambda *parts: {"out": parts[0]}, 0, "The model's output is a dict without 0: there are 'out'."),
        (lambda *parts: parts[0], "out", "The model's output is a Tensor without 'out': there are none."),
        (lambda *parts: {"out": [1]}, "out", "The part 'out' of the model's output is a list, not a tensor."),
    ],
)
def test_parts_that_there_are_not(whole, name, sentence):
    with pytest.raises(ModelError) as caught:
        select_output(Net(whole), name)(DATA)
    assert str(caught.value) == sentence


def test_what_is_refused_at_once():
    with pytest.raises(InputError, match=r"^The output's name is '__class__'; names of outputs do not"):
        select_output(Net(Pair), "__class__")
    with pytest.raises(InputError, match=r"^A model is a torch.nn.Module, given int\.$"):
        select_output(3, "out")
