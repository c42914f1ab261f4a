"""What one forward pass of a model shows: which operations ran, in which order, and who read what.

The source of a model is not read. A plain copy runs once, and every function call is seen. So it does not matter
whether a batch norm and its convolution are neighbours in a `Sequential` or belong to different modules.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from zennit.types import Convolution

from crp.attribution.isolation import callers_default
from crp.attribution.nested_tensors import tensors_in
from crp.errors import CrpError, ModelError

LINEAR_FUNCTIONS = {
    functional.linear: nn.Linear,
    functional.conv1d: nn.Conv1d,
    functional.conv2d: nn.Conv2d,
    functional.conv3d: nn.Conv3d,
    functional.conv_transpose1d: nn.ConvTranspose1d,
    functional.conv_transpose2d: nn.ConvTranspose2d,
    functional.conv_transpose3d: nn.ConvTranspose3d,
}
_TRANSPOSED = {functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d}
_BATCH_NORM = inspect.signature(functional.batch_norm)
# What torch raises in a model that does not take its input.
REFUSALS = (RuntimeError, ValueError, TypeError)
# Functions that make numbers of Python or numpy of values, on which control flow can depend.
DECIDING = {
    Tensor.tolist, Tensor.item, Tensor.numpy, Tensor.__bool__, Tensor.__float__, Tensor.__int__, Tensor.__index__,
    Tensor.__contains__, Tensor.is_nonzero, Tensor.equal, Tensor.allclose, torch.equal, torch.allclose,
    torch.is_nonzero,
}  # fmt: skip
# Functions that read values, or change them, and return no tensor.
_READING_VALUES = DECIDING | {Tensor.__setitem__}


def reads_values(function: Callable, result: Any) -> bool:
    """Return whether a function read values of tensors, and not just their size or dtype."""
    return any(True for _ in tensors_in([result])) or function in _READING_VALUES


@dataclass
class LinearCall:
    """One call of a linear or convolutional function.

    Attributes
    ----------
    module
        Name of the module that called it.
    kind
        The class of module that computes the same.
    depthwise
        Whether each output channel has one input channel.
    """

    module: str
    kind: type[nn.Module]
    depthwise: bool


def is_depthwise(module: nn.Module) -> bool:
    """Return whether each output channel of a convolution has one of several input channels."""
    return isinstance(module, Convolution) and module.groups == module.in_channels > 1


@dataclass
class Observation:
    """One observed forward pass.

    Attributes
    ----------
    samples
        How many samples it had.
    modules
        Names of the modules that were called, in that order.
    output
        The model's output.
    linear
        Linear and convolutional operations, in the order of calls.
    merges
        Pairs of names: a linear module, and the batch norm that alone reads its output.
    functions
        Names of the functions that were called, but for those whose result is the output.
    """

    samples: int = 0
    modules: tuple[str, ...] = ()
    output: Any = None
    linear: list[LinearCall] = field(default_factory=list)
    functions: set[str] = field(default_factory=set)
    merges: list[tuple[str, str]] = field(default_factory=list)


class RunningModules:
    """Names of the modules that are running, the innermost last.

    Parameters
    ----------
    model
        A model that may be given hooks.

    Attributes
    ----------
    path
        What was called, in that order: modules by their names, and functions, for who notes them.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._stack: list[str] = []
        self.path: list[str] = []

    @property
    def innermost(self) -> str:
        """Name of the module that runs; empty for the model itself."""
        return self._stack[-1] if self._stack else ""

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules of the path."""
        return tuple(name for name in self.path if not name.endswith("()"))

    @contextmanager
    def followed(self) -> Iterator[RunningModules]:
        """Follow the calls inside the context."""
        handles = []
        for name, module in self._model.named_modules():
            handles.append(module.register_forward_pre_hook(lambda *_, name=name: self._entered(name)))
            handles.append(module.register_forward_hook(self._left, always_call=True))
        try:
            yield self
        finally:
            self._stack.clear()
            for handle in handles:
                handle.remove()

    def _entered(self, name: str) -> None:
        self._stack.append(name)
        self.path.append(name)

    def _left(self, *_: object) -> None:
        self._stack.pop()


class _Observer(TorchFunctionMode):
    """Records the calls of a forward pass."""

    def __init__(self, model: nn.Module, running: RunningModules) -> None:
        super().__init__()
        self._modules = dict(model.named_modules())
        self._running = running
        self._readers: Counter[int] = Counter()
        self._calls: Counter[str] = Counter()
        self._producers: dict[int, str] = {}
        self._pairs: list[tuple[str, str, int]] = []
        self._results: list[tuple[str, Any]] = []
        self._kept: list[Tensor] = []  # so that no two tensors have the same id
        self.found = Observation()

    def __torch_function__(
        self, function: Callable, types: Collection[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function, and record what it reads."""
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if not reads_values(function, result):
            return result
        read = {id(tensor): tensor for tensor in tensors_in((*args, *kwargs.values()))}
        self._readers.update(read.keys())
        self._kept += read.values()
        self._results.append((getattr(function, "__name__", ""), result))
        if function in LINEAR_FUNCTIONS:
            self._linear(function, args, kwargs, result)
        elif function is functional.batch_norm:
            self._batch_norm(args, kwargs)
        return result

    def _linear(self, function: Callable, args: tuple, kwargs: dict[str, Any], result: Tensor) -> None:
        name = self._running.innermost
        weight = args[1] if len(args) > 1 else kwargs["weight"]
        groups = args[6] if len(args) > 6 else kwargs.get("groups", 1)
        kind = LINEAR_FUNCTIONS[function]
        # of a transposed convolution the weight has the channels of the input first
        depthwise = groups > 1 and (weight.shape[0] // groups if function in _TRANSPOSED else weight.shape[1]) == 1
        self.found.linear.append(LinearCall(name, kind, depthwise))
        self._kept += [weight, result]
        module = self._modules[name]
        if type(module) is kind and module._parameters.get("weight") is weight:
            self._calls[name] += 1
            self._producers[id(result)] = name

    def _batch_norm(self, args: tuple, kwargs: dict[str, Any]) -> None:
        name = self._running.innermost
        self._calls[name] += 1
        data = args[0] if args else kwargs["input"]
        norm = self._modules[name]
        if id(data) in self._producers and isinstance(norm, nn.modules.batchnorm._BatchNorm):
            linear = self._producers[id(data)]
            if _computes(norm, args, kwargs) and _mergeable(self._modules[linear], data):
                self._pairs.append((linear, name, id(data)))

    def finish(self, output: Any) -> Observation:
        """Return what was seen, once the model has returned `output`."""
        self._readers.update(id(tensor) for tensor in tensors_in([output]))
        self.found.output = output
        self.found.functions = {name.strip("_") for name, result in self._results if result is not output}
        self.found.merges = [
            (linear, norm)
            for linear, norm, data in self._pairs
            if self._readers[data] == self._calls[linear] == self._calls[norm] == 1 and self._alone(linear)
        ]
        return self.found

    def _alone(self, linear: str) -> bool:
        """Whether a module's parameters were read by its one call only, and not by other modules (tied weights)."""
        return all(self._readers[id(value)] == 1 for value in self._modules[linear].parameters(recurse=False))


def observe(model: nn.Module, data: Tensor) -> Observation:
    """Run a copy of a model, made by `replicate`, and record its operations.

    Parameters
    ----------
    model
        The copy, without rules.
    data
        Model input, `[N, ...]`.

    Raises
    ------
    ModelError
        If the model cannot run on the data.
    """
    running = RunningModules(model)
    with running.followed(), _Observer(model, running) as observer:
        output = plain_output(model, data)
        observer.found.samples, observer.found.modules = len(data), running.modules
        return observer.finish(output)


def plain_output(model: nn.Module, data: Tensor) -> Any:
    """Run a copy of a model, made by `replicate`, on input `[N, ...]`, without a graph.

    Raises
    ------
    ModelError
        If the model cannot run on the data.
    """
    with torch.no_grad(), callers_default(data.device):
        try:
            return model(data.clone())
        except CrpError:
            raise
        except REFUSALS as error:
            raise cannot_run(data, error) from error


def cannot_run(data: Tensor, error: Exception) -> ModelError:
    """Make the error for a model that raises one of `REFUSALS` for its input `[N, ...]`."""
    reason = str(error).strip().splitlines()[0] or type(error).__name__
    if reason.startswith("Inference tensors"):
        reason = "its forward pass is in torch.inference_mode, where nothing has a gradient that relevance could follow"
    return ModelError(f"The model cannot run on input of shape {list(data.shape)}: {reason}")


def _mergeable(linear: nn.Module, output: Tensor) -> bool:
    """Whether the channels of a batch norm are the rows of a linear module's weight."""
    if isinstance(linear, nn.Linear):
        return output.ndim == 2
    return linear.groups == 1 or not linear.transposed


def _computes(norm: nn.Module, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether a call computes what the batch norm's own statistics and parameters say, as a subclass may not."""
    given = _BATCH_NORM.bind(*args, **kwargs)
    given.apply_defaults()
    call = given.arguments
    own = ("running_mean", "running_var", "weight", "bias")
    return (
        norm.running_var is not None
        and all(call[name] is getattr(norm, name) for name in own)
        and not call["training"]
        and call["eps"] == norm.eps
    )
