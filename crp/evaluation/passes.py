"""Forward passes of a model as it is, and of the same model with random weights."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from crp.attribution.copies import replicate
from crp.attribution.final_activation import FinalActivation
from crp.attribution.forward_pass import checked_input
from crp.attribution.isolation import isolated_pass
from crp.attribution.removal import explained_value
from crp.attribution.starts import Start
from crp.evaluation.subject import BATCH


@isolated_pass()
def predictions(model: nn.Module, data: Tensor) -> Tensor:
    """Compute the model's output, before a final softmax or sigmoid, `[N, c, *S]` -> `[N, ...]`."""
    model = replicate(model)
    found = []
    for batch in checked_input(model, data).split(BATCH):
        with torch.no_grad(), FinalActivation(model) as final:
            output = final.removed(model(batch)).output
        found.append(output)
    return torch.cat(found)


def with_shuffled_weights(model: nn.Module, seed: int, names: Collection[str] | None = None) -> nn.Module:
    """Copy a model, with the entries of every parameter in random order.

    A network whose weights were drawn independently, as an untrained one's, is as likely as its shuffled copies.

    Parameters
    ----------
    model
        Any module. It is not changed.
    seed
        Seed of the orders.
    names
        Modules whose parameters are shuffled; by default all.
    """
    copy, generator = replicate(model), torch.Generator().manual_seed(seed)
    shuffled: dict[int, nn.Parameter] = {}
    for name, module in copy.named_modules():
        for key, parameter in module._parameters.items():
            if parameter is None or (names is not None and name not in names):
                continue
            if id(parameter) not in shuffled:  # tied weights stay tied
                order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
                values = parameter.detach().flatten()[order].view_as(parameter)
                shuffled[id(parameter)] = nn.Parameter(values, requires_grad=False)
            module._parameters[key] = shuffled[id(parameter)]
    return copy


def modules_as_called(model: nn.Module, sample: Tensor) -> list[str]:
    """List the modules that have parameters of their own, in the order of their last calls in a forward pass."""
    copy, called = replicate(model), []
    for name, module in copy.named_modules():
        if any(parameter is not None for parameter in module._parameters.values()):
            module.register_forward_hook(lambda module, args, output, name=name: called.append(name))
    predictions(copy, sample)
    return list(dict.fromkeys(reversed(called)))[::-1]


@isolated_pass()
def input_gradient(model: nn.Module, data: Tensor, start: Start) -> Tensor:
    """Compute the gradient of what is explained with respect to the input, `[N, c, *S]`, of the plain model."""
    model = replicate(model)
    leaf = checked_input(model, data).detach().clone().requires_grad_()
    with torch.enable_grad():
        with FinalActivation(model) as final:
            output = model(leaf)
        output = final.removed(output).output
        (gradient,) = torch.autograd.grad(explained_value(start, output).sum(), leaf)
    return gradient
