r"""Rules of sums, products and other elementary functions.

A gate is the output of a bounded function (sigmoid, softmax, a clamp at both ends), also scaled or reshaped, or the
smaller of two factors, which is repeated: the squeeze-and-excitation of a channel, the norm of a vector. A gate gets no
relevance from a product. Of two bounded factors, one of which has both signs, that one is the signal:
`tanh(a) * sigmoid(b)`.

All that holds for maps. For ranking, gates, softmax, products and smooth functions have the `first_order` rule. With
epsilon at linear operations, relevance for ranking is gradient times activation, up to stabilisers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from crp.attribution.functions.cut_values import as_cut
from crp.attribution.functions.derivatives import (
    elementwise_first_order,
    first_order,
    graph_down,
    linear_down,
    own_graph,
    times_gradient,
    with_leaves,
)
from crp.attribution.functions.function_calls import Call, data_in, summed_to
from crp.attribution.functions.gates import (
    Gate,
    as_gate,
    bounded_gate_of,
    gate_of,
    gates_in,
    linear_gate_of,
    read_as_factor,
)
from crp.attribution.functions.input_values import as_input, is_input
from crp.attribution.functions.operation import Down
from crp.attribution.functions.selecting import made_of
from crp.attribution.purposes import Purpose
from crp.attribution.stabilizing import stabilized_reciprocal


def unchanged(relevance: Tensor) -> Sequence[Tensor]:
    """Pass relevance unchanged: the rule of element-wise functions."""
    return (relevance,)


def elementwise(call: Call) -> Tensor:
    """Pass relevance unchanged through a function of one tensor, element by element."""
    output, data = call.run(), call.data
    if len(data) != 1 or output.shape != data[0].shape:
        return other_function(call)
    return call.ruled(output, data, unchanged)


def smooth(call: Call) -> Tensor:
    """`elementwise` for maps; for ranking `first_order`, which agrees better with measured effects at GELU."""
    if not call.ranked_apart() or len(call.data) != 1:
        return elementwise(call)
    output, factor = elementwise_first_order(call)
    if factor is None:
        return _with_first_order(call, lambda graph, data, leaves: unchanged)
    rules = call.by_purpose(maps=lambda: unchanged, ranking=lambda: lambda relevance: (relevance * factor,))
    return call.ruled(output, call.data, rules)


def bounded(call: Call) -> Tensor:
    """`smooth`; what has a lower and an upper bound is a gate where it is a factor."""
    return as_gate(smooth(call), Gate())


def bounded_of_both_signs(call: Call) -> Tensor:
    """`bounded`, with values of both signs."""
    return as_gate(smooth(call), Gate(signed=True))


def only_gate(call: Call) -> Tensor:
    """Mark the output as a gate: a constant factor or divisor.

    Where relevance for maps reaches it all the same, it passes by the gradient, and a note says so.
    """
    output = _with_first_order(call, graph_down, scaling=True) if call.ranked_apart() else call.by_autograd()
    gate = Gate(call.name, call.rules.running.innermost, output.grad_fn)
    call.rules.gates.append(gate)
    return as_gate(output, gate)


def other_function(call: Call) -> Any:
    """Run a function that has no rule, which a note says: by its gradient for maps, by `first_order` for ranking.

    What returns several tensors, or a part of its argument, runs by its gradient for both. A function of several
    tensors runs twice: in the graph of the pass, its derivative by one of them may lead through another.
    """
    result = call.by_autograd()
    if next(data_in([result]), None) is None:
        return result
    if isinstance(result, Tensor) and result.grad_fn.name().endswith("NotImplemented"):
        return as_cut(result.detach())  # a step, as `floor_divide`
    call.rules.without_rule(call.name)
    if not isinstance(result, Tensor) or not call.ranked_apart():
        return result
    memory = {id(tensor) for value in call.data for tensor in (value, value._base)}
    part = id(result) in memory or (result._base is not None and id(result._base) in memory)
    complex_numbers = any(value.is_complex() for value in (result, *call.data))
    if part or complex_numbers:
        return result
    data = {id(value): value for value in call.data}
    return _with_first_order(call, graph_down, (result, [*data.values()], data) if len(data) == 1 else None)


def _with_first_order(
    call: Call,
    maps: Callable[..., Down],
    ran: tuple[Tensor, list[Tensor], dict[int, Tensor]] | None = None,
    *,
    scaling: bool = False,
) -> Tensor:
    """Put a function into the graph with `first_order` for ranking, and a rule for maps made of a graph of its own.

    That graph is given if the function ran already, as `own_graph` returns it.
    """
    own = ran or own_graph(call)
    graph, data, _ = own
    rules = call.by_purpose(maps=lambda: maps(*own), ranking=lambda: times_gradient(*own))
    # a copy: the graph may keep its output, and the model may change it in place
    return call.ruled(graph.detach().clone(), data, rules, scaling=scaling)


def addition(call: Call) -> Tensor:
    """Share relevance in proportion to the summands, with the sign of subtrahends."""
    output = call.run()
    first, second = call.argument(0, "input"), call.argument(1, "other")
    sign = -1 if call.name in ("sub", "subtract") else 1
    weights = (1, sign * call.kwargs.get("alpha", 1))
    if call.name == "rsub":
        weights = (-call.kwargs.get("alpha", 1), 1)
    summands = [
        (value, weight)
        for value, weight in zip((first, second), weights, strict=True)
        if isinstance(value, Tensor) and value.requires_grad
    ]
    parts = [value.detach() if weight == 1 else value.detach() * weight for value, weight in summands]
    reciprocal = stabilized_reciprocal(output)

    def down(relevance: Tensor) -> list[Tensor]:
        per_unit = relevance * reciprocal
        return [summed_to(per_unit * part, part.shape) for part in parts]

    def squares_down(squares: Tensor) -> list[Tensor]:
        per_unit = squares * reciprocal.square()
        return [summed_to(per_unit * part.square(), part.shape) for part in parts]

    rules = {Purpose.MAPS: down, Purpose.RANKING: down, Purpose.SQUARES: squares_down}
    if len(parts) == 1 and output.shape == parts[0].shape and is_input(summands[0][0]):
        return as_input(call.ruled(output, [summands[0][0]], rules | {Purpose.MAPS: unchanged}))
    result = call.ruled(output, [value for value, _ in summands], rules, by_input=True)
    # as in `1 - gate`
    return as_gate(result, Gate()) if len(summands) == 1 and bounded_gate_of(summands[0][0]) else result


def linear_map(call: Call) -> Tensor:
    """Apply the epsilon rule to a function that is linear, or affine, in one tensor, along positions."""
    return _linear_map(call, Purpose)


def _linear_map(call: Call, purposes: Iterable[Purpose]) -> Tensor:
    data = call.data
    if len(data) != 1:
        return other_function(call)
    return linearized(call, data[0], lambda leaf: with_leaves(call, {id(data[0]): leaf}), purposes=purposes)


def linearized(
    call: Call, data: Tensor, function: Callable[[Tensor], Tensor], *, purposes: Iterable[Purpose]
) -> Tensor:
    """Put an output into the graph with :math:`R_x = x J^T (R / z)` for the linear `function` of `data`."""
    down, value = linear_down(data, function)
    gate = linear_gate_of(data)
    rules = dict.fromkeys(purposes, lambda relevance: (down(relevance),))
    result = call.ruled(value, [data], rules, scaling=gate is not None, by_input=True)
    return result if gate is None else as_gate(result, gate)


def accumulation(call: Call) -> Tensor:
    """Share relevance in proportion to what was added up: `linear_map` of each tensor, with the sum as denominator."""
    output, data = call.run(), list({id(value): value for value in call.data}.values())
    downs = [
        linear_down(value, lambda leaf, value=value: with_leaves(call, {id(value): leaf}), output)[0] for value in data
    ]
    rules = dict.fromkeys((Purpose.MAPS, Purpose.RANKING), lambda relevance: [down(relevance) for down in downs])
    return call.ruled(output, data, rules, by_input=True)


def sampling(call: Call) -> Tensor:
    """Apply `linear_map` to what is sampled, with the places as constants; for ranking, to places made of data, too."""
    sampled = call.argument(0, "input")
    if not sampled.requires_grad:
        return other_function(call)

    def function(leaf: Tensor) -> Tensor:
        return with_leaves(call, {id(sampled): leaf})

    data = list({id(value): value for value in call.data}.values())
    if len(data) == 1 or not call.ranked_apart():
        return linearized(call, sampled, function, purposes=Purpose)
    output = call.run()

    def maps() -> Down:
        down, _ = linear_down(sampled, function, output)
        return lambda relevance: [down(relevance) if value is sampled else None for value in data]

    rules = call.by_purpose(maps=maps, ranking=lambda: first_order(call))
    return call.ruled(output, data, rules, ranked_only=_without(data, [sampled]))


def scaled(call: Call, output: Tensor, data: Tensor, kept: Tensor | None) -> Tensor:
    """Pass relevance through a product with a constant, except where the constant is zero."""

    def down(relevance: Tensor) -> tuple[Tensor]:
        return (summed_to(relevance if kept is None else relevance * kept, data.shape),)

    result = call.ruled(output, [data], down, scaling=True)
    return made_of(result, gate_of(data), is_input(data) and output.shape == data.shape)


def _nonzero(constant: Any, output: Tensor) -> Tensor | None:
    """Where a factor is not zero, as a factor; None if it is zero nowhere."""
    if not isinstance(constant, Tensor):
        return None if constant else torch.zeros_like(output)
    nonzero = constant != 0
    return None if bool(nonzero.all()) else nonzero.to(output)


def product(call: Call) -> Tensor:
    """Give a signal the relevance that a gate, or a constant, only scales; two signals get half each.

    For ranking, each of two factors gets all of it: the product's gradient times the factor.
    """
    output = call.run()
    first, second = call.argument(0, "input"), call.argument(1, "other")
    data = call.data
    if len(data) == 1:
        constant = second if first is data[0] else first
        return scaled(call, output, data[0], _nonzero(constant, output))
    signals = _signals(first, second)
    reached = [first, second] if call.ranked_apart() else signals

    def shared(receivers: Sequence[Tensor], part: float) -> Down:
        receives = [any(value is receiver for receiver in receivers) for value in reached]

        def down(relevance: Tensor) -> list[Tensor | None]:
            own = relevance if part == 1 else relevance * part
            return [
                summed_to(own, value.shape) if receiving else None
                for value, receiving in zip(reached, receives, strict=True)
            ]

        return down

    rules = call.by_purpose(
        maps=lambda: shared(signals, 1 / len(signals)), ranking=lambda: shared((first, second), 1)
    )
    for value in _without(data, signals):
        read_as_factor(value)
    result = call.ruled(output, reached, rules, ranked_only=_without(reached, signals))
    one, other = bounded_gate_of(first), bounded_gate_of(second)
    # a gated tanh is a signal
    gated = one is not None and other is not None and one.signed == other.signed
    return as_gate(result, Gate(signed=one.signed)) if gated else result


def _signals(first: Tensor, second: Tensor) -> list[Tensor]:
    """Which of two factors are signals, not gates."""
    gates = gates_in((first, second))
    if gates[0] == gates[1]:
        sizes = [first.numel(), second.numel()]
        if first.ndim != second.ndim or sizes[0] == sizes[1]:
            return [first, second]
        gates = [size < max(sizes) for size in sizes]
    return [value for value, gate in zip((first, second), gates, strict=True) if not gate]


def _without(values: Sequence[Tensor], others: Sequence[Tensor]) -> list[Tensor]:
    return [value for value in values if not any(value is other for other in others)]


def quotient(call: Call) -> Tensor:
    """Give the numerator all relevance; a constant divided by data passes it element by element.

    For ranking, a denominator gets it with the opposite sign: the quotient's gradient times the denominator. A quotient
    that is rounded has no derivative.
    """
    if call.kwargs.get("rounding_mode") is not None:
        return other_function(call)
    output = call.run()
    first, second = call.argument(0, "input"), call.argument(1, "other")
    if call.name in ("rdiv", "rtruediv"):
        first, second = second, first
    if not (isinstance(first, Tensor) and first.requires_grad):
        rules = call.by_purpose(
            maps=lambda: lambda relevance: (summed_to(relevance, second.shape),),
            ranking=lambda: lambda relevance: (summed_to(-relevance, second.shape),),
        )
        return call.ruled(output, [second], rules)
    if not call.ranked_apart() or not (isinstance(second, Tensor) and second.requires_grad):
        return scaled(call, output, first, None)
    rules = call.by_purpose(
        maps=lambda: lambda relevance: (summed_to(relevance, first.shape), None),
        ranking=lambda: lambda relevance: (summed_to(relevance, first.shape), summed_to(-relevance, second.shape)),
    )
    read_as_factor(second)
    result = call.ruled(output, [first, second], rules, scaling=True, ranked_only=[second])
    return result if (gate := gate_of(first)) is None else as_gate(result, gate)


def matrix_product(call: Call) -> Tensor:
    """Apply `linear_map` to the signal; of two signals each gets half. For ranking, each of two factors gets all."""
    data = call.data
    if len(data) == 1:
        return _linear_map(call, (Purpose.MAPS, Purpose.RANKING))
    if len(data) > 2:
        return other_function(call)
    gates = gates_in(data)
    signals = data if gates[0] == gates[1] else [value for value, gate in zip(data, gates, strict=True) if not gate]
    output = call.run()
    # one leaf stands for a tensor wherever it is given
    distinct = list({id(value): value for value in (data if call.ranked_apart() else signals)}.values())

    def halves() -> Down:
        downs: list[Callable[[Tensor], Tensor] | None] = []
        for value in distinct:
            shown = any(value is signal for signal in signals)

            def function(leaf: Tensor, value: Tensor = value) -> Tensor:
                return with_leaves(call, {id(value): leaf})

            downs.append(linear_down(value, function, output, 1 / len(signals))[0] if shown else None)
        return lambda relevance: [None if down is None else down(relevance) for down in downs]

    rules = call.by_purpose(maps=halves, ranking=lambda: first_order(call))
    for value in _without(distinct, signals):
        read_as_factor(value)
    return call.ruled(output, distinct, rules, ranked_only=_without(distinct, signals))
