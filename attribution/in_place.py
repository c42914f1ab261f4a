"""In-place operations, which run out of place: nothing that a rule needs later is overwritten.

That is only right if the overwritten tensor itself is never read again, as in `x = relu(x)`. A pre-activation block
that adds `x` again reads the changed values. Such a read is found, and the pass is run again with real changes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from crp.attribution.nested_tensors import tensors_in


class StaleTensorError(RuntimeError):
    """A tensor is read after an in-place operation on it ran out of place."""


class StaleTensors:
    """Tensors whose in-place change ran out of place."""

    def __init__(self) -> None:
        self._found: dict[int, Tensor] = {}

    def add(self, tensor: Tensor) -> None:
        """Take a tensor, and all that share its memory."""
        for stale in (tensor, tensor._base):
            if stale is not None:
                self._found[id(stale)] = stale

    def check(self, tensors: Iterable[Tensor]) -> None:
        """Refuse to read one of them.

        Raises
        ------
        StaleTensorError
        """
        if self._found and any(id(read) in self._found for tensor in tensors for read in (tensor, tensor._base)):
            raise StaleTensorError("a tensor is read after an in-place operation")


class StaleReads(TorchFunctionMode):
    """Checks what every function reads."""

    def __init__(self, stale: StaleTensors) -> None:
        super().__init__()
        self._stale = stale

    def __torch_function__(
        self, function: Callable, types: Collection[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function."""
        kwargs = kwargs or {}
        self._stale.check(tensors_in((*args, *kwargs.values())))
        return function(*args, **kwargs)


def made_out_of_place(model: nn.Module) -> list[nn.Module]:
    """Let torch's in-place activations run out of place, and return them.

    Dropout in evaluation mode changes nothing. A class of the caller may use its `inplace` for anything.
    """
    found = []
    for module in model.modules():
        if type(module).__module__.startswith("torch.nn.") and getattr(module, "inplace", False) is True:
            module.inplace = False
            if not isinstance(module, nn.modules.dropout._DropoutNd):
                found.append(module)
    return found


def follow_changes(modules: Iterable[nn.Module], stale: StaleTensors, clone: bool) -> list[RemovableHandle]:
    """Change the input of in-place modules after their call, or, without `clone`, take it as stale."""

    def changed(module: nn.Module, args: tuple, output: Tensor) -> Tensor | None:
        if clone:
            return args[0].copy_(output)
        stale.add(args[0])
        return None

    return [module.register_forward_hook(changed) for module in modules]
