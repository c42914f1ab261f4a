"""Functions run once more in a small graph of their own, whose derivative is a part of their rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from crp.attribution.functions.function_calls import Call
from crp.attribution.functions.operation import Down
from crp.attribution.nested_tensors import tensors_in
from crp.attribution.stabilizing import pieces, stabilized_reciprocal, stabilized_reciprocal_into


def with_leaves(call: Call, leaves: Mapping[int, Tensor]) -> Any:
    """Run the function with leaves in the place of some tensors, given by `id`, and all other data as constants."""

    def replaced(value: Any) -> Any:
        if isinstance(value, Tensor):
            return leaves.get(id(value), value.detach())
        return type(value)(map(replaced, value)) if type(value) in (list, tuple) else value

    return call.function(*map(replaced, call.args), **{name: replaced(value) for name, value in call.kwargs.items()})


def first_order(call: Call) -> Down:
    r"""Return the rule :math:`R_x = x \odot J^T (R / z)` for all data of a function, with its Jacobian :math:`J`.

    Infinite values (masked scores of attention) get no relevance.
    """
    return times_gradient(*own_graph(call))


def own_graph(call: Call) -> tuple[Tensor, list[Tensor], dict[int, Tensor]]:
    """Run a function in a graph of its own: the output, the distinct data, and their leaves by `id`."""
    data = list({id(value): value for value in call.data}.values())
    with torch.enable_grad():
        leaves = {id(value): value.detach().requires_grad_() for value in data}
        return with_leaves(call, leaves), data, leaves


def times_gradient(graph: Tensor, data: Sequence[Tensor], leaves: Mapping[int, Tensor]) -> Down:
    """Return the rule `first_order` for a function that ran in a graph of its own."""
    gradient, reciprocal = graph_down(graph, data, leaves), stabilized_reciprocal(graph)
    values = [_finite(value.detach()) for value in data]

    def down(relevance: Tensor) -> list[Tensor | None]:
        found = gradient(relevance * reciprocal)
        return [None if part is None else value * part for value, part in zip(values, found, strict=True)]

    return down


def elementwise_first_order(call: Call) -> tuple[Tensor, Tensor | None]:
    r"""Run a function of one tensor, element by element, and its derivative at once.

    Returns
    -------
    output
        :math:`f(x)`.
    factor
        :math:`x f'(x) / z`, the factor of relevance in `first_order`; None if the function has another tensor as its
        argument, or another shape or dtype as its output.
    """
    (data,) = call.data
    others = [value for value in tensors_in((*call.args, *call.kwargs.values())) if value is not data]
    if others or not data.is_floating_point():
        return call.run(), None
    output, factor = torch.empty_like(data), torch.empty_like(data)
    # each piece would be a call that modes see
    with torch._C.DisableTorchFunction(), torch.no_grad():
        for values, result, part in pieces(data.detach(), output, factor):
            if call.function is functional.gelu and len(call.args) == 1:  # autograd takes twice as long
                functional.gelu(values, **call.kwargs, out=result)
                stabilized_reciprocal_into(result, part)
                gradient = torch.ops.aten.gelu_backward(part, values, **call.kwargs, grad_input=part)
            else:
                with torch.enable_grad():
                    leaf = values.detach().requires_grad_()
                    graph = with_leaves(call, {id(data): leaf})
                if graph.shape != values.shape or graph.dtype != values.dtype:
                    return call.run(), None
                result.copy_(graph.detach())
                (gradient,) = torch.autograd.grad(graph, leaf, stabilized_reciprocal_into(result, part))
            torch.mul(_finite(values), gradient, out=part)
    return output, factor


def _finite(values: Tensor) -> Tensor:
    """Put 0 in the place of infinite values."""
    # the sum is not finite if a value is not, and takes a tenth of the time that `isfinite` takes
    return values if math.isfinite(values.sum()) else torch.where(values.isfinite(), values, 0)


def graph_down(graph: Tensor, data: Sequence[Tensor], leaves: Mapping[int, Tensor]) -> Down:
    """Return the gradient as a rule, for a function that ran in a graph of its own."""

    def down(relevance: Tensor) -> Sequence[Tensor | None]:
        return torch.autograd.grad(
            graph,
            [leaves[id(value)] for value in data],
            relevance,
            retain_graph=True,
            create_graph=torch.is_grad_enabled(),
            allow_unused=True,
        )

    return down


def linear_down(
    data: Tensor, function: Callable[[Tensor], Tensor], output: Tensor | None = None, part: float = 1
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    r"""Return the map :math:`R \mapsto p\, x J^T (R / z)`, and the value of `function`.

    Parameters
    ----------
    data
        :math:`x`.
    function
        Linear in its argument, with the Jacobian :math:`J`.
    output
        :math:`z`, by default the function's value; with a shift, for which the map leaves relevance out.
    part
        :math:`p`.
    """
    with torch.enable_grad():
        leaf = data.detach().requires_grad_()
        graph = function(leaf)
    value = graph.detach()
    reciprocal = stabilized_reciprocal(value if output is None else output)
    factor = data.detach() if part == 1 else data.detach() * part

    def down(relevance: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(
            graph, leaf, relevance * reciprocal, retain_graph=True, create_graph=torch.is_grad_enabled()
        )
        # the factor first: the product has its layout in memory, which is that of the forward pass
        return factor * gradient

    return down, value
