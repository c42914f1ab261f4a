"""Linear operators as autograd functions whose derivative is the adjoint."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class LinearOperator(Protocol):
    """A linear operator that can also be applied in the other direction."""

    def propagate(self, values: Tensor, upward: bool) -> Tensor:
        """Apply the operator (relevance, downward) or its adjoint (regions, upward).

        `values` is `[N, C, *S]`, or `[K, N, C, *S]` for `K` conditions.
        """


class LinearFunction(torch.autograd.Function):
    """`operator.propagate(values, upward)`; its backward pass is the same call in the other direction.

    Under `torch.vmap`, which propagates several conditions at once, the operator receives all of them as
    `[K, N, C, *S]`. By default, vmap would copy the factors that belong to the samples once per condition.
    """

    @staticmethod
    def forward(values: Tensor, operator: LinearOperator, upward: bool) -> Tensor:
        """Apply the operator."""
        return operator.propagate(values, upward)

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor, LinearOperator, bool], output: Tensor) -> None:
        """Save the operator and the direction."""
        _, ctx.operator, ctx.upward = inputs

    @staticmethod
    def backward(ctx, values: Tensor) -> tuple[Tensor, None, None]:
        """Apply the adjoint."""
        return LinearFunction.apply(values, ctx.operator, not ctx.upward), None, None

    @staticmethod
    def vmap(info, axes: tuple, values: Tensor, operator: LinearOperator, upward: bool) -> tuple[Tensor, int]:
        """Apply the operator to all conditions at once."""
        return LinearFunction.apply(values.movedim(axes[0], 0), operator, upward), 0
