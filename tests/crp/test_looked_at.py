"""Looking at a model leaves it as it was: state, attributes, gradients, hooks and random numbers, whatever its code."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.data import TensorDataset

import crp
from crp.errors import ModelError
from tests.attribution.test_callers_things import model_in_training_mode, snapshot

DATA = torch.rand(6, 2, 8, 8, generator=torch.Generator().manual_seed(1))
DATASET = TensorDataset(DATA, torch.arange(6) % 3)


def replaced_forward() -> nn.Module:
    model = model_in_training_mode()
    forward = model.forward
    model.forward = lambda data: forward(data)
    return model


def replaced_forward_of_a_part() -> nn.Module:
    model = model_in_training_mode()
    forward = model[1].forward
    model[1].forward = lambda data: forward(data)
    return model


class Around(nn.Module):
    """Calls a part by a function that holds it."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part
        self.run = lambda data: part(data)

    def forward(self, data):
        return self.run(data)


class Held(nn.Module):
    """Calls a part, or its `forward`, by an object that holds it, which no copy follows."""

    def __init__(self, part: nn.Module, *, directly: bool = False) -> None:
        super().__init__()
        self.part = part
        self.holder = SimpleNamespace(run=part.forward if directly else part)

    def forward(self, data):
        return self.holder.run(data)


def with_normed_weight(spectral_norm) -> nn.Module:
    model = model_in_training_mode()
    model[0] = spectral_norm(nn.Conv2d(2, 4, 3, bias=False))
    return model.train()


class Counting(nn.Module):
    """Counts its calls in every way, and draws random numbers that it does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.part, self.calls, self.seen, self.by_name = model_in_training_mode(), 0, [], {"calls": 0}
        self.register_buffer("steps", torch.zeros(1))

    def forward(self, data):
        self.calls += 1
        self.steps.add_(1)
        self.seen.append(1)
        self.by_name["calls"] += 1
        torch.rand(3), np.random.rand(2), random.random()  # noqa: NPY002
        return self.part(data)


FOLLOWED = {
    "plain": model_in_training_mode,
    "spectral norm": lambda: with_normed_weight(parametrizations.spectral_norm),
    "older spectral norm": lambda: with_normed_weight(nn.utils.spectral_norm),
    "counting": lambda: Counting().train(),
    "replaced forward": replaced_forward,
    "replaced forward of a part": replaced_forward_of_a_part,
    "lambda": lambda: Around(model_in_training_mode()).train(),
}
OUTSIDE = {
    "object": (lambda: Held(model_in_training_mode()).train(), "part.1"),
    "forward in an object": (lambda: Held(model_in_training_mode(), directly=True).train(), "part.1"),
    "spectral norm in an object": (
        lambda: Held(with_normed_weight(parametrizations.spectral_norm)).train(),
        "part.0.parametrizations.weight.0",
    ),
}


def whole_snapshot(model: nn.Module) -> dict:
    content = {"seen": list(getattr(model, "seen", [])), "by_name": dict(getattr(model, "by_name", {}))}
    return {**snapshot(model, DATA), **content, "python": random.getstate()}


def first_layer(model: nn.Module) -> str:
    return next(name for name, module in model.named_modules() if isinstance(module, nn.Conv2d))


def mine(model, folder, name="a.crp"):
    layers = [first_layer(model)]
    return crp.mine(model, DATASET, layers=layers, path=folder / name, k=2, patches=1, progress=False)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("kind", FOLLOWED)
def test_a_model_that_is_looked_at_is_as_before(kind, tmp_path):
    model = FOLLOWED[kind]()
    before = whole_snapshot(model)
    library = mine(model, tmp_path)
    ready = crp.prepared(model, library=library)
    for use in (
        lambda: crp.prepared(model, data=DATA[:1]),
        lambda: crp.composite_for(model, DATA[:1]),
        lambda: crp.explain(ready, DATA[0], library, target=1),
        lambda: crp.atlas(model, DATA[0], library, target=1),
        lambda: crp.compose(model, DATA[:1], library.layers, target=1),
        lambda: crp.verify(library, model, DATASET),
        lambda: crp.mining.add_patches(library, model, DATASET, progress=False),
    ):
        use()
        assert whole_snapshot(model) == before


@pytest.mark.parametrize("kind", OUTSIDE)
def test_a_part_that_would_change_in_training_mode_is_named(kind, tmp_path):
    make, part = OUTSIDE[kind]
    model = make()
    evaluated = make().eval()
    evaluated.load_state_dict(model.state_dict())
    before = whole_snapshot(model)
    sentence = (
        rf"^The model runs its '{part}' in training mode, because it calls it by a global name or an object that is no "
        r"module, which a copy cannot follow: call model.eval\(\) first\.$"
    )
    for use in (
        lambda: crp.prepared(model, data=DATA[:1]),
        lambda: mine(model, tmp_path),
        lambda: crp.attribution.RelevanceFlow(model, None, DATA[:1]),
        lambda: crp.attribution.RelevanceFlow(model, crp.composite_for(model).composite, DATA[:1]),
    ):
        with pytest.raises(ModelError, match=sentence):
            use()
        assert whole_snapshot(model) == before
    with torch.no_grad():
        expected = evaluated(DATA[:1])
    with crp.attribution.RelevanceFlow(evaluated, None, DATA[:1]) as flow:
        torch.testing.assert_close(flow.prediction, expected)


def test_a_part_that_is_called_in_evaluation_mode_does_not_change(tmp_path):
    model = nn.Sequential(nn.Conv2d(2, 2, 1), Held(model_in_training_mode())).eval()
    before = whole_snapshot(model)
    library = mine(model, tmp_path)
    crp.explain(model, DATA[0], library, target=1)
    assert whole_snapshot(model) == before
