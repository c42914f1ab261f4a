"""A model whose output depends on random numbers is refused by whatever runs it."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

import crp
from crp.analysis import concept_vector
from crp.attribution import CondAttribution, ConditionalAttribution, RelevanceFlow
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
