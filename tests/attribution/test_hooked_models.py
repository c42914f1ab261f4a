"""Models in which hooks carry tensors from module to module, and modules whose `forward` was replaced."""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from crp.attribution import RelevanceFlow, composite_for
from tests.oracle.comparing import assert_relevance_close

FAR = dict(dtype=torch.float64)


class Keeper:
    """An object that is a hook, and whose method is one: it keeps a tensor in itself, or in the model."""

    def __init__(self, model: nn.Module | None = None) -> None:
        self.model, self.kept = model, None

    def __call__(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        if self.model is not None:
            self.model.kept = output
        self.kept = output

    def keep(self, module: nn.Module, args: tuple, kwargs: dict, output: Tensor) -> None:
        self(module, args, output)


class Skip(nn.Module):
    """A skip connection whose tensor a hook keeps: `head([mid(enc(x)), enc(x)])`."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.enc, self.mid = nn.Conv2d(3, 4, 3, padding=1, **FAR), nn.Conv2d(4, 4, 3, padding=1, **FAR)
        self.head, self.kept, self.store = nn.Linear(8, 2, **FAR), None, {}
        self.keeper = Keeper()
        store = self.store
        hooks = {
            "a method": self.keep,
            "a closure on the model": lambda module, args, output: self.keep(module, args, output),
            "a closure on a dict": lambda module, args, output: store.update(enc=output),
            "a default argument": lambda module, args, output, model=self: model.keep(module, args, output),
            "an object": self.keeper,
            "an object with the model": Keeper(self),
            "a method of an object": self.keeper.keep,
            "a partial function of an object": partial(self.keeper.keep),
        }
        by_name = how in ("a method of an object", "a partial function of an object")
        self.enc.register_forward_hook(hooks[how], with_kwargs=by_name, always_call=by_name)

    def keep(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        self.kept = output

    def forward(self, data: Tensor) -> Tensor:
        middle = self.mid(self.enc(data).relu()).relu()
        kept = self.kept if self.keeper.kept is None else self.keeper.kept
        return self.head(torch.cat([middle, self.store.get("enc", kept)], 1).mean((2, 3)))


def with_layer(model: nn.Module, layer: str, data: Tensor, change: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The layer's output, and the model's when the layer gives `change` of it, whoever reads it."""
    module, kept = model.get_submodule(layer), []
    before = vars(module).get("forward")
    own = module.forward

    def forward(values: Tensor) -> Tensor:
        kept.append(own(values))
        return change(kept[-1])

    module.forward = forward
    output = model(data)
    if before is None:
        del module.forward
    else:
        module.forward = before
    return kept[0], output


def without_the_second(values: Tensor) -> Tensor:
    return values * (torch.arange(values.shape[1]) != 1).double().view(-1, 1, 1)


def assert_as_in_torch(model: nn.Module, layer: str, data: Tensor) -> None:
    """Relevance for ranking is gradient times output, and what removal leaves is the model's output."""
    activation, output = with_layer(model, layer, data, lambda values: values)
    (gradient,) = torch.autograd.grad(output[:, 0].sum(), activation)
    _, left = with_layer(model, layer, data, without_the_second)
    with RelevanceFlow(model, composite_for(model, data).composite, data, [layer]) as flow:
        arriving = flow.down(flow.output_relevance([0]), to=layer)[0]
        assert_relevance_close(arriving, (gradient * activation).detach(), 2e-3)  # stabilisers
        removed = flow.without(layer, [[1]])[0]
    assert torch.allclose(removed, left.detach(), rtol=1e-12)
    assert not torch.allclose(left, output, rtol=1e-3)


@pytest.mark.parametrize("called", ["never", "on other data", "on the same data"])
@pytest.mark.parametrize(
    "how",
    [
        "a method", "a closure on the model", "a closure on a dict", "a default argument", "an object",
        "an object with the model", "a method of an object", "a partial function of an object",
    ],
)
def test_what_a_hook_keeps_is_the_layers_output(how: str, called: str) -> None:
    torch.manual_seed(0)
    model, data = Skip(how).eval(), torch.rand(2, 3, 5, 5, **FAR)
    if called != "never":
        model(data if called == "on the same data" else torch.rand(2, 3, 5, 5, **FAR))
    before = model.kept, dict(model.store), model.keeper.kept
    with RelevanceFlow(model, composite_for(model, data).composite, data, ["enc"]) as flow:
        flow.without("enc", [[1]])
    assert model.kept is before[0]
    assert model.store == before[1]
    assert model.keeper.kept is before[2]
    assert_as_in_torch(model, "enc", data)


REPLACED: dict[str, Callable[[nn.Sequential], object]] = {
    "a closure": lambda model: twice(model[2]),
    "a method": lambda model: setattr(model[2], "forward", types.MethodType(doubled, model[2])),
    "a closure that calls itself": lambda model: deeper(model[2]),
    "an activation": lambda model: setattr(model[1], "forward", torch.square),
    "pooling": lambda model: setattr(model[3], "forward", lambda x: x.amax((2, 3), keepdim=True)),
}


def doubled(module: nn.Conv2d, values: Tensor) -> Tensor:
    return functional.conv2d(values, 2 * module.weight, module.bias)


def twice(module: nn.Module) -> None:
    own = module.forward
    module.forward = lambda values: own(values) * 2


def deeper(module: nn.Module) -> None:
    """`forward` of what a function of the module, which calls itself, makes: three times as much."""
    own = module.forward

    def times(values: Tensor, left: int = 3) -> Tensor:
        return own(values) if left == 1 else own(values) + times(values, left - 1)

    module.forward = times


@pytest.mark.parametrize("name", REPLACED)
def test_a_module_runs_the_forward_that_was_put_on_it(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    ).double()
    REPLACED[name](model)
    assert_as_in_torch(model, "0", torch.randn(2, 3, 7, 7, **FAR))
