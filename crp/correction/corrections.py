"""A corrected model, and how a change of a layer gets into a copy of the caller's model."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from crp.attribution.named_layers import SUFFIX, module_name
from crp.attribution.wrappers import unwrapped
from crp.correction.channel_maps import ChannelMap
from crp.correction.reruns import Rerun
from crp.errors import ModelError
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
        The change of that output as a module; None if it is not changed.
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
    fixed = copied(model)
    example = data[:2]
    change = found.module(layout, example)
    name = module_name(layer)
    module = fixed.get_submodule(name)
    own = not _shared(fixed, module) and not module._forward_hooks and not module._forward_pre_hooks
    write = found.written_before if layer.endswith(SUFFIX) else found.written_after
    in_weights = own and write(module)
    if not in_weights:
        _replace(fixed, layer, change)
    correction = Correction(fixed, method, in_weights, layer, change)
    _check(model, correction, example)
    return correction


def inserted(model: nn.Module, data: Tensor, layer: str, change: nn.Module, method: str) -> Correction:
    """Return the model with a module put after a layer (or before a module, at its input)."""
    fixed = copied(model)
    _replace(fixed, layer, change)
    correction = Correction(fixed, method, False, layer, change)
    _check(model, correction, data[:2])
    return correction


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
def _check(model: nn.Module, correction: Correction, example: Tensor) -> None:
    """Compare the corrected model with the change made by hand: models may read weights past their modules."""
    expected = Rerun(model, correction.layer, correction.change).run(example)
    try:
        found = correction.model(example)
    except (AttributeError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"The model does not run with a module added at '{correction.layer}' ({error}); name the layer after it."
        ) from error
    largest = max(float(expected.abs().max()), 1e-6)
    if found.shape != expected.shape or float((found - expected).abs().max()) > _ROUNDING * largest:
        raise ModelError(
            f"The corrected model does not give what changing the output of '{correction.layer}' gives: the model may "
            "read that layer's weights elsewhere. Name another layer."
        )
