"""The part of a model above a layer, against the whole model with a forward hook at the layer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from crp.attribution.upper_part import UpperPart
from crp.errors import InputError, ModelError


class Residual(nn.Module):
    """One ReLU for everything, in place, and a skip connection around the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(3, 4)

    def forward(self, data: Tensor) -> Tensor:
        stem = self.relu(self.stem(data))
        inner = self.relu(self.first(stem))
        return self.head(self.relu(self.second(inner) + stem).mean((2, 3)))


class Block(nn.Module):
    def __init__(self, relu: nn.Module) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 3, 3, padding=1), relu

    def forward(self, data: Tensor) -> Tensor:
        return self.relu(self.conv(data))


class SharedReLU(nn.Module):
    """The ReLU runs inside a block below the layer, which is not run again, and inside one above it."""

    def __init__(self) -> None:
        super().__init__()
        relu = nn.ReLU()
        self.low, self.middle, self.high = Block(relu), Block(relu), Block(relu)

    def forward(self, data: Tensor) -> Tensor:
        return self.high(self.middle(self.low(data))).mean((2, 3))


class Deciding(nn.Module):
    """What lies above the layer takes another way for a whole batch."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.head = nn.Conv2d(3, 3, 3), nn.Linear(3, 2)

    def forward(self, data: Tensor) -> Tensor:
        values = self.low(data).mean((2, 3))
        if (values.abs() < 1e-3).all(0).any():
            values = 2 - values
        return self.head(values)


class Functional(nn.Module):
    """Functions below, around and above the layer; the input is overwritten in place, and read again at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high, self.head = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 2)

    def forward(self, data: Tensor) -> Tensor:
        data.sub_(0.5)
        low = functional.relu_(self.low(data) + 1)
        high = low * self.high(low).sigmoid() + data[:, :, 1:-1, 1:-1]
        return self.head(high.amax((2, 3)))


class Biased(nn.Module):
    """A module below the layer gives a tensor without samples, whose first axis is as long as theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.low, self.high = nn.Linear(1, 2), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, data: Tensor) -> Tensor:
        table = self.table(torch.ones(2, 1, dtype=data.dtype))
        return self.high(self.low(data)) @ functional.pad(table, (0, 1, 0, 1))


class OverwrittenBelow(nn.Module):
    """A module's output is read by a function, and overwritten by another module, before the layer is called."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.relu, self.high = nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 3)

    def forward(self, data: Tensor) -> Tensor:
        low = self.low(data)
        doubled = low * 2
        return self.high(self.relu(low)) + doubled[:, :3]


class Branches(nn.Module):
    """Branches that run after the layer, beside it, and before it."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.first, self.second, self.third = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(4))
        self.head = nn.Linear(9, 4)

    def forward(self, data: Tensor) -> Tensor:
        low = self.low(data).relu()
        branches = [branch(low).relu() for branch in (self.first, self.second, self.third)]
        return self.head(torch.cat(branches, 1).mean((2, 3)))


class DictInside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = Named(), nn.Linear(4, 3)

    def forward(self, data: Tensor) -> Tensor:
        found = self.low(data)
        return self.high(found["one"]) + found["two"]


class Named(nn.Module):
    def forward(self, data: Tensor) -> dict[str, Tensor]:
        return {"one": data + 1, "two": data[:, :3] * 2}


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().double().eval()


def vit() -> nn.Module:
    model = torchvision.models.VisionTransformer(16, 8, 2, 2, 12, 24, num_classes=3)
    nn.init.normal_(model.heads.head.weight)
    return model


IMAGES, ROWS = (3, 8, 8), (4,)
CASES = {
    "sequential": (lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(True), nn.Linear(5, 3)), ["0", "1", "2"], ROWS),
    "residual": (Residual, ["stem", "first", "second"], IMAGES),
    "shared ReLU": (SharedReLU, ["low", "low.conv", "middle.conv", "middle", "high"], IMAGES),
    "functional": (Functional, ["low", "high"], IMAGES),
    "no samples' axis": (Biased, ["low"], ROWS),
    "overwritten below": (OverwrittenBelow, ["high"], ROWS),
    "dict inside": (DictInside, ["high"], ROWS),
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=5), ["layer1.0.conv1", "layer2"], (3, 32, 32)),
    "branches": (Branches, ["low", "first", "second", "third"], IMAGES),
    "vit": (vit, ["encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1.mlp.0", "conv_proj"], (3, 16, 16)),
}  # fmt: skip
TABLE = [(name, layer) for name, (_, layers, _) in CASES.items() for layer in layers]


def whole(model: nn.Module, data: Tensor, layer: str, replaced: Tensor) -> Tensor:
    """Run the model itself, once for each condition, with a hook that replaces the layer's output."""
    found = []
    for values in replaced:
        handle = model.get_submodule(layer).register_forward_hook(lambda *_, values=values: values.clone())
        with torch.no_grad():
            found.append(model(data.clone()))
        handle.remove()
    return torch.stack(found)


@pytest.mark.parametrize(("case", "layer"), TABLE, ids=[f"{case}-{layer}" for case, layer in TABLE])
def test_outputs_are_those_of_the_whole_model(case: str, layer: str) -> None:
    make, _, shape = CASES[case]
    model = seeded(make)
    generator = torch.Generator().manual_seed(1)
    data = torch.rand(2, *shape, generator=generator, dtype=torch.float64)
    given = data.clone()
    upper = UpperPart(model, data, layer)
    replaced = upper.activation * torch.rand(3, *upper.activation.shape, generator=generator, dtype=torch.float64)
    expected = whole(model, data, layer, replaced)
    torch.testing.assert_close(upper.outputs(replaced), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(upper.outputs(replaced), expected, rtol=1e-12, atol=1e-12)  # nothing was overwritten
    with torch.no_grad():
        torch.testing.assert_close(upper.prediction, model(data.clone()), rtol=1e-12, atol=1e-12)
    assert torch.equal(data, given)
    assert (expected - upper.prediction).abs().max() > 1e-6  # the layer matters


def test_only_what_lies_above_is_computed() -> None:
    model, ran = seeded(SharedReLU), []
    for name, module in model.named_modules():
        module.forward = lambda data, name=name, own=module.forward: (own(data), ran.append(name))[0]
    upper = UpperPart(model, torch.rand(2, *IMAGES, dtype=torch.float64), "middle")
    ran.clear()
    upper.outputs(upper.activation[None].repeat(5, 1, 1, 1, 1))
    assert ran == ["high.conv", "low.relu", "high", ""]  # one pass; the shared ReLU has its first name


class Shaped(nn.Module):
    """Makes rows of pictures in a way of the caller's."""

    def __init__(self, rows: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.low, self.high, self.end = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4 * 4 * 4, 3)
        self.rows = rows

    def forward(self, data: Tensor) -> Tensor:
        return self.end(self.rows(self.high(self.low(data).relu())))


@pytest.mark.parametrize(
    ("rows", "formats"),
    [(lambda x: x.flatten(1), [True]), (lambda x: x.view(len(x), -1), [True, False])],  # a view needs them in order
)
def test_the_channels_are_last_where_the_model_allows_it(rows: Callable, formats: list[bool]) -> None:
    model, data, entered = seeded(lambda: Shaped(rows)), torch.rand(2, *IMAGES, dtype=torch.float64), []
    model.high.register_forward_pre_hook(lambda _, entering: entered.append(entering[0]))
    upper = UpperPart(model, data, "low")
    replaced = torch.rand(5, *upper.activation.shape, dtype=torch.float64)
    entered.clear()
    found = [upper.outputs(replaced), upper.outputs(replaced)]
    last = [values.is_contiguous(memory_format=torch.channels_last) for values in entered]
    assert last == [*formats, formats[-1]]  # what the model refuses is tried once
    assert all(len(values) == 2 * 6 for values in entered)
    for each in found:
        torch.testing.assert_close(each, whole(model, data, "low", replaced), rtol=1e-12, atol=1e-12)


def test_many_conditions_are_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = seeded(Residual), torch.rand(2, *IMAGES, dtype=torch.float64)
    upper = UpperPart(model, data, "first")
    replaced = torch.rand(7, *upper.activation.shape, dtype=torch.float64)
    together = upper.outputs(replaced)
    monkeypatch.setattr("crp.attribution.upper_part._LARGEST_BATCH", 3 * 2 * upper.activation.nbytes)
    torch.testing.assert_close(upper.outputs(replaced), together, rtol=1e-12, atol=1e-12)


class Cast(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, data: Tensor) -> Tensor:
        return data.to(self.dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_an_output_may_have_a_lower_precision(dtype: torch.dtype) -> None:
    body = seeded(lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)))
    model, data = nn.Sequential(*body, Cast(dtype)), torch.rand(2, 4, dtype=torch.float64)
    upper = UpperPart(model, data, "0")
    replaced = torch.rand(3, 2, 5, dtype=torch.float64)
    found = upper.outputs(replaced)
    assert found.dtype == dtype
    assert torch.equal(found, whole(model, data, "0", replaced))


@pytest.mark.parametrize("end", [nn.Softmax(1), nn.LogSoftmax(1), nn.Sigmoid()])
@pytest.mark.parametrize("after", [nn.Identity(), nn.Flatten()])
def test_outputs_are_logits(end: nn.Module, after: nn.Module) -> None:
    body = seeded(lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(True), nn.Linear(5, 3)))
    data, ones = torch.rand(2, 4, dtype=torch.float64), torch.ones(1, 2, 5, dtype=torch.float64)
    upper = UpperPart(nn.Sequential(*body, end, after), data, "0")
    torch.testing.assert_close(upper.prediction, body(data).detach())
    torch.testing.assert_close(upper.outputs(ones)[0], body[1:](ones[0].clone()).detach())


class Dropped(nn.Sequential):
    def forward(self, data: Tensor) -> Tensor:
        return super().forward(functional.dropout(data))


class Centred(nn.Module):
    """Subtracts the mean over samples, so that they influence one another."""

    def forward(self, data: Tensor) -> Tensor:
        return data - data.mean(0)


class Recurrent(nn.Sequential):
    def forward(self, data: Tensor) -> Tensor:
        return super().forward(super().forward(data))


class Paired(nn.Linear):
    def forward(self, data: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(data), data


class First(nn.Module):
    def forward(self, data: tuple[Tensor, Tensor]) -> Tensor:
        return data[0]


@pytest.mark.parametrize(
    ("model", "layer", "message"),
    [
        (Dropped(nn.Linear(4, 4), nn.Linear(4, 4)), "0", "different outputs for the same sample"),
        (Recurrent(nn.Linear(4, 4)), "0", "'0' is called more than once"),
        (nn.Sequential(Paired(4, 3), First()), "0", "Layer '0' gives a tuple"),
    ],
)
def test_what_cannot_be_replaced_is_refused(model: nn.Module, layer: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        UpperPart(model, torch.rand(2, 4), layer)


def test_samples_that_influence_one_another_stay_in_their_batch() -> None:
    model, data = seeded(lambda: nn.Sequential(nn.Linear(4, 4), Centred())), torch.rand(2, 4, dtype=torch.float64)
    replaced = torch.rand(3, 2, 4, dtype=torch.float64)
    torch.testing.assert_close(UpperPart(model, data, "0").outputs(replaced), whole(model, data, "0", replaced))


def test_names_and_shapes_are_checked() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with pytest.raises(InputError, match="no layer '7'"):
        UpperPart(model, torch.rand(2, 4), "7")
    with pytest.raises(InputError, match=r"are \[K, 2, 4\], given \[2, 4\]"):
        UpperPart(model, torch.rand(2, 4), "0").outputs(torch.rand(2, 4))


@pytest.mark.parametrize(
    "model", [Residual, lambda: nn.Sequential(*Residual().children())[:2], vit], ids=["residual", "sequential", "vit"]
)
def test_gradients_are_those_of_the_whole_model(model: Callable[[], nn.Module]) -> None:
    model = seeded(model)
    layer = {"Residual": "first", "Sequential": "0"}.get(type(model).__name__, "encoder.layers.encoder_layer_0")
    data = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    upper = UpperPart(model, data, layer)
    place = upper.activation / 2

    def score(output: Tensor) -> Tensor:
        return output.flatten(1)[:, 1] ** 2

    leaf = place.clone().requires_grad_()
    model.get_submodule(layer).register_forward_hook(lambda *_: leaf.clone())
    (expected,) = torch.autograd.grad(score(model(data)).sum(), leaf)
    torch.testing.assert_close(upper.gradients(place, score), expected, rtol=1e-12, atol=1e-12)
    assert expected.abs().max() > 0


def test_it_may_end_at_a_layer_above() -> None:
    """Values and gradients of that layer; its sigmoid is not taken for the end of the model."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.Sigmoid(), nn.Linear(6, 3), nn.ReLU(inplace=True)
    ).double()
    data, replaced = torch.rand(2, 4, dtype=torch.float64), torch.rand(3, 2, 5, dtype=torch.float64)
    upper = UpperPart(net, data, "1", "3")
    middle = net[2:4]
    with torch.no_grad():
        torch.testing.assert_close(upper.prediction, middle(net[:2](data)))
        torch.testing.assert_close(upper.outputs(replaced), middle(replaced))
    leaf = replaced[0].clone().requires_grad_()
    (expected,) = torch.autograd.grad((middle(leaf) ** 2).sum(), leaf)
    torch.testing.assert_close(upper.gradients(replaced[0], lambda output: (output**2).sum(1)), expected)
    with torch.no_grad():  # the input of a module, which a ReLU overwrites afterwards
        torch.testing.assert_close(UpperPart(net, data, "1", "5..input").outputs(replaced), net[2:5](replaced))
    with pytest.raises(ModelError, match="never calls '3' below '1'"):
        UpperPart(net, data, "3", "1")


def test_weights_above_the_layer_have_the_gradients_of_the_whole_model() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    data, wanted = torch.randn(7, 4).double(), torch.arange(7) % 3
    functional.cross_entropy(model(data), wanted).backward()
    upper = UpperPart(model, data[:1], "2..input")
    weights = [value.requires_grad_() for value in upper.model.parameters()]
    with torch.no_grad():
        given = model[:2](data)
    with torch.inference_mode():
        found = upper.trainable(given[:, None])
    gradients = torch.autograd.grad(functional.cross_entropy(found[:, 0], wanted), weights, allow_unused=True)
    assert [one is None for one in gradients] == [True, True, False, False, False, False]
    for own, found in zip(model[2:].parameters(), gradients[2:], strict=True):
        torch.testing.assert_close(found, own.grad)
    with torch.no_grad():
        weights[-1] += 1  # the same memory
        torch.testing.assert_close(model(data), upper.outputs(given[:, None])[:, 0])


def test_one_condition_does_not_decide_for_the_others_in_its_batch():
    torch.manual_seed(0)
    model, data = Deciding().double(), torch.rand(2, 3, 6, 6, dtype=torch.float64)
    upper = UpperPart(model, data, "low")
    masks = 1 - torch.eye(3, dtype=torch.float64)[:, None, :, None, None]
    replaced = upper.activation * torch.cat([masks, torch.ones_like(masks[:1])])
    values = replaced.mean((3, 4))
    expected = torch.stack([model.head(2 - one) for one in values[:3]] + [model.head(values[3])]).detach()
    torch.testing.assert_close(upper.outputs(replaced), expected)
