"""A private copy of the caller's modules, on which rules are put.

zennit registers hooks and canonizers on the model itself and removes them afterwards. An error, an abandoned generator
or a second flow in between leaves the model changed (and zennit 1.0 leaves merged weights behind in any case). Here the
modules are copied instead: new `Module` objects that share the weights in memory. The caller's model never changes, and
several flows on one model do not interfere.

As in `torch.nn.parallel.replicate`, the attributes of each module are copied one level deep, without the data behind
them. Modules inside lists, tuples and dicts, and methods bound to modules, are replaced by their copies.
"""

from __future__ import annotations

import types
from dataclasses import dataclass

import torch
from torch import nn
from zennit.core import BasicHook, Composite
from zennit.rules import Pass

from crp.attribution.isolation import isolated, outside_inference
from crp.attribution.pooling import PoolRule
from crp.attribution.probing import probe
from crp.attribution.rule_operator import PassRule, RuleOperator
from crp.errors import InputError, ModelError, listed, shortened

# Dicts that every module has (parameters, hooks, ...); copied, so that additions to the replica stay there.
_TABLES = tuple(name for name, value in vars(nn.Module()).items() if isinstance(value, dict))


def replicate(model: nn.Module) -> nn.Module:
    """Copy the modules of `model`; the copy shares its weights.

    Parameters
    ----------
    model
        Any module. Wrappers (`DataParallel`, `torch.compile`) are removed.

    Returns
    -------
    nn.Module
        The copy, in evaluation mode, without in-place activations, its parameters without `requires_grad`. Hooks that
        the caller has registered are copied, too.

    Raises
    ------
    InputError
        If `model` is not a module.
    ModelError
        If the model is a TorchScript module, whose parts cannot be accessed.
    """
    check_module(model)
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        model = model.module
    # torch.compile wraps the module it was given
    model = getattr(model, "_orig_mod", model)
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelError("A TorchScript model cannot be explained: pass the Python module it was made from.")

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
                    id(parameter), nn.Parameter(outside_inference(parameter.detach()), requires_grad=False)
                )
        for name, buffer in copy._buffers.items():
            if buffer is not None:
                copy._buffers[name] = tensors.setdefault(id(buffer), outside_inference(buffer.detach()))
        for name, value in copy.__dict__.items():
            if name not in _TABLES:
                copy.__dict__[name] = _rebound(value, copies)
        copy.__dict__["training"] = False
        # An in-place activation would overwrite a tensor that a rule needs later.
        if getattr(copy, "inplace", None) is True:
            copy.inplace = False
    return copies[id(model)]


def check_module(model: object) -> None:
    """Refuse anything but a module.

    Raises
    ------
    InputError
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"A model is a torch.nn.Module, given {shortened(model)}.")


def _rebound(value: object, copies: dict[int, nn.Module]) -> object:
    """Replace modules, and methods bound to them, by their copies inside `value`."""
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
    """A copy of a model with rules on it, for any number of flows.

    Attributes
    ----------
    model
        The copy.
    linear
        Whether every rule is a linear operator, which `RelevanceFlow.up` requires.
    batched
        Whether several conditions may share one downward pass.
    notes
        One sentence for each module that runs zennit's own hook, with the reason.
    rules
        The rules that run as linear operators.
    handles
        zennit's own hooks. They are stored because zennit only keeps weak references to them.
    dtype
        The dtype that `prepare` converted the weights to, if any.
    clone_tensors
        Whether tensors are cloned before the model can overwrite them; set after a forward pass that did so.
    """

    model: nn.Module
    linear: bool
    batched: bool
    notes: tuple[str, ...]
    rules: tuple[RuleOperator, ...]
    handles: tuple[object, ...]
    dtype: torch.dtype | None = None
    clone_tensors: bool = False


@isolated()
def prepare(model: nn.Module, composite: Composite | None = None, *, dtype: torch.dtype | None = None) -> Replica:
    """Copy a model and put the rules of a composite on the copy.

    Use it before many forward passes, so that weights are copied and modified only once.

    Parameters
    ----------
    model
        The model to explain. It is not changed.
    composite
        A zennit composite. Its canonizers are applied to the copy, and its rules are put on the copy's modules. With
        None relevance flows as the gradient does. The composite itself is not registered anywhere.
    dtype
        The dtype of the copy's weights, converted after the canonizers have merged them; by default the model's.

    Returns
    -------
    Replica
    """
    copy = replicate(model)
    hooked = [name for name, module in copy.named_modules() if module._forward_hooks or module._forward_pre_hooks]
    notes = []
    if hooked:
        notes.append(f"Modules with hooks of your own run one condition at a time: {listed(hooked)}.")
    rules: list[RuleOperator] = []
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
                rules.append(RuleOperator(module, hook, factors))
                module.forward = rules[-1].forward
                continue
            foreign = True
            notes.append(f"'{name}': {kind.__name__} is not a linear operator, so zennit's own hook is used.")
            own = hook.copy()
            handles += [own, own.register(module)]
    if dtype is not None:
        copy.to(dtype)
    # a canonizer may have added parameters, and the graph must not start at them
    copy.requires_grad_(False)
    return Replica(copy, not foreign, not foreign and not hooked, tuple(notes), tuple(rules), tuple(handles), dtype)
