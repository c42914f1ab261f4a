"""Conditions that add up two others: linear modules do not run for them, and outputs are those of the whole model."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from crp.attribution.upper_part import UpperPart
from tests.attribution.test_upper_part import IMAGES, seeded, whole

# Three single concepts and their pairs; the last condition is no sum.
SUMS = [None, None, None, (0, 1), (0, 2), (1, 2), None]


class Readers(nn.Module):
    """A convolution, a product, a skip connection and another convolution read the layer's output."""

    def __init__(self, between: Callable[[Tensor], Tensor] = lambda found: found) -> None:
        super().__init__()
        self.low, self.one, self.other = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.drop, self.between = nn.Dropout(0.5), between

    def forward(self, data: Tensor) -> Tensor:
        low = self.low(data)
        squared = low**2
        found = self.one(self.drop(self.between(low))).relu() * squared + low
        return (found + self.other(low).relu()).mean((2, 3))


def conditions(activation: Tensor, size: float = 1.0) -> Tensor:
    """Return what `SUMS` says, of changes of the unchanged output by random numbers up to `size`."""
    generator = torch.Generator().manual_seed(3)
    shape = 4, *activation.shape
    first, second, third, last = size * torch.rand(shape, generator=generator, dtype=activation.dtype)
    changes = [first, second, third, first + second, first + third, second + third, last]
    return activation - torch.stack(changes)


def rows_read(model: nn.Module, names: list[str]) -> dict[str, list[int]]:
    """Count the rows that convolutions compute, below hooks and `forward`, in each call."""
    found: dict[str, list[int]] = {name: [] for name in names}
    for name in names:
        own = model.get_submodule(name)._conv_forward

        def computed(data: Tensor, *more: Tensor, name: str = name, own: Callable[..., Tensor] = own) -> Tensor:
            found[name].append(len(data))
            return own(data, *more)

        model.get_submodule(name)._conv_forward = computed
    return found


def test_linear_readers_do_not_run_for_sums() -> None:
    model, data = seeded(Readers), torch.rand(2, *IMAGES, dtype=torch.float64)
    upper = UpperPart(model, data, "low")
    replaced = conditions(upper.activation)
    read = rows_read(upper.model, ["one", "other"])
    found = upper.outputs(replaced, SUMS)
    assert read == {"one": [2 * 5], "other": [2 * 5]}  # four conditions and the unchanged output, of two samples
    torch.testing.assert_close(found, whole(model, data, "low", replaced), rtol=1e-12, atol=1e-12)


def test_sums_may_come_in_later_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = seeded(Readers), torch.rand(2, *IMAGES, dtype=torch.float64)
    upper = UpperPart(model, data, "low")
    replaced = conditions(upper.activation)
    monkeypatch.setattr("crp.attribution.upper_part._LARGEST_BATCH", 3 * upper.activation.nbytes)
    read = rows_read(upper.model, ["one"])
    found = upper.outputs(replaced, SUMS)
    # two conditions a batch, each batch with the unchanged output; the last condition comes alone
    assert read == {"one": [2 * 3, 2 * 2, 2 * 1, 2 * 1]}
    torch.testing.assert_close(found, whole(model, data, "low", replaced), rtol=1e-12, atol=1e-12)


class Squares(nn.Conv2d):
    def forward(self, data: Tensor) -> Tensor:
        return super().forward(data) ** 2


def patched() -> nn.Module:
    model = Readers()
    model.one.forward = lambda data: functional.conv2d(data, model.one.weight, padding=1) ** 2
    return model


def hooked() -> nn.Module:
    model = Readers()
    model.one.register_forward_pre_hook(lambda _, given: given[0] ** 2)
    model.other.register_forward_hook(lambda _, given, output: output**2)
    return model


def subclassed() -> nn.Module:
    model = Readers()
    model.one = Squares(3, 3, 3, padding=1)
    return model


@pytest.mark.parametrize(
    "make",
    [
        lambda: Readers(torch.relu),
        lambda: Readers(torch.relu_),
        lambda: Readers(lambda found: found.mul_(found)),
        lambda: nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(inplace=True), nn.Conv2d(3, 3, 3), nn.Flatten()),
        lambda: nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3), nn.Flatten(), nn.Softmax(1)),
        patched,
        hooked,
        subclassed,
    ],
)
def test_what_is_not_linear_runs_for_every_condition(make: Callable[[], nn.Module]) -> None:
    model, data = seeded(make), torch.rand(2, *IMAGES, dtype=torch.float64)
    layer = "low" if isinstance(model, Readers) else "0"
    upper = UpperPart(model, data, layer)
    replaced = conditions(upper.activation)
    expected = whole(model, data, layer, replaced)
    found = upper.outputs(replaced, SUMS)
    if isinstance(model, nn.Sequential) and isinstance(model[-1], nn.Softmax):
        found = found.softmax(-1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_conditions_that_are_no_sums_are_found_out() -> None:
    model, data = seeded(Readers), torch.rand(2, *IMAGES, dtype=torch.float64)
    upper = UpperPart(model, data, "low")
    replaced = conditions(upper.activation)
    replaced[3, 1, 2, 4, 4] += 1e-6
    found = upper.outputs(replaced, SUMS)
    torch.testing.assert_close(found, whole(model, data, "low", replaced), rtol=1e-12, atol=1e-12)


def test_sums_in_which_nearly_all_cancels_are_computed() -> None:
    """A pair of concepts may hold nearly all of a layer: what is left is small beside what would be added up."""
    torch.manual_seed(0)
    model, data = nn.Sequential(nn.Linear(4, 64), nn.Linear(64, 3)), torch.rand(1, 4)
    nn.init.constant_(model[0].bias, 1000)
    upper = UpperPart(model, data, "0")
    small = 1e-4 * torch.rand(1, 64)
    one, other = upper.activation.clone(), upper.activation.clone()
    one[:, :32], other[:, 32:] = small[:, :32], small[:, 32:]
    found = upper.outputs(torch.stack([one, other, small]), [None, None, (0, 1)])
    torch.testing.assert_close(found[2], model[1](small).detach(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_coarse_numbers_are_not_added_up(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model, data = Readers().to(dtype).eval(), torch.rand(2, *IMAGES).to(dtype)
    upper = UpperPart(model, data, "low")
    replaced = conditions(upper.activation, 0.1)
    read = rows_read(upper.model, ["one"])
    upper.outputs(replaced, SUMS)
    assert read == {"one": [2 * 5 if dtype == torch.float32 else 2 * 8]}
