"""Candidates for the rule at the first layer, for maps, and for z+ at the convolutions above it.

All other rules stay those of `composite_for`.

A heatmap should say where something is, whatever number stands for nothing in the data. So there is also the same
network for other numbers (`moved`): a constant is added to the input and taken from the bias of the first layer.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import TypeVar

import crp.attribution  # noqa: F401  (the workaround must run before zennit is imported)

# isort: split
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from zennit.core import BasicHook, Stabilizer
from zennit.rules import AlphaBeta, ClampMod, Flat, Gamma, NoMod, WSquare, ZBox, ZPlus

from crp.attribution import composite_for, prepare
from crp.attribution.operation_composite import OperationComposite, ZPlusOrMinus
from crp.attribution.replica import Replica

Box = tuple[Tensor, Tensor]
Map = TypeVar("Map", Tensor, np.ndarray)


def box_of_sample() -> BasicHook:
    """z^B with the smallest and the largest value of each channel of the sample as bounds."""

    def bounded(values: Tensor, bound: Callable[[Tensor, int], Tensor]) -> Tensor:
        return bound(values.flatten(2), 2).view(*values.shape[:2], *[1] * (values.ndim - 2)).expand_as(values)

    def less(first: Tensor, *others: Tensor) -> Tensor:
        return first - sum(others)

    stabilized = Stabilizer.ensure(1e-6)
    return BasicHook(
        input_modifiers=[lambda x: x, lambda x: bounded(x, torch.amin), lambda x: bounded(x, torch.amax)],
        param_modifiers=[NoMod(), ClampMod(min=0.0), ClampMod(max=0.0)],
        output_modifiers=[lambda output: output] * 3,
        gradient_mapper=lambda relevance, outputs: (relevance / stabilized(less(*outputs)),) * 3,
        reducer=lambda inputs, gradients: less(*(x * part for x, part in zip(inputs, gradients, strict=True))),
    )


def plus_around_median() -> BasicHook:
    """z+ of the difference from the median of each channel of the sample, without the bias."""

    def apart(values: Tensor) -> Tensor:
        return values - values.flatten(2).median(2).values.view(*values.shape[:2], *[1] * (values.ndim - 2))

    stabilized = Stabilizer.ensure(1e-6)
    return BasicHook(
        input_modifiers=[lambda x: apart(x).clamp(min=0), lambda x: apart(x).clamp(max=0)],
        param_modifiers=[ClampMod(min=0.0, zero_params="bias"), ClampMod(max=0.0, zero_params="bias")],
        output_modifiers=[lambda output: output] * 2,
        gradient_mapper=lambda relevance, outputs: (relevance / stabilized(sum(outputs)),) * 2,
        reducer=lambda inputs, gradients: sum(x * part for x, part in zip(inputs, gradients, strict=True)),
    )


# The rule made from the smallest and largest possible value of each channel, `[1, c, 1, ...]`.
RULES: dict[str, Callable[[Box], BasicHook]] = {
    "flat": lambda box: Flat(),
    "w²": lambda box: WSquare(zero_params="bias"),
    "z+": lambda box: ZPlusOrMinus(),
    "gamma": lambda box: Gamma(0.25),
    "z^B": lambda box: ZBox(*box),
    "z^B of the sample": lambda box: box_of_sample(),
    "z+ around the median": lambda box: plus_around_median(),
}

# In place of z+ at convolutions above the first layer; z+ at depthwise ones stays.
ABOVE: dict[str, Callable[[], BasicHook]] = {
    "gamma 1 above": lambda: Gamma(1.0),
    "gamma 0.25 above": lambda: Gamma(0.25),
    "alpha-beta above": lambda: AlphaBeta(2, 1),
}


def with_first_layer(model: nn.Module, sample: Tensor, rule: str, box: Box) -> Replica:
    """Prepare a convolutional model with a candidate at its first layer or above.

    Parameters
    ----------
    model, sample
        The model and an example `[N, c, *S]` of its input.
    rule
        A key of `RULES` or `ABOVE`.
    box
        The smallest and largest possible value of each channel, `[1, c, 1, ...]`.
    """
    fitting = composite_for(model, sample).composite
    hook = ABOVE[rule]() if rule in ABOVE else RULES[rule](box)

    class Chosen(OperationComposite):
        def linear_rule(self, module: nn.Module, name: str, first: bool) -> BasicHook:
            fits = super().linear_rule(module, name, first)
            replaced = type(fits) is ZPlus if rule in ABOVE else first
            return hook if replaced else fits

    return prepare(model, Chosen(fitting.network, fitting.ranking))


def moved(model: nn.Module, name: str, by: Tensor) -> tuple[nn.Module, int]:
    """Make the model that has the same output for inputs to whose channels a constant was added.

    What the first convolution pads with becomes a margin of the input, so that it is moved as well.

    Parameters
    ----------
    model
        A model.
    name
        Its first convolution, padded equally on all sides, with a bias.
    by
        The constants, `[c]`.

    Returns
    -------
    tuple of Module and int
        The model, and the width of the margin that its input has (`moved_input`).
    """
    model = deepcopy(model)
    first = model.get_submodule(name)
    margin = first.padding[0]
    first.padding = (0,) * len(first.padding)
    with torch.no_grad():
        first.bias -= first.weight.flatten(2).sum(2) @ by
    return model, margin


def moved_input(data: Tensor, margin: int, by: Tensor) -> Tensor:
    """Add a margin of zeros to inputs `[N, c, *S]`, and a constant to each channel."""
    axes = data.ndim - 2
    return functional.pad(data, [margin] * 2 * axes) + by.view(-1, *[1] * axes)


def cut(heatmap: Map, margin: int) -> Map:
    """Leave out the margin of a heatmap `[*S]`."""
    return heatmap[(slice(margin, -margin or None),) * heatmap.ndim]
