"""What is around a model or inside it that hides its modules: wrappers, compiled parts; and models that are refused."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.parameter import UninitializedTensorMixin

from crp.errors import InputError, ModelError, listed, shortened


def check_module(model: object) -> None:
    """Refuse what is not a module, or a module whose operations have no gradient or cannot be seen.

    Raises
    ------
    InputError
        If `model` is not a module.
    ModelError
        If it is scripted, exported, quantized, not initialised or on the meta device, or has such a part.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"A model is a torch.nn.Module, given {shortened(model)}.")
    scripted, quantized = [], []
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            scripted.append(name or type(module).__name__)
        if ".quantized" in type(module).__module__:
            quantized.append(name or type(module).__name__)
    if scripted:
        raise ModelError(
            f"A TorchScript module cannot be explained: use the Python module it was made from for {listed(scripted)}."
        )
    if quantized:
        raise ModelError(
            f"Quantized modules have no gradient: explain the float model, instead of one with {listed(quantized)}."
        )
    if any(map(_is_exported, model.modules())):
        raise ModelError(
            "An exported program cannot be explained, because rules are put on operations of Python modules: use the "
            "module it was made from."
        )
    empty = [name for name, value in model.named_parameters() if value.is_meta]
    if empty:
        raise ModelError(f"The model is on the meta device, where weights have no values ({listed(empty)}): load them.")
    lazy = [name for name, value in model.named_parameters() if isinstance(value, UninitializedTensorMixin)]
    if lazy:
        raise ModelError(f"The model has parameters without values ({listed(lazy)}): run it once on an example first.")


def _is_exported(module: nn.Module) -> bool:
    """Whether a graph calls operations of the dispatcher, as those of torch.export do and those of torch.fx do not."""
    nodes = module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ()
    return any(isinstance(node.target, torch._ops.OpOverload) for node in nodes)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside `DataParallel`, `DistributedDataParallel` and `torch.compile`."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif "_orig_mod" in model._modules:
            model = model._orig_mod
        else:
            return model


def uncompiled(function: Callable) -> Callable:
    """Return the function that `torch.compile` was given; any other as it is.

    A compiled function calls the modules that it was compiled with, not their copies, and no function call in it is
    seen.
    """
    return getattr(function, "_torchdynamo_orig_callable", function)
