"""Batch norms merged into the linear module before them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def merged_parameters(linear: nn.Module, norm: nn.Module) -> tuple[Tensor, Tensor]:
    r"""Compute weight and bias of a linear module followed by a batch norm.

    :math:`w' = w\gamma/\sigma` and :math:`b' = (b - \mu)\gamma/\sigma + \beta` with :math:`\sigma^2 = v + \epsilon`.
    zennit's merged norm still divides by :math:`\sqrt{1 + \epsilon}`, which changes Inception v3's logits by 10 %.

    Parameters
    ----------
    linear
        A linear, convolutional or (with one group) transposed convolutional module.
    norm
        A batch norm with running statistics.

    Returns
    -------
    tuple of two Tensors
        Weight and bias, for use in place of those of `linear`. The batch norm is then the identity.
    """
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    if norm.bias is not None:
        shift = shift + norm.bias
    along = [1] * linear.weight.ndim
    along[1 if getattr(linear, "transposed", False) else 0] = -1
    bias = shift if linear.bias is None else linear.bias * scale + shift
    return (linear.weight * scale.view(along)).detach(), bias.detach()


def merge(linear: nn.Module, norm: nn.Module, parameters: Sequence[Tensor]) -> None:
    """Put merged parameters on the copies of both modules; the batch norm becomes the identity.

    What a subclass computes beside the norm (timm's `BatchNormAct2d`: an activation) still runs.
    """
    for name, value in zip(("weight", "bias"), parameters, strict=True):
        linear._parameters[name] = nn.Parameter(value, requires_grad=False)
    if type(norm).forward is nn.modules.batchnorm._BatchNorm.forward:
        norm.forward = _identity
        return
    # the function is called with the statistics 0 and 1, which leave its input as it is
    norm._buffers["running_mean"] = torch.zeros_like(norm.running_mean)
    norm._buffers["running_var"] = torch.full_like(norm.running_var, 1 - norm.eps)
    norm._parameters["weight"] = norm._parameters["bias"] = None


def _identity(data: Tensor) -> Tensor:
    return data
