"""Linear and convolutional functions, under the composite's rule for a module of that kind."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from crp.attribution.functions.elementary import matrix_product
from crp.attribution.functions.function_calls import Call
from crp.attribution.observation import LINEAR_FUNCTIONS

LAYERS = {function.__name__: kind for function, kind in LINEAR_FUNCTIONS.items()}


def linear_layer(call: Call) -> Tensor:
    """Use the composite's rule for a module of that kind; with weights from data, or of one unit, `matrix_product`."""
    data, weight, bias = (call.argument(place, name) for place, name in enumerate(("input", "weight", "bias")))
    if len(call.data) != 1 or not data.requires_grad or weight.ndim == 1:
        return matrix_product(call)
    module = _stand_in(call, weight, bias)
    return call.rules.ruled_module(module).forward(data)


def _stand_in(call: Call, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """Build a module that computes the function."""
    kind = LAYERS[call.name]
    module = kind.__new__(kind)
    nn.Module.__init__(module)
    for name, value in (("weight", weight), ("bias", bias)):
        module.register_parameter(name, None if value is None else nn.Parameter(value.detach(), requires_grad=False))
    if kind is nn.Linear:
        module.in_features, module.out_features = weight.shape[1], weight.shape[0]
        return module.eval()
    count = weight.ndim - 2

    def sizes(place: int, name: str, default: int) -> Any:
        value = call.argument(place, name, default)
        return value if isinstance(value, str) else tuple(value) if not isinstance(value, int) else (value,) * count

    transposed = call.name.startswith("conv_transpose")
    module.kernel_size, module.padding_mode = tuple(weight.shape[2:]), "zeros"
    module.stride, module.padding = sizes(3, "stride", 1), sizes(4, "padding", 0)
    module.output_padding = sizes(5, "output_padding", 0) if transposed else (0,) * count
    module.groups = call.argument(6, "groups", 1)
    module.dilation = sizes(7 if transposed else 5, "dilation", 1)
    module.transposed = transposed
    if transposed:
        module.in_channels, module.out_channels = weight.shape[0], weight.shape[1] * module.groups
    else:
        module.in_channels, module.out_channels = weight.shape[1] * module.groups, weight.shape[0]
    return module.eval()
