r"""Layer-wise relevance propagation of modern networks in plain torch, step by step and without autograd.

A network is computed as a chain of `Value`s. Each keeps the activations it was made of, and one function that carries
its relevance to them: the rule of that step, written out.

A linear step shares relevance in proportion to contributions, :math:`R_i = \sum_j c_{ji} R_j / (z_j + \epsilon\,
\mathrm{sign} z_j)`. What a bias, an embedding or another constant contributes is lost. What is not linear (an
activation, the denominator of a norm, attention weights, a gate) is taken as it is in this forward pass.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_input

STABILISER = 1e-6
_places = itertools.count()


@dataclass(eq=False)
class Value:
    """Activations, what they were made of, and the map of their relevance to it."""

    tensor: Tensor
    inputs: Sequence[Value] = ()
    down: Callable[[Tensor], Sequence[Tensor]] = lambda relevance: ()
    place: int = field(default_factory=lambda: next(_places))


def relevance_at(start: Value, relevance: Tensor, goals: Mapping[str, Value]) -> dict[str, Tensor]:
    """Carry relevance of `start` down; what arrives at each of some values."""
    arriving, found = {start: relevance}, {}
    names = {value: name for name, value in goals.items()}
    while arriving:
        value = max(arriving, key=lambda value: value.place)  # nothing above it is left
        total = arriving.pop(value)
        if value in names:
            found[names[value]] = total
        for below, part in zip(value.inputs, value.down(total), strict=True):
            arriving[below] = arriving[below] + part if below in arriving else part
    return found


def stabilised(values: Tensor) -> Tensor:
    """Values moved away from zero; zero counts as positive."""
    return values + torch.where(values >= 0, STABILISER, -STABILISER)


@dataclass(frozen=True)
class Convolution:
    """A convolution with weights of its own: `bias` may be None."""

    weight: Tensor
    bias: Tensor | None
    stride: Sequence[int]
    padding: Sequence[int]
    groups: int = 1

    def forward(self, data: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return functional.conv2d(data, weight, bias, self.stride, self.padding, 1, self.groups)

    def back(self, shape: torch.Size, weight: Tensor, values: Tensor) -> Tensor:
        return conv2d_input(shape, weight, values, self.stride, self.padding, 1, self.groups)


def epsilon_convolution(x: Value, layer: Convolution) -> Value:
    """R_i = a_i sum_j w_ji R_j / z_j."""
    z = layer.forward(x.tensor, layer.weight, layer.bias)

    def down(relevance: Tensor) -> list[Tensor]:
        return [x.tensor * layer.back(x.tensor.shape, layer.weight, relevance / stabilised(z))]

    return Value(z, [x], down)


def flat_convolution(x: Value, layer: Convolution) -> Value:
    """Every input that an output sees takes the same part."""
    ones = torch.ones_like(layer.weight)
    count = layer.forward(torch.ones_like(x.tensor), ones)

    def down(relevance: Tensor) -> list[Tensor]:
        return [layer.back(x.tensor.shape, ones, relevance / stabilised(count))]

    return Value(layer.forward(x.tensor, layer.weight, layer.bias), [x], down)


def plus_convolution(x: Value, layer: Convolution, with_bias: bool) -> Value:
    """Only contributions above zero count: R_i = sum_j c+_ji R_j / (sum_i c+_ji + b+_j)."""
    signs = [(x.tensor.clamp(min=0), layer.weight.clamp(min=0)), (x.tensor.clamp(max=0), layer.weight.clamp(max=0))]
    z = sum(layer.forward(data, weight) for data, weight in signs)
    if with_bias and layer.bias is not None:
        z = z + layer.bias.clamp(min=0)[:, None, None]

    def down(relevance: Tensor) -> list[Tensor]:
        shares = relevance / stabilised(z)
        return [sum(data * layer.back(data.shape, weight, shares) for data, weight in signs)]

    return Value(layer.forward(x.tensor, layer.weight, layer.bias), [x], down)


def plus_or_minus_convolution(x: Value, layer: Convolution, with_bias: bool) -> Value:
    """Positive outputs by contributions above zero, negative ones by those below: c+ or c- as in `plus_convolution`."""
    out = layer.forward(x.tensor, layer.weight, layer.bias)
    above, below = x.tensor.clamp(min=0), x.tensor.clamp(max=0)
    rising, falling = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
    bias = torch.zeros(len(layer.weight)) if layer.bias is None or not with_bias else layer.bias
    cases = [
        (out >= 0, [(above, rising), (below, falling)], bias.clamp(min=0)),
        (out < 0, [(above, falling), (below, rising)], bias.clamp(max=0)),
    ]

    def down(relevance: Tensor) -> list[Tensor]:
        found = torch.zeros_like(x.tensor)
        for chosen, signs, constant in cases:
            z = sum(layer.forward(data, weight) for data, weight in signs) + constant[:, None, None]
            shares = relevance * chosen / stabilised(z)
            found += sum(data * layer.back(data.shape, weight, shares) for data, weight in signs)
        return [found]

    return Value(out, [x], down)


def linear(x: Value, weight: Tensor, bias: Tensor | None) -> Value:
    """Epsilon over the last axis."""
    z = x.tensor @ weight.T
    if bias is not None:
        z = z + bias
    return Value(z, [x], lambda relevance: [x.tensor * (relevance / stabilised(z) @ weight)])


def total(x: Value, y: Value) -> Value:
    """A sum, in proportion to its summands."""
    z = x.tensor + y.tensor
    return Value(z, [x, y], lambda relevance: [part.tensor * relevance / stabilised(z) for part in (x, y)])


def shifted(x: Value, constant: Tensor) -> Value:
    """A constant is added, which takes its part."""
    z = x.tensor + constant
    return Value(z, [x], lambda relevance: [x.tensor * relevance / stabilised(z)])


def scaled(x: Value, factor: Tensor) -> Value:
    """A product with a gate, or a constant that is zero nowhere."""
    return Value(x.tensor * factor, [x], lambda relevance: [relevance])


def activated(x: Value, function: Callable[[Tensor], Tensor]) -> Value:
    """Element by element: relevance passes."""
    return Value(function(x.tensor), [x], lambda relevance: [relevance])


def moved(x: Value, function: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> Value:
    """Values change places; `back` moves them to where they were, without what was not among them."""
    return Value(function(x.tensor), [x], lambda relevance: [back(relevance)])


def averaged(x: Value) -> Value:
    """The mean over height and width, `[N, C, H, W]` -> `[N, C]`."""
    z = x.tensor.mean((2, 3))
    size = x.tensor[0, 0].numel()
    return Value(z, [x], lambda relevance: [x.tensor * (relevance / stabilised(z) / size)[..., None, None]])


def layer_norm(x: Value, weight: Tensor, bias: Tensor, epsilon: float) -> Value:
    """The deviation is a constant; what remains is linear: `(x - mean) * scale + bias`, over the last axis."""
    centred = x.tensor - x.tensor.mean(-1, keepdim=True)
    scale = weight / (centred.square().mean(-1, keepdim=True) + epsilon).sqrt()
    z = centred * scale + bias

    def down(relevance: Tensor) -> list[Tensor]:
        sent = scale * relevance / stabilised(z)
        return [x.tensor * (sent - sent.mean(-1, keepdim=True))]

    return Value(z, [x], down)


def attended(weights: Tensor, x: Value) -> Value:
    """Values mixed by constant attention weights: `[..., T, S]`, `[..., S, D]`."""
    z = weights @ x.tensor
    return Value(z, [x], lambda relevance: [x.tensor * (weights.mT @ (relevance / stabilised(z)))])
