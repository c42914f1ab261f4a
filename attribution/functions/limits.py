"""Rules of functions with limits: relevance passes, except where the limit counts and not the data."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from crp.attribution.functions.derivatives import with_leaves
from crp.attribution.functions.elementary import elementwise
from crp.attribution.functions.function_calls import Call
from crp.attribution.functions.gates import Gate, as_gate
from crp.attribution.purposes import Purpose


def relu6(call: Call) -> Tensor:
    """`limited`, and bounded."""
    return limited(call, Gate())


def clamp(call: Call) -> Tensor:
    """`limited`, and bounded with both limits."""
    lower, upper = call.argument(1, "min"), call.argument(2, "max")
    if lower is None or upper is None:
        return limited_on_one_side(call)
    return limited(call, Gate(signed=bool(torch.as_tensor(lower < 0).any())))


def limited_on_one_side(call: Call) -> Tensor:
    """`limited`: a signal in products, but as a divisor it only scales."""
    return limited(call, Gate(bounded=False))


def hardtanh(call: Call) -> Tensor:
    """`limited`, and bounded; only with a negative lower limit do its values have both signs."""
    return limited(call, Gate(signed=call.argument(1, "min_val", -1.0) < 0))


def sign(call: Call) -> Tensor:
    """`limited`: both values are limits."""
    return limited(call, Gate(signed=True), sloped=False)


def limited(call: Call, gate: Gate | None = None, *, sloped: bool = True) -> Tensor:
    """Pass relevance unchanged through a function with limits, except where the limit counts and not the data.

    Beyond a limit the derivative is 0, but removing the value changes the output, so relevance passes. Where a value of
    0 would give the same limit, it is a constant, which absorbs relevance. A gate that only scales has no effect of its
    own: for ranking it has its derivative, as smooth gates have.

    Parameters
    ----------
    call
        The call.
    gate
        The output as a gate; None if it is none.
    sloped
        Whether the function is the identity between its limits; otherwise its derivative is 0 everywhere.
    """
    output, data = call.run(), call.data
    if len(data) != 1 or output.shape != data[0].shape:
        return elementwise(call)
    with torch.no_grad():
        at_zero = with_leaves(call, {id(data[0]): data[0].new_zeros(())})
    fixed = bool((at_zero != 0).any())
    kept = ((output == data[0]) | (output != at_zero)).to(output) if fixed else None
    purpose, value = call.rules.purpose, data[0].detach()
    # with what is detached: the call would hold the graph, which holds this rule
    arguments = [value if argument is data[0] else argument for argument in call.args]
    named = {name: value if argument is data[0] else argument for name, argument in call.kwargs.items()}
    again = partial(call.function, *arguments, **named)

    def down(relevance: Tensor) -> tuple[Tensor]:
        if gate is not None and gate.only_scales and purpose.value is Purpose.RANKING:
            return (relevance * (again() == value) if sloped else torch.zeros_like(relevance),)
        return (relevance if kept is None else relevance * kept,)

    result = call.ruled(output, data, down)
    return result if gate is None else as_gate(result, gate)
