"""A model whose output depends on random numbers, or on a state, is refused by whatever runs it."""

import contextlib
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

import crp
from crp.analysis import concept_vector
from crp.attribution import CondAttribution, ConditionalAttribution, RelevanceFlow, composite_for
from crp.errors import ModelError

DATA = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0)) + 0.1


class Random(nn.Module):
    """Applies `part` between its layers."""

    def __init__(self, part):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.linear, self.part = nn.Conv2d(1, 4, 3), nn.Linear(64, 3), part

    def forward(self, data):
        return self.linear(self.part(self.conv(data)).flatten(1))


DRAWING = {
    "dropout": functional.dropout,
    "dropout2d": lambda v: functional.dropout2d(v, 0.5),
    "noise": lambda v: v + torch.randn_like(v),
    "permutation": lambda v: v[:, torch.randperm(4)],
    "numpy": lambda v: v * np.random.rand(),  # noqa: NPY002
    "python": lambda v: v * random.random(),
}
STEADY = {
    "dropout of evaluation": lambda v: functional.dropout(v, training=False),
    "seeded": lambda v: v + torch.manual_seed(1).initial_seed() * torch.rand(1),
    "without effect": lambda v: v + 0 * torch.rand(1),
    "nothing kept": lambda v: functional.dropout(v, 0.0),
}


def run(kind, model, tmp_path):
    """Run a model in one of the ways there are."""
    library = tmp_path / "a.crp"
    if kind == "flow":
        RelevanceFlow(model, None, DATA).close()
    elif kind == "conditional":
        ConditionalAttribution(model)(DATA, [{"y": 1, "conv": [0]}])
    elif kind == "old name":
        CondAttribution(model)(DATA.clone().requires_grad_(), [{"y": [1], "conv": [0]}])
    elif kind == "compose":
        crp.compose(model, DATA, ["conv"], target=1)
    elif kind == "mine":
        crp.mine(model, TensorDataset(DATA), layers=["conv"], path=library, progress=False, targets="prediction")
    else:
        steady, data = Random(nn.Identity()), TensorDataset(DATA)
        mined = crp.mine(steady, data, layers=["conv"], path=library, progress=False, targets="prediction", patches=1)
        if kind == "explain":
            crp.explain(model, DATA[0], mined, graph=False)
        else:
            concept_vector(model, DATA[0], mined, "conv")


@pytest.mark.parametrize("kind", ["flow", "conditional", "old name", "compose", "concept_vector", "mine", "explain"])
def test_a_dropout_that_is_always_on_is_refused_by_everything_that_runs_a_model(kind, tmp_path):
    with pytest.raises(ModelError, match=r"^The model gives different outputs for the same sample \(they differ by "):
        run(kind, Random(functional.dropout), tmp_path)


@pytest.mark.parametrize("part", DRAWING)
def test_whatever_draws_the_numbers(part):
    with pytest.raises(ModelError, match=r"^The model gives different outputs for the same sample"):
        RelevanceFlow(Random(DRAWING[part]), None, DATA, ["conv"])


@pytest.mark.parametrize("part", STEADY)
def test_random_numbers_on_which_no_output_depends_are_allowed(part):
    with RelevanceFlow(Random(STEADY[part]), None, DATA, ["conv"]) as flow:
        arriving = flow.down(flow.output_relevance(1), to="conv")
    plain = Random(STEADY[part]).eval()
    torch.manual_seed(1)
    hidden = plain.part(plain.conv(DATA)).detach()
    expected = flow.prediction[:, 1].view(-1, 1, 1, 1) * plain.linear.weight[1].view(4, 4, 4).expand(4, -1, -1, -1)
    assert torch.allclose(flow.prediction, plain.linear(hidden.flatten(1)), atol=1e-5)
    assert torch.allclose(arriving[0], expected)


class Keeping(nn.Module):
    """Keeps what it saw, or how often it ran, in one of several ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.conv, self.linear, self.how, self.calls, self.seen = nn.Conv2d(1, 4, 3), nn.Linear(4, 2), how, 0, []
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, data):
        values = self.conv(data).mean((2, 3))
        self.calls += 1
        if self.how == "a buffer":
            self.mean = (self.mean + values.detach().mean(0)) / 2
        elif self.how == "a buffer in place":
            self.mean.mul_(0.5).add_(values.detach().mean(0))
        elif self.how == "a list":
            self.seen.append(values.detach().mean(0))
        elif self.how == "a number":
            values = values * self.calls
        return self.linear(values + self.mean + sum(self.seen[:-1]))


@pytest.mark.parametrize("composite", [None, "composite_for"])
@pytest.mark.parametrize("how", ["a buffer", "a buffer in place", "a list", "a number"])
def test_a_model_that_keeps_a_state_is_refused_unless_no_output_depends_on_it(how, composite):
    """Each pass of a prepared model would give another output, and no one would know for which of them relevance is."""
    for kept, refused in ((how, True), ("only the number of calls", False)):
        model = Keeping(kept).eval()
        with contextlib.ExitStack() as expected:
            if refused:
                expected.enter_context(pytest.raises(ModelError, match=r"or does the model keep a state between calls"))
            rules = composite and composite_for(model, DATA).composite
            with RelevanceFlow(model, rules, DATA, ["conv"]) as flow:
                assert torch.equal(flow.prediction, model(DATA))
