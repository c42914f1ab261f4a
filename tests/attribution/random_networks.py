"""Random small networks: a chain of random steps on `[N, 4, 6, 6]`, each of which may read any earlier tensor.

Steps that depend on the data compare with a margin, so that rounding decides nothing.

Every network can also be run *by hand*. Then gates, attention weights, divisors and the slopes of activations are
constants, and a product of two signals is the mean of two products with a constant. The input times the gradient of
that is what LRP with epsilon everywhere gives for a vanishing epsilon (Ancona et al., "Towards better understanding of
gradients", 2018; Ali et al., "XAI for Transformers", 2022), computed by autograd alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

SHAPE = (2, 4, 6, 6)
Step = Callable[["RandomNet", Tensor, Tensor], Tensor]


def generated(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class RandomNet(nn.Module):
    """A chain of random steps, and a head.

    Attributes
    ----------
    once
        Names of modules that are called exactly once, in that order.
    by_hand
        Whether what has no relevance is taken as a constant.
    """

    def __init__(self, seed: int, kinds: Iterable[str]) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.draw, self.by_hand = random.Random(seed), False
        self.parts: dict[str, nn.Module] = {}
        self.once: list[str] = []
        self.steps: list[tuple[Step, int]] = []
        names = [self.draw.choice(list(kinds)) for _ in range(self.draw.randint(3, 8))]
        for place, name in enumerate(["convolution", *names]):
            self.steps.append((STEPS[name](self), self.draw.randint(0, place)))
        self.head = self.draw.choice(["mean", "flatten", "convolution"])
        width = 144 if self.head == "flatten" else 4
        self.add("classifier", nn.Conv2d(4, 3, 1) if self.head == "convolution" else nn.Linear(width, 3))
        # registered in another order than called
        for name in self.draw.sample(sorted(self.parts), len(self.parts)):
            self.add_module(name, self.parts[name])
        self.parts = {}
        for parameter in self.parameters():
            parameter.data.copy_(generated(self.draw.randint(0, 10**6), *parameter.shape))
            parameter.data.mul_(0.2 if parameter.ndim == 1 else parameter[0].numel() ** -0.5)
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

    def constant(self, values: Tensor) -> Tensor:
        """What gets no relevance."""
        return values.detach() if self.by_hand else values

    def activated(self, function: Callable[[Tensor], Tensor], data: Tensor) -> Tensor:
        """Apply a function element by element, through which relevance passes."""
        if not self.by_hand or isinstance(function, nn.ReLU):
            return function(data)
        slope = function(data.detach().clone()) / data.detach()
        return data * torch.where(data == 0, torch.zeros_like(slope), slope)

    def multiplied(self, function: Callable[[Tensor, Tensor], Tensor], one: Tensor, other: Tensor) -> Tensor:
        """Multiply two signals."""
        if not self.by_hand:
            return function(one, other)
        return (function(one, other.detach()) + function(one.detach(), other)) / 2


def convolution(net: RandomNet) -> Step:
    groups = net.draw.choice([1, 1, 1, 4])
    name = net.add("conv", nn.Conv2d(4, 4, 3, padding=1, groups=groups))
    net.once.append(name)
    return lambda net, x, y: getattr(net, name)(x)


def any_convolution(net: RandomNet) -> Step:
    """Grouped, dilated, strided or transposed; of values that are anything, not negative, zero in part or negative.

    What reads it is a ReLU, one in place, one beside another reader, or something else.
    """
    options = [
        {"groups": 2, "padding": 1}, {"dilation": 2, "padding": 2}, {"stride": 2, "padding": 1},
        {"stride": 3, "padding": 2, "dilation": 2, "groups": 2, "bias": False}, {"padding": "same"},
        {"padding": 1, "padding_mode": "circular"}, {"padding": 0}, {"padding": 1, "bias": False},
    ]  # fmt: skip
    given = net.draw.choice([
        {"padding": 1}, {"stride": 2, "groups": 2}, {"stride": 2, "padding": 1, "output_padding": 1, "dilation": 2},
    ])  # fmt: skip
    if net.draw.random() < 0.7:
        name = net.add("conv", nn.Conv2d(4, 4, 3, **net.draw.choice(options)))
    else:
        name = net.add("conv", nn.ConvTranspose2d(4, 4, 3, **given))
    before = net.draw.choice([
        lambda x: x, torch.relu, lambda x: torch.relu(x - 0.5), lambda x: -torch.relu(x), lambda x: -torch.relu(-x),
        lambda x: x.contiguous(memory_format=torch.channels_last),
    ])  # fmt: skip
    after = net.draw.choice([
        lambda x: x, torch.relu, lambda x: functional.relu(x, inplace=True), lambda x: torch.relu(x) - 0.3 * x,
        lambda x: functional.max_pool2d(x, 3, 1, 1).relu(), lambda x: torch.relu(x) + torch.relu(-x),
        lambda x: torch.cat([x.relu()[:, :2], x[:, :2]], 1), lambda x: x.relu().neg(),
    ])  # fmt: skip

    def step(net: RandomNet, x: Tensor, y: Tensor) -> Tensor:
        found = after(getattr(net, name)(before(x)))
        return found if found.shape == x.shape else functional.interpolate(found, size=(6, 6))

    return step


def convolution_twice(net: RandomNet) -> Step:
    name = net.add("repeated", nn.Conv2d(4, 4, 1))
    return lambda net, x, y: getattr(net, name)(functional.relu(getattr(net, name)(x)))


def repeated_by_the_data(net: RandomNet) -> Step:
    """A convolution and its norm, called once or twice."""
    conv, norm = net.add("loop", nn.Conv2d(4, 4, 1)), net.add("norm", nn.BatchNorm2d(4))

    def step(net: RandomNet, x: Tensor, y: Tensor) -> Tensor:
        for _ in range(1 + int(x.sum() > y.sum() + 0.1)):
            x = functional.relu(getattr(net, norm)(getattr(net, conv)(x)), inplace=True)
        return x

    return step


def tied(net: RandomNet) -> Step:
    first, second = (net.add("tied", nn.Conv2d(4, 4, 1)) for _ in range(2))
    net.parts[second].weight = net.parts[first].weight
    norm = net.add("norm", nn.BatchNorm2d(4))
    return lambda net, x, y: getattr(net, norm)(getattr(net, first)(x)) + getattr(net, second)(y)


def functional_convolution(net: RandomNet) -> Step:
    name = net.add("hidden", nn.Conv2d(4, 4, 3))
    return lambda net, x, y: functional.conv2d(x, (own := getattr(net, name)).weight, own.bias, padding=1)


def normalized(net: RandomNet) -> Step:
    """A batch norm after its convolution, maybe one of two convolutions, or of a result that is read again."""
    shared, again = net.draw.random() < 0.3, net.draw.random() < 0.3
    first, second = (net.add("conv", nn.Conv2d(4, 4, 1, bias=net.draw.random() < 0.5)) for _ in range(2))
    norm = net.add("norm", nn.BatchNorm2d(4, eps=net.draw.choice([1e-5, 0.1])))

    def step(net: RandomNet, x: Tensor, y: Tensor) -> Tensor:
        before = getattr(net, first)(x)
        after = getattr(net, norm)(before)
        if shared:
            after = getattr(net, norm)(getattr(net, second)(after.relu()))
        return after + before if again else after

    return step


def norm_of_either(net: RandomNet) -> Step:
    """The data decide which of two convolutions the norm reads, and which of them is read again."""
    first, second = (net.add("conv", nn.Conv2d(4, 4, 1)) for _ in range(2))
    norm, again = net.add("norm", nn.BatchNorm2d(4)), net.draw.random() < 0.5

    def step(net: RandomNet, x: Tensor, y: Tensor) -> Tensor:
        one, other = getattr(net, first)(x), getattr(net, second)(x)
        if x.mean() > 0.05:
            one, other = (one, one) if again else (other, one)
        return getattr(net, norm)(one) + other

    return step


def block(net: RandomNet) -> Step:
    """A residual block whose children are registered in any order; its ReLU is called twice."""
    children = {"c": nn.Conv2d(4, 4, 3, padding=1, bias=False), "r": nn.ReLU(net.draw.random() < 0.5),
                "n": nn.BatchNorm2d(4), "d": nn.Conv2d(4, 4, 1)}  # fmt: skip
    order = net.draw.sample(sorted(children), 4)
    with torch.no_grad():
        children["n"].running_var.uniform_(0.5, 2)
    name = net.add("block", nn.ModuleDict({key: children[key] for key in order}))

    def step(net: RandomNet, x: Tensor, y: Tensor) -> Tensor:
        own = getattr(net, name)
        after = own["d"](own["r"](own["n"](own["c"](x))))
        after += x
        return own["r"](after)

    return step


def centred(x: Tensor, axes: tuple[int, ...], epsilon: float) -> Tensor:
    """Divide by the deviation, as by a constant."""
    return (x - x.mean(axes, keepdim=True)) / (x.detach().var(axes, correction=0, keepdim=True) + epsilon).sqrt()


def norm_alone(net: RandomNet) -> Step:
    kind = net.draw.choice([nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.LayerNorm(6)])
    name = net.add("norm", kind)

    def step(net: RandomNet, x: Tensor, y: Tensor) -> Tensor:
        own = getattr(net, name)
        if not net.by_hand or isinstance(own, nn.BatchNorm2d):
            return own(x)
        if isinstance(own, nn.LayerNorm):
            return centred(x, (3,), own.eps) * own.weight + own.bias
        grouped = centred(x.unflatten(1, (2, 2)), (2, 3, 4), own.eps).flatten(1, 2)
        return grouped * own.weight[:, None, None] + own.bias[:, None, None]

    return step


def activation(net: RandomNet) -> Step:
    kinds = [nn.ReLU(), nn.ReLU(inplace=True), nn.GELU(), nn.SiLU(), nn.LeakyReLU(0.1), nn.ELU()]
    name = net.add("activation", net.draw.choice(kinds))
    return lambda net, x, y: net.activated(getattr(net, name), x)


def attending(net: RandomNet) -> Step:
    name = net.add("attention", nn.MultiheadAttention(4, 2, batch_first=True))

    def step(net: RandomNet, x: Tensor, y: Tensor) -> Tensor:
        own, tokens = getattr(net, name), x.flatten(2).transpose(1, 2)
        if not net.by_hand:
            mixed = own(tokens, tokens, tokens)[0]
        else:
            parts = functional.linear(tokens, own.in_proj_weight, own.in_proj_bias).chunk(3, 2)
            query, key, value = (part.unflatten(2, (2, 2)).transpose(1, 2) for part in parts)
            weights = (query @ key.mT / 2**0.5).softmax(-1).detach()
            mixed = own.out_proj((weights @ value).transpose(1, 2).flatten(2))
        return (tokens + mixed).transpose(1, 2).view(x.shape)

    return step


def squeezed(net: RandomNet) -> Step:
    name = net.add("squeeze", nn.Linear(4, 4))
    return lambda net, x, y: x * net.constant(getattr(net, name)(x.mean((2, 3))).sigmoid())[..., None, None]


def joined(net: RandomNet) -> Step:
    name = net.add("joined", nn.Conv2d(8, 4, 1))
    return lambda net, x, y: getattr(net, name)(torch.cat([x, y], 1))


def overwritten_region(net: RandomNet, x: Tensor, y: Tensor) -> Tensor:
    x = x.clone()
    x[:, 1:3] = y[:, :2]
    x[:, 0, :2] = 0.5
    return x


def shifted(net: RandomNet, x: Tensor, y: Tensor) -> Tensor:
    result = torch.zeros_like(x)
    result[:, :, 1:] = x[:, :, :-1]
    result += y
    return result


def data_dependent(net: RandomNet, x: Tensor, y: Tensor) -> Tensor:
    if x.sum() > y.abs().sum() + 0.1:
        return x + 2 * y
    return torch.add(y, x, alpha=-0.5)


def changed_view(net: RandomNet, x: Tensor, y: Tensor) -> Tensor:
    x = x + 0.1
    x[:, :2] += y[:, 2:]
    functional.relu_(x[:, 2:])
    return x


def reshaped_in_place(net: RandomNet, x: Tensor, y: Tensor) -> Tensor:
    x = x * 2
    x.unsqueeze_(1)
    x.transpose_(3, 4)
    return (x + y.unsqueeze(1)).squeeze_(1)


STEPS: dict[str, Callable[[RandomNet], Step]] = {
    "convolution": convolution,
    "any convolution": any_convolution,
    "functional convolution": functional_convolution,
    "convolution twice": convolution_twice,
    "repeated by the data": repeated_by_the_data,
    "tied": tied,
    "joined": joined,
    "normalized": normalized,
    "norm of either": norm_of_either,
    "block": block,
    "norm alone": norm_alone,
    "activation": activation,
    "attending": attending,
    "squeezed": squeezed,
    **{
        name: lambda net, step=step: step
        for name, step in {
            "max pool": lambda net, x, y: functional.max_pool2d(x, 3, 1, 1),
            "average pool": lambda net, x, y: functional.avg_pool2d(x, 3, 1, 1),
            "sum": lambda net, x, y: x + y,
            "difference": lambda net, x, y: 0.7 * x - y,
            "relu": lambda net, x, y: x.relu(),
            "relu in place": lambda net, x, y: functional.relu(x + y, inplace=True),
            "mean": lambda net, x, y: x + x.mean((2, 3), keepdim=True),
            "split": lambda net, x, y: torch.cat([x.chunk(2, 1)[1], y.split([1, 3], 1)[1][:, 1:]], 1),
            "transposed": lambda net, x, y: x.transpose(2, 3).contiguous().view(2, 4, 36).view(x.shape),
            "larger": lambda net, x, y: torch.maximum(x, y),
            "overwritten region": overwritten_region,
            "shifted": shifted,
            "data-dependent": data_dependent,
            "changed view": changed_view,
            "reshaped in place": reshaped_in_place,
            "product": lambda net, x, y: net.multiplied(torch.mul, x, y),
            "gate": lambda net, x, y: x * net.constant(torch.sigmoid(y)),
            "gate in place": lambda net, x, y: (x + 0.1).mul_(net.constant(y.tanh())),
            "gated tanh": lambda net, x, y: net.activated(torch.tanh, x) * net.constant(torch.sigmoid(y)),
            "spread": lambda net, x, y: x / net.constant(1 + y.abs()),
            "where": lambda net, x, y: torch.where(x > 0, x, 0.1 * y),
            "at least": lambda net, x, y: torch.maximum(x, torch.full_like(x, 0.1)),
            "padded": lambda net, x, y: functional.pad(x, (1, 1, 0, 0), value=0.3)[..., 1:7],
            "folded": lambda net, x, y: functional.fold(functional.unfold(x, 3, padding=1), (6, 6), 3, padding=1) / 9,
            "normalized vector": lambda net, x, y: x / net.constant(x.norm(dim=1, keepdim=True) + 1e-3),
            "root mean square": lambda net, x, y: x * net.constant((x.square().mean(3, True) + 1e-3).rsqrt()),
            "dropout": lambda net, x, y: functional.dropout(x, 0.5, net.training),
            "attention weights": lambda net, x, y: net.constant(torch.softmax(x @ y.mT, -1)) @ x,
            "batch of products": lambda net, x, y: net.multiplied(
                lambda x, y: torch.einsum("nchw,nchv->nchv", x, y), x, y
            ),
        }.items()
    },
}
