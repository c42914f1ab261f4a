r"""Rules of normalizations.

For maps, the denominator is a constant, and what remains is a linear map. If relevance passed a layer norm unchanged,
it would grow by orders of magnitude in trained transformers (Ali et al., "XAI for Transformers: Better Explanations
through Conservative Propagation", 2022). For ranking, the rule is gradient times input, with the derivative of the
denominator: what a channel does through the scale of a norm is a part of its effect. `norm_squares.py` adds the term of
second order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from crp.attribution.functions.derivatives import first_order, linear_down
from crp.attribution.functions.function_calls import Call, stabilized_reciprocal
from crp.attribution.functions.gates import as_gate, linear_gate_of
from crp.attribution.functions.operation import Down
from crp.attribution.scaling import Scaling


def layer_norm(call: Call) -> Tensor:
    r"""Normalize :math:`(x - \mu) / \sigma \cdot w + b` over the last axes."""
    data = call.argument(0, "input")
    axes = _last_axes(data, call.argument(1, "normalized_shape"))
    return _standardized(call, axes, call.argument(2, "weight"), call.argument(4, "eps", 1e-5))


def group_norm(call: Call) -> Tensor:
    """Normalize as `layer_norm`, over groups of channels and space."""
    groups, weight = call.argument(1, "num_groups"), call.argument(2, "weight")
    return _by_groups(call, groups, weight, call.argument(4, "eps", 1e-5), ranked_apart=True)


def instance_norm(call: Call) -> Tensor:
    """Normalize as `group_norm` with one channel in a group, or with running statistics as `batch_norm`.

    The denominator is a constant for ranking, too: a channel that is removed leaves no values that it could scale.
    """
    weight, bias, epsilon = call.argument(3, "weight"), call.argument(4, "bias"), call.argument(7, "eps", 1e-5)
    if not call.argument(5, "use_input_stats", True):
        mean, variance = call.argument(1, "running_mean"), call.argument(2, "running_var")
        return _with_constant_statistics(call, mean, variance, weight, bias, epsilon)
    return _by_groups(call, call.argument(0, "input").shape[1], weight, epsilon, ranked_apart=False)


def batch_norm(call: Call) -> Tensor:
    r"""Use the composite's rule for :math:`(x - \mu) / \sigma \cdot w + b` with constant statistics, a `Scaling`.

    Without running statistics, those of the batch are constants, too: no relevance crosses from one sample to another.
    """
    mean, variance = call.argument(1, "running_mean"), call.argument(2, "running_var")
    if variance is None or call.argument(5, "training", False):
        channels = call.argument(0, "input").detach().transpose(0, 1).flatten(1)
        mean, variance = channels.mean(1), channels.var(1, correction=0)
    weight, bias = call.argument(3, "weight"), call.argument(4, "bias")
    return _with_constant_statistics(call, mean, variance, weight, bias, call.argument(7, "eps", 1e-5))


def vector_norm(call: Call) -> Tensor:
    """Divide by a norm of the vector (RMS norm, `normalize`); for maps relevance passes unchanged."""
    output, data = call.run(), call.data[0]

    def ranking() -> Down:
        if call.name == "rms_norm":
            axes, weight = _last_axes(data, call.argument(1, "normalized_shape")), call.argument(2, "weight")
            epsilon = call.argument(3, "eps")
            epsilon = torch.finfo(data.dtype).eps if epsilon is None else epsilon
            factor = 1 if weight is None else weight.detach()
            size = math.prod(data.shape[axis] for axis in axes)
            return _through_spread(
                call,
                output,
                lambda values: values.square().mean(axes, keepdim=True),
                lambda values, spread: values * (spread + epsilon).rsqrt() * factor,
                1 / size,
            )
        if call.name == "normalize" and call.argument(1, "p", 2) == 2:
            axis, epsilon = call.argument(2, "dim", 1), call.argument(3, "eps", 1e-12)
            return _through_spread(
                call,
                output,
                lambda values: values.square().sum(axis, keepdim=True),
                lambda values, spread: values / spread.sqrt().clamp_min(epsilon),
                1.0,
            )
        return first_order(call)

    return call.ruled(output, [data], call.by_purpose(maps=lambda: lambda relevance: (relevance,), ranking=ranking))


def _last_axes(data: Tensor, shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(range(data.ndim - len(shape), data.ndim))


def _by_groups(call: Call, groups: int, weight: Tensor | None, epsilon: float, *, ranked_apart: bool) -> Tensor:
    data = call.argument(0, "input")
    axes = tuple(range(2, data.ndim + 1))
    if weight is not None:
        weight = weight.view(groups, -1, *[1] * (data.ndim - 2))
    return _standardized(call, axes, weight, epsilon, groups=groups, ranked_apart=ranked_apart)


def _standardized(
    call: Call,
    axes: Sequence[int],
    weight: Tensor | None,
    epsilon: float,
    *,
    groups: int | None = None,
    ranked_apart: bool = True,
) -> Tensor:
    r"""Put :math:`(x - \mu) / \sigma \cdot w + b` into the graph.

    Parameters
    ----------
    axes
        The mean and the deviation are those over these axes; with `groups`, of `[N, groups, C / groups, *S]`.
    weight
        :math:`w`, as it is broadcast.
    epsilon
        What is added to the variance.
    groups
        The number of groups of channels.
    ranked_apart
        Whether the deviation has a derivative in the rule for ranking.
    """
    data, output = call.argument(0, "input"), call.run()
    factor = 1 if weight is None else weight.detach()

    def grouped(values: Tensor) -> Tensor:
        return values if groups is None else values.unflatten(1, (groups, -1))

    def variance(values: Tensor) -> Tensor:
        return grouped(values).var(axes, correction=0, keepdim=True)

    def scaled(values: Tensor, spread: Tensor) -> Tensor:
        values = grouped(values)
        return ((values - values.mean(axes, keepdim=True)) * ((spread + epsilon).rsqrt() * factor)).view(data.shape)

    def linear() -> Down:
        constant = variance(data.detach())
        down, _ = linear_down(data, lambda leaf: scaled(leaf, constant), output)
        return lambda relevance: (down(relevance),)

    def ranking() -> Down:
        size = math.prod(grouped(data).shape[axis] for axis in axes)
        return _through_spread(call, output, variance, scaled, (1 - 1 / size) / size, grouped)

    gate = linear_gate_of(data)
    rules = call.by_purpose(maps=linear, ranking=ranking if ranked_apart else linear)
    result = call.ruled(output, [data], rules, scaling=gate is not None)
    return result if gate is None else as_gate(result, gate)


def _through_spread(
    call: Call,
    output: Tensor,
    spread: Callable[[Tensor], Tensor],
    scaled: Callable[[Tensor, Tensor], Tensor],
    square: float,
    grouped: Callable[[Tensor], Tensor] = lambda values: values,
) -> Down:
    """Return gradient times input of a norm, as a rule that also says what each value's square does.

    Parameters
    ----------
    output
        The norm's output.
    spread
        Computes a quadratic form of the input: the variance, or a mean or sum of squares.
    scaled
        Computes the output, without its shift, of the input and the spread.
    square
        How much the square of one value adds to the spread.
    grouped
        Views the input such that the spread is broadcast to it.
    """
    data = call.data[0]
    with torch.enable_grad():
        leaf = data.detach().requires_grad_()
        variable = spread(leaf)
        graph = scaled(leaf, variable)
    values, reciprocal, norm = data.detach(), stabilized_reciprocal(output), call.rules.squares.add(data)
    squares = grouped(values).square() * square

    def down(relevance: Tensor) -> Sequence[Tensor]:
        gradient, through = torch.autograd.grad(graph, [leaf, variable], relevance * reciprocal, retain_graph=True)
        norm.arriving = (squares * through).reshape(values.shape)
        return (gradient * values,)

    return down


def _with_constant_statistics(
    call: Call, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float
) -> Tensor:
    data = call.argument(0, "input")
    with torch.no_grad():
        scale = (variance + epsilon).rsqrt()
        scale = scale if weight is None else scale * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        ruled = call.rules.ruled_module(Scaling(scale.to(data.dtype), shift.to(data.dtype)))
    ruled.original = lambda data: call.run()  # the model's own output, to the last digit
    return ruled.forward(data)
