"""Batch norms merged into the linear module before them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from crp.attribution.nested_tensors import tensors_in
from crp.attribution.observation import RunningModules, reads_values
from crp.attribution.ruled_module import passed_unchanged
from crp.errors import ModelError


def merged_parameters(linear: nn.Module, norm: nn.Module) -> tuple[Tensor, Tensor]:
    r"""Compute weight and bias of a linear module followed by a batch norm.

    :math:`w' = w\gamma/\sigma` and :math:`b' = (b - \mu)\gamma/\sigma + \beta` with :math:`\sigma^2 = v + \epsilon`.
    zennit's merged norm still divides by :math:`\sqrt{1 + \epsilon}`, which changes Inception v3's logits by 10 %.

    Parameters
    ----------
    linear
        A linear, convolutional or (with one group) transposed convolutional module.
    norm
        A batch norm with running statistics.

    Returns
    -------
    tuple of two Tensors
        Weight and bias, for use in place of those of `linear`. The batch norm is then the identity.
    """
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    if norm.bias is not None:
        shift = shift + norm.bias
    along = [1] * linear.weight.ndim
    along[1 if getattr(linear, "transposed", False) else 0] = -1
    bias = shift if linear.bias is None else linear.bias * scale + shift
    return (linear.weight * scale.view(along)).detach(), bias.detach()


def merge(linear: nn.Module, norm: nn.Module, parameters: Sequence[Tensor]) -> None:
    """Put merged parameters on the copies of both modules; the batch norm becomes the identity.

    What a subclass, or another `forward`, computes beside the norm (timm's `BatchNormAct2d`: an activation) still runs.
    """
    for name, value in zip(("weight", "bias"), parameters, strict=True):
        linear._parameters[name] = nn.Parameter(value, requires_grad=False)
    if type(norm).forward is nn.modules.batchnorm._BatchNorm.forward and "forward" not in norm.__dict__:
        norm.forward = _identity
        return
    # the function is called with the statistics 0 and 1, which leave its input as it is
    norm._buffers["running_mean"] = torch.zeros_like(norm.running_mean)
    norm._buffers["running_var"] = torch.full_like(norm.running_var, 1 - norm.eps)
    norm._parameters["weight"] = norm._parameters["bias"] = None


def _identity(data: Tensor) -> Tensor:
    return data


class MergedReads(TorchFunctionMode):
    """Checks in each forward pass that merging is exact in this pass, too.

    A model whose control flow depends on the data may call the same modules in the same order, but on other tensors.
    Then a merged norm would be applied to the wrong one. Each output of a merged linear module has to be read by its
    norm and by nothing else, and the norm has to read nothing else.

    Parameters
    ----------
    model
        The replica's model.
    merges
        Pairs of names: a linear module, and the batch norm that is merged into it.
    running
        Follows which module runs.
    clone
        Whether the model overwrites tensors in place that are needed later.
    """

    def __init__(
        self, model: nn.Module, merges: Iterable[tuple[str, str]], running: RunningModules, clone: bool
    ) -> None:
        super().__init__()
        self._running, self._clone = running, clone
        self._pairs = {norm: linear for linear, norm in merges}
        modules = dict(model.named_modules())
        self._outputs: dict[int, tuple[Tensor, str]] = {}  # of linear modules, and the norm that reads it
        self._unread: set[int] = set()
        self._parameters = {
            id(value): (linear, norm)
            for norm, linear in self._pairs.items()
            for value in modules[linear].parameters(recurse=False)
        }
        self._identities = {norm: modules[norm] for norm in self._pairs if modules[norm].forward is _identity}
        for norm, module in self._identities.items():
            module.forward = partial(self._passed, norm)
        self._handles = [
            modules[linear].register_forward_hook(partial(self._made, norm)) for norm, linear in self._pairs.items()
        ]

    def __exit__(self, *exception: object) -> None:
        """Leave the modules as they were."""
        for module in self._identities.values():
            module.forward = _identity
        for handle in self._handles:
            handle.remove()
        super().__exit__(*exception)

    def __torch_function__(
        self, function: Callable, types: Collection[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function, and check what it reads."""
        kwargs, running = kwargs or {}, self._running.innermost
        result = function(*args, **kwargs)
        if running in self._identities or not reads_values(function, result):
            return result
        read = tensors_in((*args, *kwargs.values()))
        if function is functional.batch_norm and running in self._pairs:
            self._normed(running, next(read))
        for tensor in read:
            self._check(tensor, running)
        return result

    def followed(self, output: Tensor, another: Callable[[], Tensor]) -> Tensor:
        """Make another tensor of the same values, which the model reads from here on instead of `output`.

        A container that ends with a merged linear module has that module's output; reading it as a layer is not a use.
        """
        made = self._outputs.pop(id(output), None)
        result = another()
        if made is not None:
            self._outputs[id(output)], self._outputs[id(result)] = made, (result, made[1])
            if id(output) in self._unread:
                self._unread ^= {id(output), id(result)}
        return result

    def finish(self, output: Any) -> None:
        """Check that the norms have read all outputs, once the model has returned `output`."""
        for tensor in tensors_in([output]):
            self._check(tensor, "")
        for unread in self._unread:
            raise self._error(self._outputs[unread][1])

    def _made(self, norm: str, module: nn.Module, args: tuple, output: Tensor) -> None:
        self._outputs[id(output)] = output, norm
        self._unread.add(id(output))

    def _normed(self, norm: str, data: Tensor) -> None:
        if id(data) not in self._unread or self._outputs[id(data)][1] != norm:
            raise self._error(norm)
        self._unread.remove(id(data))

    def _passed(self, norm: str, data: Tensor) -> Tensor:
        self._normed(norm, data)
        # another tensor, to tell who reads which of the two
        return data.clone() if self._clone else passed_unchanged(data)

    def _check(self, tensor: Tensor, running: str) -> None:
        if id(tensor) in self._outputs:
            raise self._error(self._outputs[id(tensor)][1])
        linear, norm = self._parameters.get(id(tensor), (running, ""))
        if linear != running:
            raise self._error(norm)

    def _error(self, norm: str) -> ModelError:
        return ModelError(
            f"For this input, the model uses '{self._pairs[norm]}' and its batch norm '{norm}' differently than for "
            "the first input: its forward pass depends on the data. Explain such inputs separately."
        )
