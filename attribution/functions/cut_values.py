"""Values that depend on the data and have no gradient: what a model detaches, or computes in `torch.no_grad`.

Rules can only take them for constants, which absorb the relevance that comes to them, and a note says which calls read
them; or, where they become numbers of Python or numpy, which calls make these. Indices and steps (`value > 0`) have no
gradient in any case: only floating point numbers count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from crp.attribution.nested_tensors import tensors_in

# Functions that read the shape or dtype of a tensor, and not its values.
_OF_SHAPES = {
    "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "new_zeros", "new_ones",
    "new_full", "new_empty", "new_tensor", "reshape_as", "view_as", "expand_as", "type_as", "to",
}  # fmt: skip

# Functions that make numbers of Python or numpy.
_LEAVING = {"item", "tolist", "numpy", "__float__", "__array__"}


def is_cut(tensor: Tensor) -> bool:
    """Return whether a tensor was made of the data, without a gradient."""
    return not tensor.requires_grad and getattr(tensor, "cut", False)


def as_cut(result: Any) -> Any:
    """Mark the floating point numbers of a result as made of the data, without a gradient."""
    for tensor in tensors_in([result]):
        if tensor.is_floating_point():
            tensor.cut = True
    return result


def without_graph(function: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Run a function outside of the graph; what it makes of data, or of values that are cut, is cut."""
    result = function(*args, **kwargs)
    of_data = any(map(_of_data, tensors_in((*args, *kwargs.values()))))
    return as_cut(result) if of_data and getattr(function, "__name__", "") not in _OF_SHAPES else result


def reads_cut(name: str, given: Iterable[Any]) -> bool:
    """Return whether the function of that name reads values that are cut."""
    return name not in _OF_SHAPES and any(map(is_cut, tensors_in(given)))


def leaves_torch(function: Callable, args: tuple) -> bool:
    """Return whether a call makes numbers of Python or numpy of floating point numbers that depend on the data."""
    if getattr(function, "__name__", "") not in _LEAVING:
        return False
    return any(tensor.is_floating_point() and _of_data(tensor) for tensor in tensors_in(args))


def _of_data(tensor: Tensor) -> bool:
    return is_cut(tensor) or (tensor.requires_grad and not isinstance(tensor, nn.Parameter))
