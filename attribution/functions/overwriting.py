"""Assignments into a part of a tensor."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from crp.attribution.functions.function_calls import Call
from crp.attribution.ledger import Recorder


def assignment(call: Call) -> Any:
    """Write as autograd does, with the relevance of constants in the ledger.

    A constant that is written absorbs the relevance of its places. Data written into a constant leave to it the
    relevance of all other places.
    """
    target = call.argument(0, "self")
    if call.name == "setitem":
        index, value = call.args[1:]
    elif call.name == "index_put_":
        index, value = tuple(call.argument(1, "indices")), call.argument(2, "values")
        if call.argument(3, "accumulate", False):
            call.rules.without_rule(call.name)
            return call.by_autograd()
    else:
        index, value = ..., call.args[1] if len(call.args) > 1 else 0
    was_data, writes_data = target.requires_grad, isinstance(value, Tensor) and value.requires_grad
    result = call.by_autograd()
    if not (was_data and writes_data):
        note = partial(_note, call.rules.recorder, call.rules.running.innermost, call.name, index, writes_data)
        target.register_hook(note)
    return result


def _note(recorder: Recorder, module: str, name: str, index: Any, writes_data: bool, relevance: Tensor) -> None:
    """Record what ends at constants when relevance arrives at a tensor that was written into."""
    if recorder.entries is None:
        return
    written = torch.zeros_like(relevance)
    written[index] = relevance[index]
    recorder.record(module, name, relevance if writes_data else written, [written if writes_data else None])
