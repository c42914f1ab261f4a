"""A caller's model in training mode must not change, even if its copy calls it.

A global name or an object that is no module may hold modules of the caller, which are then not replaced by their
copies. In training mode, a batch norm there would update its statistics, and a spectral norm its vectors. Before that,
the pass ends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode

from crp.attribution.nested_tensors import tensors_in
from crp.errors import ModelError


def guarded_call(model: nn.Module, copy: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Call the copy of a caller's model, unless it reads state of a module of the model that is in training mode.

    Raises
    ------
    ModelError
    """
    buffers = {
        id(buffer): name
        for name, module in model.named_modules()
        if module.training
        for buffer in module._buffers.values()
        if buffer is not None
    }
    if not buffers:
        return copy._call_impl(*args, **kwargs)
    with _Guard(buffers):
        return copy._call_impl(*args, **kwargs)


class _Guard(TorchFunctionMode):
    """Refuses functions of tensors that are given by their ids, with the names of their modules."""

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self._names = names

    def __torch_function__(
        self, function: Callable, types: Collection[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function, unless it is given one of the tensors."""
        kwargs = kwargs or {}
        for tensor in tensors_in((*args, *kwargs.values())):
            if id(tensor) in self._names:
                module = self._names[id(tensor)]
                raise ModelError(
                    f"The model runs its '{module}' in training mode, because it calls it by a global name or an "
                    "object that is no module, which a copy cannot follow: call model.eval() first."
                )
        return function(*args, **kwargs)
