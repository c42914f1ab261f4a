"""A private copy of the caller's modules, on which rules are put.

zennit puts hooks and canonizers on the model itself and takes them off again. That works while nothing goes wrong
between the two; an error, an abandoned generator or a second flow leaves the model changed (and zennit 1.0 leaves
merged weights behind in any case). Here the modules are copied instead: new `Module` objects that share the caller's
weights in memory. Whatever happens to the copy, the caller's model is as before, and two flows on one model do not
meet.

The copy follows `torch.nn.parallel.replicate`: the attributes of each module are copied one level deep, never the data
behind them. Modules found inside lists, tuples and dicts and methods bound to a module are re-bound to the copies.
"""

from __future__ import annotations

import types
from dataclasses import dataclass

import torch
from torch import nn
from zennit.core import BasicHook, Composite
from zennit.rules import Pass

from crp.attribution.operators import LinearRule, PassRule, PoolRule
from crp.attribution.probing import probe
from crp.errors import InputError, ModelError, listed

# Tables of hooks that a module keeps; they are copied so that what is put on the replica stays there.
_TABLES = tuple(name for name, value in vars(nn.Module()).items() if isinstance(value, dict))


def replicate(model: nn.Module) -> nn.Module:
    """Copy the modules of `model`, sharing its weights.

    Parameters
    ----------
    model
        Any module; a `DataParallel` wrapper is taken off.

    Returns
    -------
    nn.Module
        The copy: in evaluation mode, without in-place activations, parameters without `requires_grad`. Hooks that the
        caller has registered are on it, too.

    Raises
    ------
    InputError
        If it is no module.
    ModelError
        If the model is a compiled TorchScript module, whose parts cannot be addressed.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"A model is a torch.nn.Module, given {type(model).__name__}.")
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        model = model.module
    # torch.compile wraps the module it was given
    model = getattr(model, "_orig_mod", model)
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelError("A TorchScript model cannot be explained: give the Python module it was made from.")

    copies: dict[int, nn.Module] = {}
    for module in model.modules():
        copy = module.__class__.__new__(module.__class__)
        copy.__dict__ = dict(module.__dict__)
        for table in _TABLES:
            copy.__dict__[table] = module.__dict__[table].copy()
        copies[id(module)] = copy

    tensors: dict[int, torch.Tensor] = {}
    for copy in copies.values():
        for name, child in copy._modules.items():
            copy._modules[name] = None if child is None else copies[id(child)]
        for name, parameter in copy._parameters.items():
            if parameter is not None:
                # tied weights stay tied
                copy._parameters[name] = tensors.setdefault(
                    id(parameter), nn.Parameter(parameter.detach(), requires_grad=False)
                )
        for name, buffer in copy._buffers.items():
            if buffer is not None:
                copy._buffers[name] = tensors.setdefault(id(buffer), buffer.detach())
        for name, value in copy.__dict__.items():
            if name not in _TABLES:
                copy.__dict__[name] = _rebound(value, copies)
        copy.__dict__["training"] = False
        # An in-place activation would overwrite what a rule or a record still needs.
        if getattr(copy, "inplace", None) is True:
            copy.inplace = False
    return copies[id(model)]


def _rebound(value: object, copies: dict[int, nn.Module]) -> object:
    """Point `value` to the copies where it holds modules or methods bound to them."""
    if isinstance(value, nn.Module):
        return copies.get(id(value), value)
    if isinstance(value, types.MethodType) and id(value.__self__) in copies:
        return types.MethodType(value.__func__, copies[id(value.__self__)])
    if type(value) in (list, tuple):
        return type(value)(_rebound(item, copies) for item in value)
    if type(value) is dict:
        return {key: _rebound(item, copies) for key, item in value.items()}
    return value


@dataclass
class Replica:
    """A copy of a model with rules put on it, on which any number of forward passes can be held open.

    Attributes
    ----------
    model
        The copy.
    linear
        Whether every rule is a linear operator, so that `RelevanceFlow.up` exists.
    batched
        Whether several conditions may share one downward pass.
    notes
        One sentence for each module that runs as zennit runs it, and why.
    careful
        Whether tensors are copied before the model may overwrite them; set when a forward pass is seen to do that.
    dtype
        Of the weights, where `prepare` converted them.
    rules
        The operators in place.
    handles
        zennit's own hooks in place. They are kept because zennit refers to them weakly.
    """

    model: nn.Module
    linear: bool
    batched: bool
    notes: tuple[str, ...]
    rules: tuple[LinearRule, ...]
    handles: tuple[object, ...]
    dtype: torch.dtype | None = None
    careful: bool = False


def prepare(
    model: nn.Module, composite: Composite | None = None, *, dtype: torch.dtype | None = None
) -> Replica:
    """Copy a model and put the rules of a composite on the copy.

    Use it when many forward passes follow: weights are copied and modified once.

    Parameters
    ----------
    model
        The model to explain. It is not changed.
    composite
        zennit composite: its canonizers are applied to the copy and its rules put on the copy's modules. With None
        relevance flows as the gradient does. The composite itself is not registered anywhere.
    dtype
        Weights of the copy, converted after the canonizers have merged them; by default those of the model.

    Returns
    -------
    Replica
    """
    copy = replicate(model)
    hooked = [name for name, module in copy.named_modules() if module._forward_hooks or module._forward_pre_hooks]
    notes = []
    if hooked:
        notes.append(f"Hooks that were on the model already run one condition at a time: {listed(hooked)}.")
    rules: list[LinearRule] = []
    handles: list[object] = []
    foreign = False
    if composite is not None:
        for canonizer in composite.canonizers:
            handles += canonizer.apply(copy)
        context: dict = {}
        for name, module in list(copy.named_modules()):
            hook = composite.module_map(context, name, module)
            if hook is None:
                if type(module) is nn.MaxPool2d and not module.return_indices:
                    module.forward = PoolRule(module).forward
                continue
            kind = type(hook)
            if kind.backward is Pass.backward:
                module.forward = PassRule(module).forward
                continue
            factors = None
            if kind.backward is BasicHook.backward and kind.forward is BasicHook.forward:
                factors = probe(hook)
            if factors is not None:
                rules.append(LinearRule(module, hook, factors))
                module.forward = rules[-1].forward
                continue
            foreign = True
            notes.append(f"'{name}': {kind.__name__} is not a linear operator; it runs as zennit runs it.")
            own = hook.copy()
            handles += [own, own.register(module)]
    if dtype is not None:
        copy.to(dtype)
    # a canonizer may have put in parameters of its own, and a graph would begin at them
    copy.requires_grad_(False)
    return Replica(copy, not foreign, not foreign and not hooked, tuple(notes), tuple(rules), tuple(handles), dtype)
