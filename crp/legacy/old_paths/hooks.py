"""zennit-crp's hooks: they go into a zennit composite, and see the output of a module and the relevance there."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from zennit.core import RemovableHandle, RemovableHandleList

from crp.compat import OLD_NAMES, old_names

__all__ = [*OLD_NAMES[__name__]]

__getattr__ = old_names(__name__)


class _OutputHook:
    """What both share: `backward(module, grad)` is called when relevance arrives at the module's output."""

    def post_forward(self, module: nn.Module, input: Any, output: Any) -> None:
        """See the module's output, and wait for the relevance of it (of the first tensor, if it is a tuple)."""
        hook = weakref.ref(self)
        tensor = output[0] if isinstance(output, tuple) else output
        if tensor.requires_grad:
            # a clone, for masks write into what they are given
            tensor.register_hook(lambda grad: None if hook() is None else hook().backward(module, grad.clone()))

    def register(self, module: nn.Module) -> RemovableHandleList:
        """Put this hook on a module."""
        handle = module.register_forward_hook(self.post_forward)
        # a rule of zennit 1.0 takes relevance where the last hook of the module left it, so this one has to be the last
        last = module.register_forward_pre_hook(lambda *_: module._forward_hooks.move_to_end(handle.id))
        return RemovableHandleList([RemovableHandle(self), handle, last])

    def remove(self) -> None:
        """Let go of what the hook holds."""


class MaskHook(_OutputHook):
    """Changes the relevance at a module's output.

    Parameters
    ----------
    fn_list
        Functions `relevance -> relevance`, applied one after the other. Copies of the hook share the list; taking the
        hook off the model empties it.
    """

    def __init__(self, fn_list: list[Callable[[Tensor], Tensor]]) -> None:
        self.fn_list = fn_list

    def backward(self, module: nn.Module, grad: Tensor) -> Tensor:
        """Apply the functions to the relevance that arrives."""
        for function in self.fn_list:
            grad = function(grad)
        return grad

    def copy(self) -> MaskHook:
        """Make a hook for another module, with the same list."""
        return type(self)(self.fn_list)

    def remove(self) -> None:
        """Empty the list."""
        self.fn_list.clear()


class FeatVisHook(_OutputHook):
    """Hands activation and relevance of a layer to a `FeatureVisualization`.

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
        Holds `"sample_indices"` and `"targets"` of the batch at the time of the pass.
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
        """Hand on the activation, and wait for the relevance."""
        self._hand(self.FV.analyze_activation, output[0] if isinstance(output, tuple) else output)
        super().post_forward(module, input, output)

    def backward(self, module: nn.Module, grad: Tensor) -> Tensor:
        """Hand on the relevance; it passes unchanged."""
        self._hand(self.FV.analyze_relevance, grad)
        return grad

    def copy(self) -> FeatVisHook:
        """Make a hook for another module."""
        return type(self)(self.FV, self.concept, self.layer_name, self.dict_inputs, self.on_device)

    def _hand(self, analyze: Callable[..., None], values: Tensor) -> None:
        values = values.detach().to(self.on_device) if self.on_device else values.detach()
        inputs = self.dict_inputs
        analyze(values, self.layer_name, self.concept, inputs["sample_indices"], inputs["targets"])
