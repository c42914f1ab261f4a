"""Random small networks: whatever a model is made of, relevance is neither lost nor doubled without a note.

Each network is a chain of random steps on `[N, 4, 6, 6]`. A step may read any earlier tensor.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from zennit.core import Hook
from zennit.rules import Epsilon

from crp.attribution import RelevanceFlow, composite_for
from crp.attribution.functions import function_calls
from crp.attribution.observation import LinearCall
from crp.attribution.operation_composite import OperationComposite, network_kind
from tests.oracle.comparing import assert_relevance_close

SHAPE = (2, 4, 6, 6)
Step = Callable[[Tensor], Tensor]


def generated(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class RandomNet(nn.Module):
    """A chain of random steps, and a head.

    Attributes
    ----------
    once
        Names of modules that are called exactly once, in that order.
    """

    def __init__(self, seed: int, kinds: Iterable[str], biases: bool = True) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.draw, self.biases = random.Random(seed), biases
        self.parts: dict[str, nn.Module] = {}
        self.once: list[str] = []
        self.steps: list[tuple[Step | Callable[[Tensor, Tensor], Tensor], int]] = []
        names = [self.draw.choice(list(kinds)) for _ in range(self.draw.randint(3, 8))]
        for place, name in enumerate(["convolution", *names]):
            self.steps.append((STEPS[name](self), self.draw.randint(0, place)))
        self.head = self.draw.choice(["mean", "flatten", "convolution"])
        width = 144 if self.head == "flatten" else 4
        self.add("classifier", nn.Conv2d(4, 3, 1) if self.head == "convolution" else nn.Linear(width, 3, bias=biases))
        # registered in another order than called
        for name in self.draw.sample(sorted(self.parts), len(self.parts)):
            self.add_module(name, self.parts[name])
        self.parts = {}
        for parameter in self.parameters():
            parameter.data.copy_(generated(self.draw.randint(0, 10**6), *parameter.shape))
            parameter.data.mul_(0.2 if parameter.ndim == 1 else parameter[0].numel() ** -0.5)
        if not biases:
            for name, parameter in self.named_parameters():
                if name.endswith("bias"):
                    parameter.data.zero_()
        self.double().eval()

    def add(self, name: str, module: nn.Module) -> str:
        """Take a module; return its name."""
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            with torch.no_grad():
                module.running_mean.uniform_(-0.3, 0.3)
                module.running_var.uniform_(0.5, 2)
        if name in self.parts:
            name = f"{name}{len(self.parts)}"
        self.parts[name] = module
        return name

    def forward(self, data: Tensor) -> Tensor:
        tensors = [data]
        for step, other in self.steps:
            tensors.append(step(self, tensors[-1], tensors[other]))
        data = tensors[-1]
        if self.head == "convolution":
            return self.classifier(data).mean((2, 3))
        return self.classifier(data.flatten(1) if self.head == "flatten" else data.mean((2, 3)))


def convolution(net: RandomNet) -> Step:
    groups = net.draw.choice([1, 1, 1, 4])
    name = net.add("conv", nn.Conv2d(4, 4, 3, padding=1, groups=groups, bias=net.biases))
    net.once.append(name)
    return lambda net, data, other: getattr(net, name)(data)


def convolution_twice(net: RandomNet) -> Step:
    name = net.add("repeated", nn.Conv2d(4, 4, 1, bias=net.biases))
    return lambda net, data, other: getattr(net, name)(functional.relu(getattr(net, name)(data)))


def functional_convolution(net: RandomNet) -> Step:
    name = net.add("hidden", nn.Conv2d(4, 4, 3, bias=net.biases))
    def step(net: RandomNet, data: Tensor, other: Tensor) -> Tensor:
        module = getattr(net, name)
        return functional.conv2d(data, module.weight, module.bias, padding=1)
    return step


def normalized(net: RandomNet) -> Step:
    """A batch norm after its convolution, maybe one of two convolutions, or of a result that is read again."""
    shared, again = net.draw.random() < 0.3, net.draw.random() < 0.3
    first, second = (net.add("conv", nn.Conv2d(4, 4, 1, bias=net.draw.random() < 0.5)) for _ in range(2))
    norm = net.add("norm", nn.BatchNorm2d(4, eps=net.draw.choice([1e-5, 0.1])))

    def step(net: RandomNet, data: Tensor, other: Tensor) -> Tensor:
        before = getattr(net, first)(data)
        after = getattr(net, norm)(before)
        if shared:
            after = getattr(net, norm)(getattr(net, second)(after.relu()))
        return after + before if again else after

    return step


def norm_alone(net: RandomNet) -> Step:
    name = net.add("norm", net.draw.choice([nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.LayerNorm(6)]))
    return lambda net, data, other: getattr(net, name)(data)


def activation(net: RandomNet) -> Step:
    kind = net.draw.choice([nn.ReLU(), nn.ReLU(inplace=True), nn.GELU(), nn.SiLU(), nn.LeakyReLU(0.1), nn.Tanh()])
    name = net.add("activation", kind)
    return lambda net, data, other: getattr(net, name)(data)


def attending(net: RandomNet) -> Step:
    name = net.add("attention", nn.MultiheadAttention(4, 2, batch_first=True))

    def step(net: RandomNet, data: Tensor, other: Tensor) -> Tensor:
        tokens = data.flatten(2).transpose(1, 2)
        return (tokens + getattr(net, name)(tokens, tokens, tokens)[0]).transpose(1, 2).view(data.shape)

    return step


def squeezed(net: RandomNet) -> Step:
    name = net.add("squeeze", nn.Linear(4, 4))
    return lambda net, data, other: data * getattr(net, name)(data.mean((2, 3))).sigmoid()[..., None, None]


def joined(net: RandomNet) -> Step:
    name = net.add("joined", nn.Conv2d(8, 4, 1, bias=net.biases))
    return lambda net, data, other: getattr(net, name)(torch.cat([data, other], 1))


def overwritten_region(net: RandomNet, data: Tensor, other: Tensor) -> Tensor:
    data = data.clone()
    data[:, 1:3] = other[:, :2]
    data[:, 0, :2] = 0.5
    return data


def shifted(net: RandomNet, data: Tensor, other: Tensor) -> Tensor:
    result = torch.zeros_like(data)
    result[:, :, 1:] = data[:, :, :-1]
    result += other
    return result


def data_dependent(net: RandomNet, data: Tensor, other: Tensor) -> Tensor:
    if data.sum() > other.abs().sum():
        return data + 2 * other
    return torch.add(other, data, alpha=-0.5)


def changed_view(net: RandomNet, data: Tensor, other: Tensor) -> Tensor:
    data = data + 0.1
    data[:, :2] += other[:, 2:]
    functional.relu_(data[:, 2:])
    return data


def without_module(step: Callable) -> Callable[[RandomNet], Step]:
    return lambda net: step


# As the input times the gradient is conserved by these, epsilon everywhere gives the same.
PIECEWISE_LINEAR = {
    "convolution": convolution,
    "functional convolution": functional_convolution,
    "convolution twice": convolution_twice,
    "joined": joined,
    "max pool": without_module(lambda net, x, y: functional.max_pool2d(x, 3, 1, 1)),
    "average pool": without_module(lambda net, x, y: functional.avg_pool2d(x, 3, 1, 1)),
    "sum": without_module(lambda net, x, y: x + y),
    "difference": without_module(lambda net, x, y: 0.7 * x - y),
    "relu": without_module(lambda net, x, y: x.relu()),
    "relu in place": without_module(lambda net, x, y: functional.relu(x + y, inplace=True)),
    "mean": without_module(lambda net, x, y: x + x.mean((2, 3), keepdim=True)),
    "split": without_module(lambda net, x, y: torch.cat([x.chunk(2, 1)[1], y.split([1, 3], 1)[1][:, 1:]], 1)),
    "transposed": without_module(lambda net, x, y: x.transpose(2, 3).contiguous().view(2, 4, 36).view(x.shape)),
    "larger": without_module(lambda net, x, y: torch.maximum(x, y)),
}
STEPS = {
    **PIECEWISE_LINEAR,
    "normalized": normalized,
    "norm alone": norm_alone,
    "activation": activation,
    "attending": attending,
    "squeezed": squeezed,
    "overwritten region": without_module(overwritten_region),
    "shifted": without_module(shifted),
    "data-dependent": without_module(data_dependent),
    "changed view": without_module(changed_view),
    "product": without_module(lambda net, x, y: x * y),
    "gate": without_module(lambda net, x, y: x * torch.sigmoid(y)),
    "gate in place": without_module(lambda net, x, y: (x + 0.1).mul_(y.tanh())),
    "spread": without_module(lambda net, x, y: x / (1 + y.abs())),
    "where": without_module(lambda net, x, y: torch.where(x > 0, x, 0.1 * y)),
    "at least": without_module(lambda net, x, y: torch.maximum(x, torch.full_like(x, 0.1))),
    "padded": without_module(lambda net, x, y: functional.pad(x, (1, 1, 0, 0), value=0.3)[..., 1:7]),
    "folded": without_module(
        lambda net, x, y: functional.fold(functional.unfold(x, 3, padding=1), (6, 6), 3, padding=1) / 9
    ),
    "normalized vector": without_module(lambda net, x, y: functional.normalize(x, dim=1)),
    "dropout": without_module(lambda net, x, y: functional.dropout(x, 0.5, net.training)),
    "attention weights": without_module(lambda net, x, y: torch.softmax(x @ y.mT, -1) @ x),
    "batch of products": without_module(lambda net, x, y: torch.einsum("nchw,nchv->nchv", x, y)),
}


def check(seed: int) -> None:
    net, data = RandomNet(seed, STEPS), generated(seed, *SHAPE) + 0.2
    before = {name: value.clone() for name, value in net.state_dict().items()}
    expected = net(data).detach()
    composite = composite_for(net, data if seed % 2 else None).composite
    layers = [name for name in net.once if not seed % 3]
    with RelevanceFlow(net, composite, data, layers) as flow:
        assert_relevance_close(flow.prediction, expected, 1e-12)
        started = flow.output_relevance([0, 1])
        ledger = flow.ledger(started)
        size = abs(ledger.started) + abs(ledger.arrived) + sum(abs(entry.absorbed) for entry in ledger.entries)
        assert flow.notes == ()
        assert abs(ledger.unaccounted) <= 1e-9 * size
        relevance = generated(seed + 1, 3, *expected.shape)
        carried = flow.down(relevance)
        each = torch.cat([flow.down(relevance[k : k + 1]) for k in range(3)])
        assert_relevance_close(carried, each, 1e-10)
        regions = generated(seed + 2, 2, *data.shape)
        for layer in layers:
            if not flow.reaches("(output)", layer):
                continue
            arriving = flow.down(started, to=layer)[0]
            whole = flow.down(arriving[None], start=layer)
            masks = torch.eye(4, dtype=torch.float64)[:, None, :, None, None]
            masked = flow.down(arriving * masks, start=layer)
            scale = float(masked.abs().max())
            assert float((masked.sum(0) - whole[0]).abs().max()) <= 1e-10 * scale
            lifted = flow.up(regions, layer)
            down = flow.down(generated(seed + 3, 2, *arriving.shape), start=layer)
            products = (down * regions), (generated(seed + 3, 2, *arriving.shape) * lifted)
            assert abs(float(products[0].sum() - products[1].sum())) <= 1e-9 * float(products[0].abs().sum())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("seed", range(60))
def test_no_relevance_is_lost(seed: int) -> None:
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_no_relevance_is_lost_in_a_thousand_networks(block: int) -> None:
    for seed in range(100 + 100 * block, 200 + 100 * block):
        check(seed)


class EpsilonEverywhere(OperationComposite):
    """Epsilon at every linear operation, also at convolutions."""

    def linear_rule(self, module: nn.Module, name: str, first: bool) -> Hook:
        return Epsilon(epsilon=1e-13)


def check_epsilon(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(function_calls, "EPSILON", 1e-13)
    net, data = RandomNet(seed, PIECEWISE_LINEAR, biases=False), generated(seed, *SHAPE) + 0.2
    leaf = data.clone().requires_grad_()
    output = net(leaf)
    (gradient,) = torch.autograd.grad(output, leaf, torch.ones_like(output))
    with RelevanceFlow(net, EpsilonEverywhere(network_kind([LinearCall("", nn.Linear, False)])), data) as flow:
        assert_relevance_close(flow.down(flow.prediction[None])[0], data * gradient, 1e-4)


@pytest.mark.parametrize("seed", range(60))
def test_epsilon_is_input_times_gradient_without_biases(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An independent way to the same numbers (Ancona et al., "Towards better understanding of gradients", 2018)."""
    check_epsilon(seed, monkeypatch)


@pytest.mark.slow
def test_epsilon_is_input_times_gradient_in_a_thousand_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(100, 1100):
        check_epsilon(seed, monkeypatch)
