"""Modules of the replica that run under zennit's own hook, because their rule is not a linear operator."""

from __future__ import annotations

from typing import Any

from torch import nn
from zennit.core import Hook

from crp.attribution.copies import copied_alone, replicate
from crp.attribution.ruled_module import ForwardState

# Where a module keeps a function that the caller put in the place of its `forward`.
_REPLACED = "callers_forward"


class HookedModule:
    """A module under zennit's own hook.

    zennit keeps the input of a call on the hook, and changes weights of the module while a backward pass runs. So each
    call has a hook and a module of its own: neither another call nor another thread sees what zennit changes.

    Parameters
    ----------
    model
        The replica's model.
    name
        The module's name.
    hook
        The rule, which is copied.

    Attributes
    ----------
    state
        That of the forward pass that runs.
    """

    def __init__(self, model: nn.Module, name: str, hook: Hook) -> None:
        self.model = model
        self.name = name
        self.module = model.get_submodule(name)
        self.hook = hook
        self.original = self.module.forward
        self.state: ForwardState | None = None
        if "forward" in vars(self.module):
            self.module.__dict__[_REPLACED] = self.original

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Replace the module's forward."""
        hook, module = self.hook.copy(), self._copy()
        hook.register(module)
        output = module(*args, **kwargs)
        # The graph refers to the module, and the hook to the graph: the forward pass holds the hook from now on.
        _remove_hooks(module)
        self.state.hooks.append(hook)
        return output

    def _copy(self) -> nn.Module:
        if _REPLACED in vars(self.module):
            # with its model: a function that was put on a module may read its weights in any way
            module = replicate(self.model).get_submodule(self.name)
            module.forward = module.__dict__[_REPLACED]
        else:
            module = copied_alone(self.module, self.original)
        _remove_hooks(module)
        return module


def _remove_hooks(module: nn.Module) -> None:
    module._forward_pre_hooks.clear()
    module._forward_hooks.clear()
