"""Values without a gradient are constants for rules, and named where they are read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from crp.attribution import RelevanceFlow, composite_for

SAID = "Values that depend on the input but have no gradient (detach, torch.no_grad) count as constants. They are read"


class Joined(nn.Module):
    """A layer and what is made of it."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function, self.head = nn.Linear(3, 3), function, nn.Linear(3, 2)

    def forward(self, data: Tensor) -> Tensor:
        return self.head(self.function(self.layer(data)))


def without_gradient(values: Tensor) -> Tensor:
    with torch.no_grad():
        return values.exp() * 2


def notes(function: Callable[[Tensor], Tensor]) -> list[str]:
    torch.manual_seed(0)
    model, data = Joined(function), torch.randn(2, 3)
    with RelevanceFlow(model, composite_for(model, data).composite, data, ["layer"]) as flow:
        return list(flow.notes)


CUT = {
    "detached": (lambda x: x + x.detach().exp(), "add"),
    "as data": (lambda x: x * x.data.cos(), "mul"),
    "in no_grad": (lambda x: x * without_gradient(x), "mul"),
    "in a module in no_grad": (lambda x: x * LAYER(x.detach()), "mul"),
    "straight through": (lambda x: x + (x.round() - x).detach(), "add"),
    "a step without a derivative": (lambda x: x * torch.floor_divide(x, 0.3), "mul"),
}
LAYER = nn.Linear(3, 3)
NOT_CUT = {
    "a mask": lambda x: x * (x.detach() > 0).float(),
    "zeros": lambda x: x + torch.zeros_like(x.detach()),
    "of one shape": lambda x: x.reshape_as(x.detach()),
    "constants": lambda x: x + LAYER(torch.ones(3)).detach(),
    "not read": lambda x: (x.detach().exp(), x)[1],
    "read beside the output": lambda x: (x + x.detach(), x)[1],
    "a layer in the graph": lambda x: torch.relu(LAYER(x)),
}
LEAVING = {
    "item": lambda x: x * x.mean().item(),
    "float": lambda x: x * float(x.detach().mean()),
    "tolist": lambda x: x * torch.tensor(x.tolist()),
    "numpy": lambda x: x * torch.from_numpy(2 * x.detach().numpy()),
    "array": lambda x: x * torch.as_tensor(2 * np.asarray(x.detach())),
}
STAYING = {
    "a weight": lambda x: x * LAYER.weight.mean().item(),
    "an index": lambda x: x * x.argmax().item(),
    "a step": lambda x: x if x.mean() > 9 else 2 * x,
    "a text": lambda x: (f"{x.mean():.2f}", x)[1],
}


@pytest.mark.parametrize("name", CUT)
def test_calls_that_read_them_are_named(name: str) -> None:
    function, reader = CUT[name]
    assert notes(function) == [f"{SAID} by {reader} in 'the model itself'."]


@pytest.mark.parametrize("name", NOT_CUT)
def test_shapes_steps_and_constants_are_not(name: str) -> None:
    assert notes(NOT_CUT[name]) == []


@pytest.mark.parametrize("name", LEAVING)
@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
def test_numbers_outside_of_torch_are_named(name: str) -> None:
    assert notes(LEAVING[name]) == [
        "Values that depend on the input become numbers outside of torch, and what is computed from these counts as "
        f"constants: {name} in 'the model itself'."
    ]


@pytest.mark.parametrize("name", STAYING)
def test_numbers_of_weights_indices_and_steps_are_not(name: str) -> None:
    assert notes(STAYING[name]) == []


def test_a_rounded_quotient_ranks_by_its_derivative() -> None:
    """Of `x + trunc(x / 0.7)` the first summand alone has a gradient."""
    torch.manual_seed(0)
    model = Joined(lambda x: x + torch.div(3 * x, 0.7, rounding_mode="trunc")).double()
    data = torch.randn(2, 3, dtype=torch.float64)
    values = model.layer(data).detach()
    with RelevanceFlow(model, composite_for(model, data).composite, data, ["layer"]) as flow:
        arriving = flow.down(flow.output_relevance([1]), to="layer")[0]
        assert "div in 'the model itself'" in flow.notes[0]
    assert torch.allclose(arriving, values * model.head.weight[1], rtol=1e-4)
