r"""Rules of normalizations: the denominator is a constant, and what remains is a linear map.

If relevance passed a layer norm unchanged, it would grow by orders of magnitude in trained transformers (Ali et al.,
"XAI for Transformers: Better Explanations through Conservative Propagation", 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor

from crp.attribution.functions.elementary import linearized
from crp.attribution.functions.function_calls import Call
from crp.attribution.scaling import Scaling


def layer_norm(call: Call) -> Tensor:
    r"""Linearize :math:`(x - \mu) / \sigma \cdot w + b` over the last axes, with a constant :math:`\sigma`."""
    data = call.argument(0, "input")
    axes = tuple(range(data.ndim - len(call.argument(1, "normalized_shape")), data.ndim))
    weight, epsilon = call.argument(2, "weight"), call.argument(4, "eps", 1e-5)
    with torch.no_grad():
        scale = (data.detach().var(axes, correction=0, keepdim=True) + epsilon).rsqrt()
        scale = scale if weight is None else scale * weight

    return linearized(call, data, lambda leaf: (leaf - leaf.mean(axes, keepdim=True)) * scale, call.run())


def group_norm(call: Call) -> Tensor:
    """Linearize as `layer_norm`, over groups of channels and space."""
    return _by_groups(call, call.argument(1, "num_groups"), call.argument(2, "weight"), call.argument(4, "eps", 1e-5))


def instance_norm(call: Call) -> Tensor:
    """Linearize as `group_norm` with one channel in a group, or with running statistics as `batch_norm`."""
    weight, bias, epsilon = call.argument(3, "weight"), call.argument(4, "bias"), call.argument(7, "eps", 1e-5)
    if not call.argument(5, "use_input_stats", True):
        mean, variance = call.argument(1, "running_mean"), call.argument(2, "running_var")
        return _with_constant_statistics(call, mean, variance, weight, bias, epsilon)
    return _by_groups(call, call.argument(0, "input").shape[1], weight, epsilon)


def batch_norm(call: Call) -> Tensor:
    r"""Use the composite's rule for :math:`(x - \mu) / \sigma \cdot w + b` with constant statistics, a `Scaling`.

    Without running statistics, those of the batch are constants, too: no relevance crosses from one sample to another.
    """
    mean, variance = call.argument(1, "running_mean"), call.argument(2, "running_var")
    if variance is None or call.argument(5, "training", False):
        channels = call.argument(0, "input").detach().transpose(0, 1).flatten(1)
        mean, variance = channels.mean(1), channels.var(1, correction=0)
    weight, bias = call.argument(3, "weight"), call.argument(4, "bias")
    return _with_constant_statistics(call, mean, variance, weight, bias, call.argument(7, "eps", 1e-5))


def vector_norm(call: Call) -> Tensor:
    """Pass relevance through a division by a norm of the vector (RMS norm, `normalize`), which is a constant."""
    output, data = call.run(), call.data[0]
    return call.ruled(output, [data], lambda relevance: (relevance,))


def _by_groups(call: Call, groups: int, weight: Tensor | None, epsilon: float) -> Tensor:
    data = call.argument(0, "input")
    ones = [1] * (data.ndim - 2)
    factor = None if weight is None else weight.detach().view(-1, *ones)
    grouped = data.detach().unflatten(1, (groups, -1)).flatten(2)
    scale = (grouped.var(-1, correction=0, keepdim=True) + epsilon).rsqrt()

    def function(leaf: Tensor) -> Tensor:
        values = leaf.unflatten(1, (groups, -1)).flatten(2)
        values = ((values - values.mean(-1, keepdim=True)) * scale).view(leaf.shape)
        return values if factor is None else values * factor

    return linearized(call, data, function, call.run())


def _with_constant_statistics(
    call: Call, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float
) -> Tensor:
    data = call.argument(0, "input")
    with torch.no_grad():
        scale = (variance + epsilon).rsqrt()
        scale = scale if weight is None else scale * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        ruled = call.rules.ruled_module(Scaling(scale.to(data.dtype), shift.to(data.dtype)))
    ruled.original = lambda data: call.run()  # the model's own output, to the last digit
    return ruled.forward(data)
