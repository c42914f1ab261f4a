"""Convolutions whose gradient is a rule: where relevance is activation times gradient, it is that of the rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_CONVOLUTIONS = {
    functional.conv2d: ("stride", "padding", "dilation", "groups"),
    functional.conv_transpose2d: ("stride", "padding", "output_padding", "groups", "dilation"),
}


class Convolutions(TorchFunctionMode):
    """Runs convolutions so that their input times its gradient is relevance by gamma.

    A unit passes relevance on in proportion to `c + gamma c'`, where `c` are contributions to its output, and `c'`
    those among them that have its sign (Andéol et al., "Learning domain invariant representations by joint Wasserstein
    distance minimization", 2021).

    Parameters
    ----------
    gamma
        How much more they count.
    first_flat
        Whether in the first convolution all inputs count alike.
    last_epsilon
        The number of the convolution that has epsilon; None for no such convolution.
    """

    def __init__(self, gamma: float, *, first_flat: bool, last_epsilon: int | None) -> None:
        super().__init__()
        self.gamma, self.first_flat, self.last_epsilon = gamma, first_flat, last_epsilon
        self.count = 0

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function not in _CONVOLUTIONS:
            return function(*args, **kwargs)
        data, weight, bias, *sizes = args
        kwargs |= dict(zip(_CONVOLUTIONS[function], sizes, strict=False))
        place, self.count = self.count, self.count + 1
        output = function(data, weight, bias, **kwargs)
        if place == self.last_epsilon:
            return output

        def run(values: Tensor, weights: Tensor) -> Tensor:
            return function(values, weights, None, **kwargs)

        if place == 0 and self.first_flat:
            counted = run(data / data.detach(), torch.ones_like(weight))
            return _shared(output, counted, counted.detach())
        constants = torch.zeros_like(output) if bias is None else bias[:, None, None].expand_as(output)
        above, below = data * (data.detach() > 0), data * (data.detach() < 0)
        rising, falling = weight.clamp(min=0), weight.clamp(max=0)
        agreeing = torch.where(
            output.detach() > 0, run(above, rising) + run(below, falling), run(above, falling) + run(below, rising)
        )
        constant = torch.where(output.detach() > 0, constants.clamp(min=0), constants.clamp(max=0))
        counted = run(data, weight) + self.gamma * agreeing
        return _shared(output, counted, counted.detach() + constants + self.gamma * constant)


def _shared(output: Tensor, counted: Tensor, whole: Tensor) -> Tensor:
    """Return the output, with the gradient of what counts as a part of the whole."""
    part = counted * torch.where(whole == 0, 0, output / whole).detach()
    return output.detach() + part - part.detach()
