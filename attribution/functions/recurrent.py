"""Recurrent layers, opened into their steps: gates get no relevance, what they scale gets all.

Arras et al., "Explaining Recurrent Neural Network Predictions in Sentiment Analysis", 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from crp.attribution.functions.function_calls import Call
from crp.attribution.functions.gates import as_gate

# One step: what the input sends `[N, G H]`, what the hidden state sends, and the states before -> the states after.
Step = Callable[[Tensor, Tensor, list[Tensor]], list[Tensor]]


def lstm(call: Call) -> Any:
    """Open `torch.nn.LSTM`; packed sequences and projections run by their gradient."""
    return _opened(call, _lstm_step, 4)


def gru(call: Call) -> Any:
    """Open `torch.nn.GRU`; packed sequences run by their gradient."""
    return _opened(call, _gru_step, 3)


def rnn_tanh(call: Call) -> Any:
    """Open `torch.nn.RNN`; packed sequences run by their gradient."""
    return _opened(call, lambda sent, returned, states: [_signal(sent + returned)], 1)


def rnn_relu(call: Call) -> Any:
    """Open `torch.nn.RNN` with ReLU; packed sequences run by their gradient."""
    return _opened(call, lambda sent, returned, states: [functional.relu(sent + returned)], 1)


def lstm_cell(call: Call) -> tuple[Tensor, ...]:
    """Open `torch.nn.LSTMCell`."""
    return tuple(_one_step(call, _lstm_step))


def gru_cell(call: Call) -> Tensor:
    """Open `torch.nn.GRUCell`."""
    return _one_step(call, _gru_step)[0]


def _lstm_step(sent: Tensor, returned: Tensor, states: list[Tensor]) -> list[Tensor]:
    enter, keep, candidate, leave = torch.chunk(sent + returned, 4, -1)
    cell = torch.sigmoid(enter) * _signal(candidate) + torch.sigmoid(keep) * states[1]
    return [torch.sigmoid(leave) * _signal(cell), cell]


def _gru_step(sent: Tensor, returned: Tensor, states: list[Tensor]) -> list[Tensor]:
    (reset, keep, new), (own_reset, own_keep, own_new) = torch.chunk(sent, 3, -1), torch.chunk(returned, 3, -1)
    candidate = _signal(new + torch.sigmoid(reset + own_reset) * own_new)
    keep = torch.sigmoid(keep + own_keep)
    return [(1 - keep) * candidate + keep * states[0]]


def _one_step(call: Call, step: Step) -> list[Tensor]:
    data, states, inward, inner, bias, inner_bias = call.args
    states = [states] if isinstance(states, Tensor) else list(states)
    with call.rules:
        return step(functional.linear(data, inward, bias), functional.linear(states[0], inner, inner_bias), states)


def _signal(values: Tensor) -> Tensor:
    """Compute a tanh that is no gate."""
    values = torch.tanh(values)
    return as_gate(values, None)


def _opened(call: Call, step: Step, blocks: int) -> Any:
    data, states = call.args[:2]
    states = [states] if isinstance(states, Tensor) else states
    weights, biased, layers, _, _, bidirectional, batch_first = call.args[2:9] if len(call.args) == 9 else [None] * 7
    directions = 2 if bidirectional else 1
    each = 4 if biased else 2
    packed = not isinstance(weights, list | tuple)
    if packed or len(weights) != layers * directions * each or len(weights[0]) != blocks * states[0].shape[-1]:
        call.rules.without_rule(call.name)
        return call.by_autograd()
    last: list[list[Tensor]] = []
    with call.rules:
        rows = data.transpose(0, 1) if batch_first else data
        for place in range(0, layers * directions, directions):
            sides = []
            for side in range(place, place + directions):
                own = weights[side * each : (side + 1) * each]
                side_rows, ends = _one_direction(rows, [state[side] for state in states], own, step, side > place)
                sides.append(side_rows)
                last.append(ends)
            rows = torch.cat(sides, -1) if bidirectional else sides[0]
        output = rows.transpose(0, 1) if batch_first else rows
        return output, *(torch.stack(list(ends)) for ends in zip(*last, strict=True))


def _one_direction(
    rows: Tensor, states: list[Tensor], weights: Sequence[Tensor], step: Step, backwards: bool
) -> tuple[Tensor, list[Tensor]]:
    """Run one layer in one direction over `[T, N, D]`."""
    inward, inner, *biases = weights
    bias, inner_bias = biases or (None, None)
    sent = functional.linear(rows, inward, bias)
    order = range(len(rows) - 1, -1, -1) if backwards else range(len(rows))
    found: dict[int, Tensor] = {}
    for time in order:
        states = step(sent[time], functional.linear(states[0], inner, inner_bias), states)
        found[time] = states[0]
    return torch.stack([found[time] for time in range(len(rows))]), states
