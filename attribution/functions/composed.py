"""Functions that do in one call what several others do: the others run, each under its own rule."""

from __future__ import annotations

import torch
from torch import Tensor

from crp.attribution.functions.elementary import matrix_product
from crp.attribution.functions.function_calls import Call

# Names of the factors of a product that is added to `input`.
_FACTORS = {
    "addmm": ("mat1", "mat2"),
    "addmv": ("mat", "vec"),
    "addr": ("vec1", "vec2"),
    "addbmm": ("batch1", "batch2"),
    "baddbmm": ("batch1", "batch2"),
}


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


def added_product(call: Call) -> Tensor:
    """Compute the sum of a tensor and a matrix product; a constant that is added leaves it a `matrix_product`."""
    summand = call.argument(0, "input")
    if not summand.requires_grad or len(call.data) == 1:
        return matrix_product(call)
    beta, names = call.kwargs.get("beta", 1), _FACTORS[call.name]
    factors = [call.argument(place, name) for place, name in enumerate(names, 1)]
    with call.rules:
        product = factors[0][:, None] * factors[1] if call.name == "addr" else torch.matmul(*factors)
        if call.name == "addbmm":
            product = product.sum(0)
        product = _times(product, call.kwargs.get("alpha", 1))
        return _times(summand, beta) + product if beta else product


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
