"""Functions that compute each position of `[N, C, *S]` from the same position, but for statistics of norms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crp.attribution.functions.function_calls import function_name
from crp.attribution.functions.table import RULES

# Rules of what is computed element by element, and of norms.
_RULES = {
    RULES[name]
    for name in (
        "relu", "gelu", "sigmoid", "tanh", "relu6", "hardtanh", "clamp", "clamp_min", "sign", "add", "mul", "div",
        "addcmul", "addcdiv", "lerp", "to", "detach", "batch_norm", "group_norm", "instance_norm", "layer_norm",
    )
}  # fmt: skip
_NAMES = {name for name, rule in RULES.items() if rule in _RULES} | {
    "neg", "negative", "where", "masked_fill", "maximum", "minimum", "logical_not", "logical_and", "logical_or", "gt",
    "lt", "ge", "le", "eq", "ne", "isnan", "round", "floor", "ceil", "trunc", "exp2", "sinc", "erfc", "logit",
    "requires_grad", "requires_grad_", "contiguous", "clone", "positive", "dropout", "dropout1d", "dropout2d",
    "dropout3d", "alpha_dropout", "feature_alpha_dropout", "zeros_like", "ones_like", "local_response_norm", "rms_norm",
    "complex", "real", "imag", "angle", "data", "broadcast_to", "expand", "expand_as",
    # of the same size, whatever is resized
    "interpolate", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool2d", "adaptive_max_pool3d", "reshape", "view", "flatten", "unflatten",
}  # fmt: skip
# Those of them that leave each value where it is in a tensor of any axes, and others that do.
_IN_ORDER = _NAMES - {"expand", "expand_as", "broadcast_to", "reshape", "view", "flatten", "unflatten"} | {
    "softmax", "log_softmax", "softmin", "normalize", "cumsum", "max", "min", "glu",
    # what NaN in their arguments does not show
    "fmax", "fmin", "isfinite", "isinf", "signbit", "heaviside", "logical_xor", "floor_divide",
}  # fmt: skip
# Those along axes, and where their argument `dim` stands: they keep places along samples and channels.
_ALONG = {
    "cat": 1, "concat": 1, "concatenate": 1, "chunk": 2, "split": 2, "tensor_split": 2, "narrow": 1, "sum": 1,
    "mean": 1, "amax": 1, "amin": 1, "max": 1, "min": 1, "std": 1, "var": 1, "norm": 2, "softmax": 1, "log_softmax": 1,
    "softmin": 1, "glu": 1, "normalize": 2, "flip": 1, "roll": 2, "index_select": 1, "cumsum": 1, "logsumexp": 1,
    "repeat_interleave": 2, "prod": 1, "sort": 1, "topk": 2, "unsafe_chunk": 2, "unsafe_split": 2,
    "split_with_sizes": 2,
}  # fmt: skip
_DEFAULTS = {"cat": 0, "concat": 0, "concatenate": 0, "chunk": 0, "split": 0, "tensor_split": 0, "normalize": 1}


def keeps_places(function: Callable, args: Sequence[Any], kwargs: Mapping[str, Any], axes: int) -> bool:
    """Return whether a function of a tensor with so many axes, whose space stays as large, keeps positions in place."""
    name = _out_of_place(function)
    if name == "getitem":
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        return len(index) <= 2 and all(isinstance(one, slice) for one in index)
    if name in _ALONG:
        place = _ALONG[name]
        given = args[place] if len(args) > place else kwargs.get("dim", kwargs.get("dims", _DEFAULTS.get(name)))
        along = (given,) if isinstance(given, int) else tuple(given or ())
        return bool(along) and all(isinstance(axis, int) and axis % axes < 2 for axis in along)
    return name in _NAMES


def keeps_order(function: Callable) -> bool:
    """Return whether a function leaves each value where it is in a tensor, however many axes that has."""
    return _out_of_place(function) in _IN_ORDER


def _out_of_place(function: Callable) -> str:
    """Return the name of the function that computes the same out of place."""
    name = function_name(function)
    name = name.removeprefix("i") if name.removeprefix("i") in ("add", "sub", "mul", "truediv", "pow") else name
    return {"truediv": "div"}.get(name.rstrip("_"), name.rstrip("_"))
