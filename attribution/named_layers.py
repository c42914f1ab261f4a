"""Names of layers: the output of a module, or with `..input` behind its name the tensor that it is given.

A module's name has no empty part between dots, so no module can be called `attn.proj..input`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from crp.errors import InputError, nearest

SUFFIX = "..input"


def module_name(layer: str) -> str:
    """Return the name of the module whose output or input a layer is.

    >>> module_name("attn.proj..input"), module_name("attn.proj")
    ('attn.proj', 'attn.proj')
    """
    return layer.removesuffix(SUFFIX)


def check_layer(modules: Mapping[str, nn.Module], layer: str) -> None:
    """Refuse a layer of a module that the model does not have.

    Raises
    ------
    InputError
    """
    name = module_name(layer)
    if name not in modules or name == "":
        raise InputError(f"The model has no layer '{name}': {nearest(name, [*modules][1:])}")


def on_layer(
    modules: Mapping[str, nn.Module], layer: str, visit: Callable[[Any], Any]
) -> RemovableHandle:
    """Call `visit` with a layer's tensor in every forward pass; what it returns, unless None, replaces the tensor.

    Of a module's inputs, the layer is the first one. Of a copy of the caller's model, hooks of the caller run after
    `visit`: one that keeps the output for another module keeps the layer's.
    """
    module = modules[module_name(layer)]
    if not layer.endswith(SUFFIX):
        handle = module.register_forward_hook(lambda _, args, output: visit(output))
        for key in getattr(module, "callers_hooks", ()):
            module._forward_hooks.move_to_end(key)
        return handle

    def hook(_: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        if args:
            given = visit(args[0])
            return (args[0] if given is None else given, *args[1:]), kwargs
        name = next(iter(kwargs), None)
        given = visit(kwargs.get(name))
        return args, kwargs if given is None else {**kwargs, name: given}

    # first, so that relevance arrives here after the module's rule
    return module.register_forward_pre_hook(hook, prepend=True, with_kwargs=True)
