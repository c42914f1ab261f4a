"""zennit-crp's hooks for zennit composites. They receive the output of a module and its relevance."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from crp.compat import OLD_NAMES, accept_old_zennit_calls, import_zennit_safely, old_names

import_zennit_safely()
accept_old_zennit_calls()

from zennit.core import RemovableHandle, RemovableHandleList  # noqa: E402  (after the workaround)

__all__ = [*OLD_NAMES[__name__]]

__getattr__ = old_names(__name__)


class _OutputHook:
    """Base of both hooks: calls `backward(module, grad)` when relevance arrives at the module's output."""

    def post_forward(self, module: nn.Module, input: Any, output: Any) -> None:
        """Register for the relevance of the module's output (of its first tensor, if it is a tuple)."""
        hook = weakref.ref(self)
        tensor = output[0] if isinstance(output, tuple) else output
        if tensor.requires_grad:
            # a clone, because masks write into their argument
            tensor.register_hook(lambda grad: None if hook() is None else hook().backward(module, grad.clone()))

    def register(self, module: nn.Module) -> RemovableHandleList:
        """Register this hook on a module."""
        handle = module.register_forward_hook(self.post_forward)
        # rules of zennit 1.0 take the relevance that the module's last hook returns, so this hook has to be the last
        last = module.register_forward_pre_hook(lambda *_: module._forward_hooks.move_to_end(handle.id))
        return RemovableHandleList([RemovableHandle(self), handle, last])

    def remove(self) -> None:
        """Release the references of the hook."""


class MaskHook(_OutputHook):
    """Changes the relevance at a module's output.

    Parameters
    ----------
    fn_list
        Functions `relevance -> relevance`, applied one after the other. Copies of the hook share the list. Removing the
        hook from the model empties it.
    """

    def __init__(self, fn_list: list[Callable[[Tensor], Tensor]]) -> None:
        self.fn_list = fn_list

    def backward(self, module: nn.Module, grad: Tensor) -> Tensor:
        """Apply the functions to the relevance that arrives."""
        for function in self.fn_list:
            grad = function(grad)
        return grad

    def copy(self) -> MaskHook:
        """Copy the hook for another module, with the same list."""
        return type(self)(self.fn_list)

    def remove(self) -> None:
        """Empty the list."""
        self.fn_list.clear()


class FeatVisHook(_OutputHook):
    """Passes activation and relevance of a layer to a `FeatureVisualization`.

    Parameters
    ----------
    FV
        Its methods `analyze_activation` and `analyze_relevance` are called with
        `(values, layer_name, concept, sample_indices, targets)`.
    concept
        The kind of concept of the layer.
    layer_name
        Name of the layer.
    dict_inputs
        Holds `"sample_indices"` and `"targets"` of the current batch.
    on_device
        Where values are moved to; None leaves them.
    """

    def __init__(
        self,
        FV: Any,
        concept: Any,
        layer_name: str,
        dict_inputs: Mapping[str, Any],
        on_device: torch.device | str | None,
    ) -> None:
        self.FV = FV
        self.concept = concept
        self.layer_name = layer_name
        self.dict_inputs = dict_inputs
        self.on_device = on_device

    def post_forward(self, module: nn.Module, input: Any, output: Any) -> None:
        """Pass on the activation and register for the relevance."""
        self._hand(self.FV.analyze_activation, output[0] if isinstance(output, tuple) else output)
        super().post_forward(module, input, output)

    def backward(self, module: nn.Module, grad: Tensor) -> Tensor:
        """Pass on the relevance and return it unchanged."""
        self._hand(self.FV.analyze_relevance, grad)
        return grad

    def copy(self) -> FeatVisHook:
        """Copy the hook for another module."""
        return type(self)(self.FV, self.concept, self.layer_name, self.dict_inputs, self.on_device)

    def _hand(self, analyze: Callable[..., None], values: Tensor) -> None:
        values = values.detach().to(self.on_device) if self.on_device else values.detach()
        inputs = self.dict_inputs
        analyze(values, self.layer_name, self.concept, inputs["sample_indices"], inputs["targets"])
