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
    """Open `torch.nn.LSTM`."""
    return _opened(call, _lstm_step)


def gru(call: Call) -> Any:
    """Open `torch.nn.GRU`."""
    return _opened(call, _gru_step)


def rnn_tanh(call: Call) -> Any:
    """Open `torch.nn.RNN`."""
    return _opened(call, lambda sent, returned, states: [_signal(sent + returned)])


def rnn_relu(call: Call) -> Any:
    """Open `torch.nn.RNN` with ReLU."""
    return _opened(call, lambda sent, returned, states: [functional.relu(sent + returned)])


def lstm_cell(call: Call) -> tuple[Tensor, ...]:
    """Open `torch.nn.LSTMCell`."""
    return tuple(_one_step(call, _lstm_step))


def gru_cell(call: Call) -> Tensor:
    """Open `torch.nn.GRUCell`."""
    return _one_step(call, _gru_step)[0]


def packing(call: Call) -> tuple[Tensor, Tensor]:
    """Open `torch.nn.utils.rnn.pack_padded_sequence`: the places that are no padding, time by time."""
    data, _, batch_first = call.args
    sizes = call.run()[1]
    with call.rules:
        rows = data.transpose(0, 1) if batch_first else data
        return rows.flatten(0, 1).index_select(0, _places(sizes, rows.shape[1], data.device)), sizes


def unpacking(call: Call) -> tuple[Tensor, Tensor]:
    """Open `torch.nn.utils.rnn.pad_packed_sequence`: padding absorbs the relevance of its places."""
    data, sizes, batch_first = call.args[:3]
    padded, lengths = call.run()
    times, samples = padded.shape[:2][:: -1 if batch_first else 1]
    constants = padded.new_full((times * samples, *padded.shape[2:]), call.args[3])
    with call.rules:
        rows = constants.index_copy(0, _places(sizes, samples, data.device), data).unflatten(0, (times, samples))
        return rows.transpose(0, 1) if batch_first else rows, lengths


def _places(sizes: Tensor, samples: int, device: torch.device) -> Tensor:
    """Places of a packed sequence in `[T, N]`, flattened."""
    return torch.cat([torch.arange(size) + time * samples for time, size in enumerate(sizes.tolist())]).to(device)


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


def _opened(call: Call, step: Step) -> Any:
    if len(call.args) != 9:  # not as a module of torch calls it
        call.rules.without_rule(call.name)
        return call.by_autograd()
    # of a packed sequence, the size of the batch at each time stands before the states
    packed = isinstance(call.args[3], list | tuple)
    states, weights, biased, layers, _, _, bidirectional = call.args[2:] if packed else call.args[1:8]
    states = [states] if isinstance(states, Tensor) else states
    directions = 2 if bidirectional else 1
    each = len(weights) // (layers * directions)
    axis = 1 if not packed and call.args[8] else 0
    last: list[list[Tensor]] = []
    with call.rules:
        rows = call.args[0].split(call.args[1].tolist()) if packed else call.args[0].unbind(axis)
        for place in range(0, layers * directions, directions):
            sides = []
            for side in range(place, place + directions):
                own = weights[side * each : (side + 1) * each]
                starts = [state[side] for state in states]
                side_rows, ends = _one_direction(rows, starts, own, biased, step, backwards=side > place)
                sides.append(side_rows)
                last.append(ends)
            rows = [torch.cat(both, -1) for both in zip(*sides, strict=True)] if bidirectional else sides[0]
        output = torch.cat(rows) if packed else torch.stack(rows, axis)
        return output, *(torch.stack(list(ends)) for ends in zip(*last, strict=True))


def _one_direction(
    rows: Sequence[Tensor],
    starts: list[Tensor],
    weights: Sequence[Tensor],
    biased: bool,
    step: Step,
    *,
    backwards: bool,
) -> tuple[list[Tensor], list[Tensor]]:
    """Run one layer in one direction over the inputs at each time, `[N, D]`, of which later ones may be fewer."""
    inward, inner, *others = weights
    bias, inner_bias = others[:2] if biased else (None, None)
    projection = others[2 * biased :]
    sent = functional.linear(torch.cat(rows), inward, bias).split([len(row) for row in rows])
    states, ended, found = [start[: len(rows[-1 if backwards else 0])] for start in starts], [], {}
    for time in range(len(rows) - 1, -1, -1) if backwards else range(len(rows)):
        count, before = len(rows[time]), len(states[0])
        if count > before:  # sequences that end here, and are read from their end
            states = [torch.cat([state, start[before:count]]) for state, start in zip(states, starts, strict=True)]
        if count < before:
            ended.append([state[count:] for state in states])
            states = [state[:count] for state in states]
        states = step(sent[time], functional.linear(states[0], inner, inner_bias), states)
        if projection:
            states = [functional.linear(states[0], *projection), *states[1:]]
        found[time] = states[0]
    parts = [states, *reversed(ended)]
    ends = [torch.cat(part) for part in zip(*parts, strict=True)] if ended else states
    return [found[time] for time in range(len(rows))], ends
