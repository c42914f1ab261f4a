r"""Rules of normalizations.

For maps, the denominator is a constant, and what remains is a linear map. If relevance passed a layer norm unchanged,
it would grow by orders of magnitude in trained transformers (Ali et al., "XAI for Transformers: Better Explanations
through Conservative Propagation", 2022). For ranking, the rule is gradient times input, with the derivative of the
denominator: what a channel does through the scale of a norm is a part of its effect. `norm_squares.py` adds the term of
second order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from crp.attribution.functions.derivatives import first_order
from crp.attribution.functions.function_calls import Call
from crp.attribution.functions.gates import as_gate, linear_gate_of
from crp.attribution.functions.input_values import is_input
from crp.attribution.functions.norm_derivatives import Normalization
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
    Of the model's input it is preprocessing (`input_values.py`).
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
            axes, epsilon = _last_axes(data, call.argument(1, "normalized_shape")), call.argument(3, "eps")
            epsilon = torch.finfo(data.dtype).eps if epsilon is None else epsilon
            return _with_derivative(call, Normalization(data, output, axes, call.argument(2, "weight"), epsilon))
        if call.name == "normalize" and call.argument(1, "p", 2) == 2:
            axis, epsilon = call.argument(2, "dim", 1), call.argument(3, "eps", 1e-12)
            axes = [axis] if isinstance(axis, int) else axis
            return _with_derivative(call, Normalization(data, output, axes, None, epsilon, summed=True))
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
    own = Normalization(data, output, axes, weight, epsilon, groups, centred=True)
    constant = own.with_constant_denominator
    ranking = partial(_with_derivative, call, own) if ranked_apart else constant
    gate = linear_gate_of(data)
    rules = call.by_purpose(maps=constant, ranking=ranking)
    result = call.ruled(output, [data], rules, scaling=gate is not None)
    return result if gate is None else as_gate(result, gate)


def _with_derivative(call: Call, normalization: Normalization) -> Down:
    return normalization.with_derivative(call.rules.squares.add(call.data[0]))


def _with_constant_statistics(
    call: Call, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float
) -> Tensor:
    data = call.argument(0, "input")
    with torch.no_grad():
        scale = (variance + epsilon).rsqrt()
        scale = scale if weight is None else scale * weight
        shift = -mean * scale if bias is None else bias - mean * scale
    if is_input(data):
        along = -1, *[1] * (data.ndim - 2)
        with call.rules:
            return data * scale.to(data.dtype).view(along) + shift.to(data.dtype).view(along)
    with torch.no_grad():
        ruled = call.rules.ruled_module(Scaling(scale.to(data.dtype), shift.to(data.dtype)))
    ruled.original = lambda data: call.run()  # the model's own output, to the last digit
    return ruled.forward(data)
