"""Functions that do in one call what several others do: the others run, each under its own rule."""

from __future__ import annotations

import torch
from torch import Tensor

from crp.attribution.functions.function_calls import Call


def addcmul(call: Call) -> Tensor:
    """Compute a sum with a product, as timm's affine layers do."""
    with call.rules:
        factors = call.argument(1, "tensor1") * call.argument(2, "tensor2")
        return call.argument(0, "input") + _times(factors, call.kwargs.get("value", 1))


def addcdiv(call: Call) -> Tensor:
    """Compute a sum with a quotient."""
    with call.rules:
        ratio = call.argument(1, "tensor1") / call.argument(2, "tensor2")
        return call.argument(0, "input") + _times(ratio, call.kwargs.get("value", 1))


def lerp(call: Call) -> Tensor:
    """Compute a weighted mean of two tensors."""
    first, last, weight = call.argument(0, "input"), call.argument(1, "end"), call.argument(2, "weight")
    with call.rules:
        return first * (1 - weight) + last * weight


def glu(call: Call) -> Tensor:
    """Multiply one half of the channels by a gate made of the other half."""
    with call.rules:
        signal, gate = torch.chunk(call.argument(0, "input"), 2, call.argument(1, "dim", -1))
        return signal * torch.sigmoid(gate)


def spread_and_mean(call: Call) -> tuple[Tensor, Tensor]:
    """Compute the variance, or its root, which only scales, and the mean."""
    spread = torch.std if call.name == "std_mean" else torch.var
    axes = call.argument(1, "dim")
    if isinstance(axes, bool):  # `unbiased`, the older signature
        axes = None
    with call.rules:
        mean = torch.mean(call.argument(0, "input"), dim=axes, keepdim=call.argument(3, "keepdim", False))
        return spread(*call.args, **call.kwargs), mean


def _times(values: Tensor, factor: float) -> Tensor:
    return values if factor == 1 else values * factor
