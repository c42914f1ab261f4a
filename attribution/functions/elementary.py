r"""Rules of sums, products and other elementary functions.

A gate is the output of a bounded function (sigmoid, softmax, a clamp at both ends), also scaled or reshaped, or the
smaller of two factors, which is repeated: the squeeze-and-excitation of a channel, the norm of a vector. A gate gets no
relevance from a product. Of two bounded factors, one of which has both signs, that one is the signal:
`tanh(a) * sigmoid(b)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from crp.attribution.functions.function_calls import Call, data_in, stabilized_reciprocal, summed_to
from crp.attribution.functions.gates import Gate, as_gate, gate_of, gates_in, linear_gate_of, read_as_signal
from crp.attribution.nested_tensors import tensors_in


def as_autograd(call: Call) -> Any:
    """Reshaping and selecting: what autograd does is the rule. Other tensors may be given for their shape."""
    gate = gate_of(call.data[0])  # before the call, which may change the tensor in place
    return _made_of_gate(call.by_autograd(), gate)


def _made_of_gate(result: Any, gate: Gate | None) -> Any:
    if gate is not None:
        for tensor in data_in([result]):
            as_gate(tensor, gate)
    return result


def broadcasting(call: Call) -> Sequence[Tensor]:
    """As `as_autograd`, for each of several tensors."""
    result = call.by_autograd()
    for before, after in zip(tensors_in(call.args), result, strict=True):
        _made_of_gate(after, gate_of(before))
    return result


def joining(call: Call) -> Any:
    """As autograd does it, with the relevance of joined or chosen constants in the ledger.

    What is made of gates alone is a gate.
    """
    data = call.data
    given = list(tensors_in((*call.args, *call.kwargs.values())))
    if len(given) > len(data):
        return filling(call)
    if len(data) == 1:
        return as_autograd(call)
    for value in data:
        read_as_signal(value)
    gates = list(map(gate_of, data))
    gate = None if None in gates else Gate(signed=any(gate.signed for gate in gates))
    return _made_of_gate(call.by_autograd(), gate)


def filling(call: Call) -> Tensor:
    """As autograd does it, with the relevance of everything that is not data in the ledger."""
    data = call.data
    with torch.enable_grad():
        leaves = {id(value): value.detach().requires_grad_() for value in data}
        graph = with_leaves(call, leaves)
    return _from_graph(call, graph, data, leaves)


def _from_graph(call: Call, graph: Tensor, data: Sequence[Tensor], leaves: Mapping[int, Tensor]) -> Tensor:
    """Put the output of a small graph of its own into the graph; tensors that are given twice share a leaf."""
    distinct = list({id(value): value for value in data}.values())

    def down(relevance: Tensor) -> Sequence[Tensor | None]:
        return torch.autograd.grad(
            graph,
            [leaves[id(value)] for value in distinct],
            relevance,
            retain_graph=True,
            create_graph=torch.is_grad_enabled(),
            allow_unused=True,
        )

    return call.ruled(graph.detach(), distinct, down)


def elementwise(call: Call) -> Tensor:
    """Pass relevance unchanged through a function of one tensor, element by element."""
    output, data = call.run(), call.data
    if len(data) != 1 or output.shape != data[0].shape:
        call.rules.without_rule(call.name)
        return call.by_autograd()
    return call.ruled(output, data, lambda relevance: (relevance,))


def bounded(call: Call) -> Tensor:
    """`elementwise`; what has a lower and an upper bound is a gate where it is a factor."""
    return as_gate(elementwise(call), Gate())


def bounded_of_both_signs(call: Call) -> Tensor:
    """`bounded`, with values of both signs."""
    return as_gate(elementwise(call), Gate(signed=True))


def clamp(call: Call) -> Tensor:
    """`elementwise`, and `bounded` with both bounds."""
    lower, upper = call.argument(1, "min"), call.argument(2, "max")
    if lower is None or upper is None:
        return elementwise(call)
    return as_gate(elementwise(call), Gate(signed=bool(torch.as_tensor(lower < 0).any())))


def hardtanh(call: Call) -> Tensor:
    """`bounded`; only with a negative lower bound do its values have both signs."""
    return as_gate(elementwise(call), Gate(signed=call.argument(1, "min_val", -1.0) < 0))


def only_gate(call: Call) -> Tensor:
    """Mark the output as a gate: a constant factor or divisor.

    Where relevance reaches it all the same, it passes by the gradient, and a note says so.
    """
    output = call.by_autograd()
    gate = Gate(call.name, call.rules.running.innermost, output.grad_fn)
    call.rules.gates.append(gate)
    return as_gate(output, gate)


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

    result = call.ruled(output, [value for value, _ in summands], down)
    # as in `1 - gate`
    return as_gate(result, Gate()) if len(summands) == 1 and gate_of(summands[0][0]) else result


def linear_map(call: Call) -> Tensor:
    """Apply the epsilon rule to a function that is linear, or affine, in one tensor."""
    data = call.data
    if len(data) != 1:
        call.rules.without_rule(call.name)
        return call.by_autograd()
    return linearized(call, data[0], lambda leaf: with_leaves(call, {id(data[0]): leaf}))


def with_leaves(call: Call, leaves: Mapping[int, Tensor]) -> Any:
    """Run the function with leaves in the place of some tensors, given by `id`, and all other data as constants."""

    def replaced(value: Any) -> Any:
        if isinstance(value, Tensor):
            return leaves.get(id(value), value.detach())
        return type(value)(map(replaced, value)) if type(value) in (list, tuple) else value

    return call.function(*map(replaced, call.args), **{name: replaced(value) for name, value in call.kwargs.items()})


def linearized(
    call: Call, data: Tensor, function: Callable[[Tensor], Tensor], output: Tensor | None = None, part: float = 1
) -> Tensor:
    """Put an output into the graph with :math:`R_x = x J^T (R / z)` for the linear `function` of `data`."""
    down, value = linear_down(data, function, output, part)
    gate = linear_gate_of(data)
    result = call.ruled(
        value if output is None else output, [data], lambda relevance: (down(relevance),), scaling=gate is not None
    )
    return result if gate is None else as_gate(result, gate)


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
        return gradient * factor

    return down, value


def accumulation(call: Call) -> Tensor:
    """Share relevance in proportion to what was added up: `linear_map` of each tensor, with the sum as denominator."""
    output, data = call.run(), list({id(value): value for value in call.data}.values())
    downs = [
        linear_down(value, lambda leaf, value=value: with_leaves(call, {id(value): leaf}), output)[0] for value in data
    ]
    return call.ruled(output, data, lambda relevance: [down(relevance) for down in downs])


def sampling(call: Call) -> Tensor:
    """Apply `linear_map` to what is sampled; the places, which may depend on the data, are constants."""
    data = call.argument(0, "input")
    if not data.requires_grad:
        call.rules.without_rule(call.name)
        return call.by_autograd()
    return linearized(call, data, lambda leaf: with_leaves(call, {id(data): leaf}))


def scaled(call: Call, output: Tensor, data: Tensor, kept: Tensor | None) -> Tensor:
    """Pass relevance through a product with a constant, except where the constant is zero."""

    def down(relevance: Tensor) -> tuple[Tensor]:
        return (summed_to(relevance if kept is None else relevance * kept, data.shape),)

    result = call.ruled(output, [data], down, scaling=True)
    return result if (gate := gate_of(data)) is None else as_gate(result, gate)


def _nonzero(constant: Any, output: Tensor) -> Tensor | None:
    """Where a factor is not zero, as a factor; None if it is zero nowhere."""
    if not isinstance(constant, Tensor):
        return None if constant else torch.zeros_like(output)
    nonzero = constant != 0
    return None if bool(nonzero.all()) else nonzero.to(output)


def product(call: Call) -> Tensor:
    """Give a signal the relevance that a gate, or a constant, only scales; two signals get half each."""
    output = call.run()
    first, second = call.argument(0, "input"), call.argument(1, "other")
    data = call.data
    if len(data) == 1:
        constant = second if first is data[0] else first
        return scaled(call, output, data[0], _nonzero(constant, output))
    signals = _signals(first, second)
    part = 1 / len(signals)

    def down(relevance: Tensor) -> list[Tensor]:
        shared = relevance if part == 1 else relevance * part
        return [summed_to(shared, signal.shape) for signal in signals]

    result = call.ruled(output, signals, down)
    one, other = gate_of(first), gate_of(second)
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


def quotient(call: Call) -> Tensor:
    """Give the numerator all relevance; a constant divided by data passes it element by element."""
    output = call.run()
    first, second = call.argument(0, "input"), call.argument(1, "other")
    if call.name in ("rdiv", "rtruediv"):
        first, second = second, first
    if not (isinstance(first, Tensor) and first.requires_grad):
        return call.ruled(output, [second], lambda relevance: (summed_to(relevance, second.shape),))
    return scaled(call, output, first, None)


def matrix_product(call: Call) -> Tensor:
    """Apply `linear_map` to the signal; of two signals each gets half."""
    data = call.data
    if len(data) == 1:
        return linear_map(call)
    if len(data) > 2:
        call.rules.without_rule(call.name)
        return call.by_autograd()
    gates = gates_in(data)
    signals = data if gates[0] == gates[1] else [value for value, gate in zip(data, gates, strict=True) if not gate]
    output = call.run()
    # one leaf stands for a tensor wherever it is given
    distinct = list({id(value): value for value in signals}.values())
    downs = [
        linear_down(value, lambda leaf, value=value: with_leaves(call, {id(value): leaf}), output, 1 / len(signals))[0]
        for value in distinct
    ]
    return call.ruled(output, distinct, lambda relevance: [down(relevance) for down in downs])
