"""Operations whose units read a single value each."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crp.attribution.observation import is_depthwise


class Scaling(nn.Module):
    """Multiply each channel by a weight and add a shift: a batch norm with constant statistics.

    Parameters
    ----------
    weight, bias
        `[C]`.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)

    def _get_name(self) -> str:
        return "batch_norm"

    def forward(self, data: Tensor) -> Tensor:
        """Scale `[N, C, *S]`."""
        ones = [1] * (data.ndim - 2)
        return torch.addcmul(self.bias.view(-1, *ones), data, self.weight.view(-1, *ones))


def reads_one_value(module: nn.Module) -> bool:
    """Return whether each unit reads one value: a `Scaling`, or a depthwise convolution with a kernel of size 1."""
    return isinstance(module, Scaling) or (is_depthwise(module) and set(module.kernel_size) == {1})
