"""A softmax, log-softmax or sigmoid at the end of a model, found while the model runs.

Relevance that starts at probabilities is not relevance for the class: the derivative of softmax subtracts the relevance
of all other classes, and log-softmax flips signs, because its values are negative. So relevance starts at the logits,
the input of that last operation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# Name -> functions and modules. A softmax counts if it is over the classes, axis 1.
_SOFTMAX = {
    "softmax": (torch.softmax, functional.softmax, Tensor.softmax, torch.special.softmax, nn.Softmax, nn.Softmax2d),
    "log_softmax": (
        torch.log_softmax, functional.log_softmax, Tensor.log_softmax, torch.special.log_softmax, nn.LogSoftmax,
    ),
}
_SIGMOID = {
    "sigmoid": (torch.sigmoid, functional.sigmoid, Tensor.sigmoid, torch.special.expit, nn.Sigmoid),
    "logsigmoid": (functional.logsigmoid, nn.LogSigmoid),
}
_NAMES = {kind: name for table in (_SOFTMAX, _SIGMOID) for name, kinds in table.items() for kind in kinds}
# What may follow a sigmoid, as in `torch.sigmoid(logits).squeeze(1)`.
_RESHAPING = (torch.squeeze, Tensor.squeeze, torch.flatten, Tensor.flatten, torch.reshape, Tensor.reshape, Tensor.view)


class FinalActivation(TorchFunctionMode):
    """Records the latest softmax or sigmoid while a model runs.

    Parameters
    ----------
    model
        The model. Its modules of these kinds are recorded by hooks, because a rule may replace their `forward`.

    Attributes
    ----------
    name
        `"softmax"`, `"log_softmax"`, `"sigmoid"` or `"logsigmoid"`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.name = ""
        self._output: Tensor | None = None
        self._input: Tensor | None = None
        self._handles = [
            module.register_forward_hook(self._ran) for module in model.modules() if type(module) in _NAMES
        ]

    def __exit__(self, *exception: object) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        super().__exit__(*exception)

    def __torch_function__(
        self, function: Callable, types: Collection[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function, and record it if it is one of these."""
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if function in _NAMES and args:
            self._record(_NAMES[function], result, args[0], args[1] if len(args) > 1 else kwargs.get("dim"))
        elif function in _RESHAPING and args and args[0] is self._output and self.name in _SIGMOID:
            self._output, self._input = result, function(self._input, *args[1:], **kwargs)
        return result

    def _ran(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        self._record(_NAMES[type(module)], output, args[0], getattr(module, "dim", None))

    def _record(self, name: str, output: Tensor, data: Tensor, axis: int | None) -> None:
        if name in _SIGMOID or axis is None or axis % data.ndim == 1:
            self.name, self._output, self._input = name, output, data

    def logits(self, output: object) -> Tensor | None:
        """Return the input of the recorded operation if the model's `output` is its result; else None."""
        return self._input if output is self._output and self._input is not None else None
