"""Rules of what only moves, selects, joins or converts values: what autograd does is the rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from crp.attribution.functions.cut_values import as_cut
from crp.attribution.functions.derivatives import graph_down, own_graph
from crp.attribution.functions.function_calls import Call, data_in
from crp.attribution.functions.gates import Gate, as_gate, bounded_gate_of, gate_of, read_as_signal
from crp.attribution.functions.input_values import as_input, is_input
from crp.attribution.nested_tensors import tensors_in


def as_autograd(call: Call) -> Any:
    """Reshaping and selecting: what autograd does is the rule. Other tensors may be given for their shape."""
    # before the call, which may change the tensor in place
    gate, given = gate_of(call.data[0]), is_input(call.data[0])
    return made_of(call.by_autograd(), gate, given)


def converting(call: Call) -> Any:
    """As `as_autograd`; in what dtype values go on is kept for a note."""
    result = as_autograd(call)
    if isinstance(result, Tensor):  # float(values) is no conversion of a tensor
        call.rules.converted[result.dtype].add(call.rules.running.innermost)
    return result


def detaching(call: Call) -> Any:
    """Cut values off from the data, which counts where they are read (`cut_values.py`)."""
    return as_cut(call.by_autograd())


def gradient_hook(call: Call) -> Any:
    """Leave out what a model does to gradients: the hook is put on a tensor without a graph, where nothing calls it."""
    with torch.enable_grad():
        return torch.zeros((), requires_grad=True).register_hook(call.argument(1, "hook"))


def made_of(result: Any, gate: Gate | None, given: bool) -> Any:
    """Mark a result as what it was made of: a gate, or the input."""
    for tensor in data_in([result]) if gate is not None or given else ():
        if gate is not None:
            as_gate(tensor, gate)
        if given:
            as_input(tensor)
    return result


def broadcasting(call: Call) -> Sequence[Tensor]:
    """As `as_autograd`, for each of several tensors."""
    result = call.by_autograd()
    for before, after in zip(tensors_in(call.args), result, strict=True):
        made_of(after, gate_of(before), is_input(before))
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
    gates = list(map(bounded_gate_of, data))
    gate = None if None in gates else Gate(signed=any(gate.signed for gate in gates))
    return made_of(call.by_autograd(), gate, all(map(is_input, data)))


def filling(call: Call) -> Tensor:
    """As autograd does it, with the relevance of everything that is not data in the ledger."""
    graph, data, leaves = own_graph(call)
    return call.ruled(graph.detach(), data, graph_down(graph, data, leaves))
