"""Derivatives of normalizations, written out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import InitVar, dataclass

import torch
from torch import Tensor

from crp.attribution.functions.operation import Down
from crp.attribution.norm_squares import Norm
from crp.attribution.stabilizing import stabilized_reciprocal, values_per_piece


@dataclass
class Normalization:
    r"""A normalization :math:`y = c(x)\, h(s)\, w + b`, whose shift :math:`b` gets no relevance.

    :math:`c(x)` is :math:`x`, or its difference to the mean. :math:`s` is the mean of :math:`c(x)^2` and
    :math:`h = (s + \epsilon)^{-1/2}`; or it is the sum and :math:`h = 1 / \max(\sqrt s, \epsilon)`. With
    :math:`g = R w / y` and one part :math:`k` of :math:`s` for each value (1 for a sum), relevance at :math:`x` is

    .. math::
        x \odot \left(C(h g) + 2 k\, h'(s)\, c(x) \sum g\, c(x)\right),

    where :math:`C` takes the mean away if :math:`c` does. Without the second summand, the denominator is a constant.

    Attributes
    ----------
    data, output
        :math:`x` and :math:`y`.
    axes
        The axes of the mean or sum; with `groups`, those of `[N, groups, C / groups, *S]`.
    weight
        :math:`w`, as it is broadcast.
    epsilon
        :math:`\epsilon`.
    groups
        The number of groups of channels.
    centred
        Whether :math:`c` takes the mean away.
    summed
        Whether :math:`s` is the sum.
    """

    data: Tensor
    output: InitVar[Tensor]
    axes: Sequence[int]
    weight: Tensor | None
    epsilon: float
    groups: int | None = None
    centred: bool = False
    summed: bool = False

    def __post_init__(self, output: Tensor) -> None:
        self.data, self.weight = self.data.detach(), None if self.weight is None else self.weight.detach()
        axes = self.data.ndim + (self.groups is not None)
        self._leading = 1 if self.groups else min(axis % axes for axis in self.axes)
        self.axes = [axis % axes - axes for axis in self.axes]
        size = math.prod(self._grouped(self.data).shape[axis] for axis in self.axes)
        self._part = 1.0 if self.summed else 1 / size
        self._own_part = self._part * (1 - 1 / size if self.centred else 1)
        self._reciprocal = stabilized_reciprocal(output)

    def with_constant_denominator(self) -> Down:
        """Return the rule with the denominator as a constant."""

        def down(relevance: Tensor) -> Sequence[Tensor]:
            parts = []
            for values, gradient in self._pieces(relevance):
                _, scale, _ = self._of_input(values)
                parts.append(self._without_mean(gradient * scale) * values)
            return (self._joined(parts),)

        return down

    def with_derivative(self, norm: Norm) -> Down:
        """Return gradient times input, which also says what each value's square does, to `norm`."""

        def down(relevance: Tensor) -> Sequence[Tensor]:
            parts, through = [], []
            for values, gradient in self._pieces(relevance):
                centred, scale, slope = self._of_input(values)
                through.append(slope * (gradient * centred).sum(self.axes, keepdim=True))
                gradient = self._without_mean(gradient * scale)
                parts.append(torch.addcmul(gradient, centred, through[-1], value=2 * self._part) * values)
            norm.arriving = lambda: self._squares(through)
            return (self._joined(parts),)

        return down

    def _squares(self, through: Sequence[Tensor]) -> Tensor:
        """Compute what the square of each value does, of the derivatives towards :math:`s`."""
        squares = [
            values.square() * (slope * self._own_part)
            for (values,), slope in zip(self._split(self.data), through, strict=True)
        ]
        return self._joined(squares)

    def _pieces(self, relevance: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over pieces of :math:`x` and :math:`g` that stay in the cache of a CPU."""
        for values, own, reciprocal in self._split(self.data, relevance, self._reciprocal):
            gradient = own * reciprocal
            yield values, gradient if self.weight is None else gradient * self.weight

    def _of_input(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute :math:`c(x)`, :math:`h(s)` and :math:`h'(s)`."""
        centred = self._without_mean(values)
        squares = centred.square()
        if not self.summed:
            scale = (squares.mean(self.axes, keepdim=True) + self.epsilon).rsqrt()
            return centred, scale, scale.pow(3) * -0.5
        root = squares.sum(self.axes, keepdim=True).sqrt()
        scale = root.clamp_min(self.epsilon).reciprocal()
        return centred, scale, torch.where(root > self.epsilon, scale.pow(3) * -0.5, 0)

    def _without_mean(self, values: Tensor) -> Tensor:
        return values - values.mean(self.axes, keepdim=True) if self.centred else values

    def _grouped(self, values: Tensor) -> Tensor:
        return values if self.groups is None else values.unflatten(1, (self.groups, -1))

    def _split(self, *tensors: Tensor) -> Iterator[Sequence[Tensor]]:
        """Split tensors of the input's shape along the axes before those of the norm, which become one."""
        rows = [
            self._grouped(values).flatten(0, self._leading - 1) if self._leading else values[None] for values in tensors
        ]
        size = max(1, values_per_piece(self.data) * len(rows[0]) // max(1, self.data.numel()))
        return zip(*(values.split(size) for values in rows), strict=True)

    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).reshape(self.data.shape)
