"""Copies of the caller's modules, which share their weights.

As in `torch.nn.parallel.replicate`, the attributes of each module are copied one level deep, without the data behind
them. Modules inside lists, tuples, dicts, partial functions and closures, and methods bound to modules, are replaced by
their copies. So a hook that keeps a module's output in the model, for another module to read, keeps that of the copy.
Objects that are hooks, or whose methods are, are copied as well.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from copy import copy as copied
from typing import Any

import torch
from torch import nn

from crp.attribution.isolation import outside_inference
from crp.attribution.training_guard import guarded_call
from crp.attribution.wrappers import check_module, uncompiled, unwrapped

# Dicts that every module has (parameters, hooks, ...); copied, so that additions to the replica stay there.
_TABLES = tuple(name for name, value in vars(nn.Module()).items() if isinstance(value, dict))
_ON_GRADIENTS = ("_backward_hooks", "_backward_pre_hooks")


def replicate(model: nn.Module) -> nn.Module:
    """Copy the modules of `model`; the copy shares its weights.

    Parameters
    ----------
    model
        Any module. Wrappers (`DataParallel`, `torch.compile`) are removed.

    Returns
    -------
    nn.Module
        The copy, in evaluation mode, its parameters without `requires_grad`. Forward hooks that the caller has
        registered are copied, too; hooks on gradients are not, because relevance is no gradient.

    Raises
    ------
    InputError
        If `model` is not a module.
    ModelError
        If the model, or a part of it, is scripted, quantized or not initialised.
    """
    check_module(model)
    model = unwrapped(model)
    copies: dict[int, nn.Module] = {}
    for module in model.modules():
        copy = copies[id(module)] = _one_level_deep(module)
        for table in _ON_GRADIENTS:
            copy.__dict__[table].clear()

    rebinding = Rebinding(copies)
    for copy in copies.values():
        for hook in (*copy._forward_hooks.values(), *copy._forward_pre_hooks.values()):
            rebinding.take_object(hook)
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
                copy._buffers[name] = tensors.setdefault(id(buffer), outside_inference(buffer.detach()).clone())
        for name, value in copy.__dict__.items():
            if name not in _TABLES and not isinstance(value, types.FunctionType):
                copy.__dict__[name] = rebinding.value(value)
        copy.__dict__["training"] = False
        copy.__dict__["_compiled_call_impl"] = None
        if "_orig_mod" in copy._modules:  # a compiled part
            copy.__dict__["forward"] = copy._orig_mod.forward
    rebinding.finish_objects()
    for copy in copies.values():  # last, because functions refer to lists and dicts that modules hold
        for name, value in copy.__dict__.items():
            if isinstance(value, types.FunctionType):
                copy.__dict__[name] = rebinding.function(value)
        for hooks in (copy._forward_hooks, copy._forward_pre_hooks):
            hooks.update({key: rebinding.function(hook) for key, hook in hooks.items()})
        copy.__dict__["callers_hooks"] = tuple(copy._forward_hooks)
    # torch's place for another `__call__`
    copies[id(model)].__dict__["_compiled_call_impl"] = functools.partial(guarded_call, model, copies[id(model)])
    return copies[id(model)]


def copied_alone(module: nn.Module, forward: Callable) -> nn.Module:
    """Copy one module, which shares its weights and children, to run it with other parameters.

    Meanwhile the module itself may run in another thread.

    Parameters
    ----------
    module
        The module.
    forward
        Its `forward`, which a rule may have replaced since.

    Returns
    -------
    nn.Module
        The copy.
    """
    copy = _one_level_deep(module)
    copy.__dict__["_compiled_call_impl"] = None
    copy.__dict__["forward"] = Rebinding({id(module): copy}).function(forward)
    return copy


def _one_level_deep(module: nn.Module) -> nn.Module:
    # not by the class's own `__new__`, which makes another class for each graph of torch.fx
    copy = object.__new__(type(module))
    copy.__dict__ = dict(module.__dict__)
    for table in _TABLES:
        copy.__dict__[table] = module.__dict__[table].copy()
    return copy


class Rebinding:
    """Replaces modules inside of values by their copies.

    Parameters
    ----------
    copies
        The copy of each module, by its `id`.
    """

    def __init__(self, copies: dict[int, nn.Module]) -> None:
        self._copies = copies
        # with the original, so that no other list has its id
        self._containers: dict[int, tuple[object, object]] = {}
        self._objects: dict[int, tuple[object, object]] = {}
        self._functions: dict[int, tuple[object, types.FunctionType]] = {}

    def take_object(self, hook: Any) -> None:
        """Copy an object that is a hook, or whose method is one: what it keeps is that of the copy's pass."""
        owner = hook.func if isinstance(hook, functools.partial) else hook
        owner = getattr(owner, "__self__", owner)  # of a method
        if isinstance(owner, nn.Module | types.FunctionType | types.BuiltinFunctionType | types.ModuleType | type):
            return
        if id(owner) not in self._objects and hasattr(owner, "__dict__"):
            self._objects[id(owner)] = owner, copied(owner)

    def finish_objects(self) -> None:
        """Let the copies of objects refer to copies of modules, lists and dicts."""
        for _, copy in self._objects.values():
            vars(copy).update({name: self.value(value) for name, value in vars(copy).items()})

    def value(self, value: Any) -> Any:
        """Return a value with copies in the place of modules; lists and dicts are copied."""
        if type(value) in (list, dict):
            if id(value) not in self._containers:
                copy = type(value)()
                self._containers[id(value)] = value, copy
                if isinstance(value, list):
                    copy.extend(map(self.value, value))
                else:
                    copy.update({key: self.value(item) for key, item in value.items()})
            return self._containers[id(value)][1]
        if type(value) is tuple:
            return tuple(map(self.value, value))
        return self.function(value)

    def function(self, value: Any) -> Any:
        """Return a module, or a function that refers to modules, with copies in their place; all else as it is."""
        value = uncompiled(value)
        if isinstance(value, nn.Module):
            return self._copies.get(id(value), value)
        if id(value) in self._objects:
            return self._objects[id(value)][1]
        if isinstance(value, types.MethodType):
            owner = self.function(value.__self__)
            return value if owner is value.__self__ else types.MethodType(value.__func__, owner)
        if type(value) is functools.partial:
            options = self.value(value.keywords)
            return functools.partial(self.value(value.func), *self.value(value.args), **options)
        return self._closure(value) if isinstance(value, types.FunctionType) else value

    def _closure(self, function: types.FunctionType) -> types.FunctionType:
        """Return a function that refers to copies of modules, and of the lists and dicts that they hold."""
        if id(function) not in self._functions:
            if not self._refers(function, set()):
                return function
            cells, defaults = function.__closure__ or (), function.__defaults__ or ()
            renewed = tuple(types.CellType() if self._refers(_content(cell), set()) else cell for cell in cells)
            copy = types.FunctionType(function.__code__, function.__globals__, function.__name__, None, renewed)
            # before the cells are filled: one may hold the function itself, which calls itself by it
            self._functions[id(function)] = function, copy
            for cell, new in zip(cells, renewed, strict=True):
                if new is not cell:
                    new.cell_contents = self._referred(cell.cell_contents)
            copy.__defaults__ = tuple(map(self._referred, defaults))
            copy.__kwdefaults__, copy.__dict__ = function.__kwdefaults__, dict(function.__dict__)
        return self._functions[id(function)][1]

    def _refers(self, value: Any, seen: set[int]) -> bool:
        """Return whether a value leads to a module that has a copy, or to a list or dict that one holds."""
        value = uncompiled(value)
        if id(value) in seen:
            return False
        seen.add(id(value))
        if isinstance(value, types.FunctionType):
            inside = [*map(_content, value.__closure__ or ()), *(value.__defaults__ or ())]
        elif type(value) is functools.partial:
            inside = [value.func, *value.args, *value.keywords.values()]
        elif isinstance(value, types.MethodType):
            inside = [value.__self__]
        else:
            copies = [self._copies] if isinstance(value, nn.Module) else [self._containers, self._objects]
            return any(id(value) in each for each in copies)
        return any(self._refers(each, seen) for each in inside)

    def _referred(self, value: Any) -> Any:
        if type(value) in (list, dict):
            return self._containers.get(id(value), (value, value))[1]
        return value if type(value) is tuple else self.function(value)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None
