"""A corrected model, and how a change of a layer gets into a copy of the caller's model."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from crp.attribution.named_layers import SUFFIX, module_name
from crp.attribution.wrappers import unwrapped
from crp.correction.channel_maps import ChannelMap
from crp.correction.reruns import Rerun
from crp.errors import ModelError, listed
from crp.layout import Layout

# Difference of outputs, relative to the largest, that edited weights may make by rounding.
_ROUNDING = 1e-3


@dataclass(frozen=True, eq=False)
class Correction:
    """A corrected copy of a model.

    Attributes
    ----------
    model
        The copy, in evaluation mode.
    method
        What was done, in a few words.
    in_weights
        Whether only weights differ, so that a state dict is enough to load it into the original architecture.
    layer
        The layer whose output is changed.
    change
        The change of that output as a module; None if it is not changed, or not that layer alone.
    last
        The model's last linear layer, if it was fitted again.
    """

    model: nn.Module
    method: str
    in_weights: bool
    layer: str
    change: nn.Module | None = None
    last: nn.Linear | None = None


def mapped(model: nn.Module, data: Tensor, layer: str, layout: Layout, found: ChannelMap, method: str) -> Correction:
    """Return the model with an affine map of a layer's channels, in its weights where that is exact."""
    return all_mapped(model, data, {layer: (layout, found)}, method)


def all_mapped(
    model: nn.Module, data: Tensor, maps: Mapping[str, tuple[Layout, ChannelMap]], method: str
) -> Correction:
    """Return the model with affine maps of several layers' channels, in its weights where that is exact."""
    fixed, example = copied(model), data[:2]
    changes = {layer: found.module(layout, example) for layer, (layout, found) in maps.items()}
    in_weights = True
    for layer in sorted(maps, key=lambda layer: -layer.count(".")):  # a layer in another one is changed before it
        module = fixed.get_submodule(module_name(layer))
        own = not _shared(fixed, module) and not module._forward_hooks and not module._forward_pre_hooks
        found = maps[layer][1]
        if not (own and (found.written_before if layer.endswith(SUFFIX) else found.written_after)(module)):
            _replace(fixed, layer, changes[layer])
            in_weights = False
    _check(model, fixed, changes, example)
    last = list(maps)[-1]
    return Correction(fixed, method, in_weights, last, changes[last] if len(maps) == 1 else None)


def inserted(model: nn.Module, data: Tensor, layer: str, change: nn.Module, method: str) -> Correction:
    """Return the model with a module put after a layer (or before a module, at its input)."""
    fixed = copied(model)
    _replace(fixed, layer, change)
    _check(model, fixed, {layer: change}, data[:2])
    return Correction(fixed, method, False, layer, change)


def copied(model: nn.Module) -> nn.Module:
    """Return a copy with weights of its own, in evaluation mode, without wrappers."""
    return copy.deepcopy(unwrapped(model)).eval()


def _shared(model: nn.Module, module: nn.Module) -> bool:
    """Whether a module, or one of its parameters, is used under two names."""
    modules = [found for _, found in model.named_modules(remove_duplicate=False) if found is module]
    uses = Counter(id(value) for _, value in model.named_parameters(remove_duplicate=False))
    return len(modules) > 1 or any(uses[id(value)] > 1 for value in module.parameters())


def _replace(model: nn.Module, layer: str, change: nn.Module) -> None:
    name = module_name(layer)
    parent, _, own = name.rpartition(".")
    module = model.get_submodule(name)
    both = (change, module) if layer.endswith(SUFFIX) else (module, change)
    model.get_submodule(parent)._modules[own] = nn.Sequential(*both).eval()


@torch.no_grad()
def _check(model: nn.Module, fixed: nn.Module, changes: Mapping[str, nn.Module], example: Tensor) -> None:
    """Compare a corrected model with changes made by hand: models may read weights past their modules."""
    layers = listed(changes)
    expected = Rerun(model, next(iter(changes)), changes).run(example)
    try:
        found = fixed(example)
    except (AttributeError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"The model does not run with a module added at {layers} ({error}); name the layer after it."
        ) from error
    largest = max(float(expected.abs().max()), 1e-6)
    if found.shape != expected.shape or float((found - expected).abs().max()) > _ROUNDING * largest:
        raise ModelError(
            f"The corrected model does not give what changing the output of {layers} gives: the model may read that "
            "layer's weights elsewhere. Name another layer."
        )
