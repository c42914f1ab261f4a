"""Names, output shapes and connections of a model's layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from crp.attribution.copies import replicate
from crp.attribution.flow import RelevanceFlow
from crp.attribution.in_place import made_out_of_place
from crp.attribution.isolation import isolated_pass, outside_inference
from crp.attribution.nested_tensors import tensors_in

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def layer_names(model: nn.Module, types: Sequence[type[nn.Module]] = (*_CONVOLUTIONS, nn.Linear)) -> list[str]:
    """List the names of the modules of some types, in the model's own order.

    Examples
    --------
    >>> layer_names(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)))
    ['0', '3']
    """
    return [name for name, module in model.named_modules() if isinstance(module, tuple(types))]


def output_shapes(model: nn.Module, data: Tensor, layers: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the shape `(C, *S)` of each layer's output for model input `data` `[N, c, *S]`."""
    with RelevanceFlow(model, None, data[:1], layers) as flow:
        return {layer: tuple(flow.activation(layer).shape[1:]) for layer in layers}


@dataclass(eq=False)
class ModuleCall:
    """One call of a module in a forward pass.

    Attributes
    ----------
    layer
        The module's name.
    feeders
        The nearest calls below: those whose outputs enter this call's output without passing through another call. For
        a module without children these feed its input; for a block they are the last calls inside it.
    """

    layer: str
    feeders: list[ModuleCall] = field(default_factory=list)


@isolated_pass()
def module_calls(model: nn.Module, data: Tensor) -> list[ModuleCall]:
    """List every call of a named module in one forward pass, and which calls feed which.

    Relevance flows along these connections. They are read from autograd's graph of the pass. The model is run once, in
    evaluation mode, and not changed.

    Parameters
    ----------
    model
        Any model that runs on `data`.
    data
        Model input, `[N, ...]`; one sample is enough.

    Returns
    -------
    list of ModuleCall
        In the order in which the calls returned. A module that is called twice has two entries.

    Examples
    --------
    >>> import torch
    >>> calls = module_calls(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.ones(1, 2))
    >>> [(call.layer, [feeder.layer for feeder in call.feeders]) for call in calls]
    [('0', []), ('1', ['0']), ('2', ['1'])]
    """
    copy = replicate(model)
    made_out_of_place(copy)  # each call needs an output of its own
    copy.requires_grad_(True)  # so that there is a graph for integer input (embeddings), too
    calls: list[ModuleCall] = []
    ends: dict[object, ModuleCall] = {}

    def record(layer: str) -> Callable[[nn.Module, tuple, object], object]:
        def hook(module: nn.Module, args: tuple, output: object) -> object:
            call = ModuleCall(layer)
            calls.append(call)
            below = [tensor.grad_fn for tensor in tensors_in([output]) if tensor.grad_fn is not None]
            call.feeders = _nearest_calls(below, ends)
            if isinstance(output, Tensor) and output.grad_fn is not None:
                # a graph node of its own, because an identity or a block returns the tensor of the module before it
                output = output.view_as(output)
                below = [output.grad_fn]
            ends.update(dict.fromkeys(below, call))
            return output

        return hook

    for name, module in copy.named_modules():
        if name:
            module.register_forward_hook(record(name))
    data = outside_inference(data)
    copy(data.detach().requires_grad_() if data.is_floating_point() else data)
    return calls


def _nearest_calls(below: Sequence[object], ends: dict[object, ModuleCall]) -> list[ModuleCall]:
    """Return the calls whose outputs come first on the way down autograd's graph, in the order of the operands."""
    found: dict[ModuleCall, None] = {}
    seen, waiting = set(), list(below)[::-1]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in ends:
            found[ends[node]] = None
        else:
            waiting += [lower for lower, _ in node.next_functions][::-1]
    return list(found)
