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
    # autograd notes a change of a view at the tensor that it is a view of
    owner = target if target._base is None else target._base
    was_data, writes_data = owner.requires_grad, isinstance(value, Tensor) and value.requires_grad
    view = target.size(), target.stride(), target.storage_offset()
    result = call.by_autograd()
    if not (was_data and writes_data):
        note = partial(_note, call.rules.recorder, call.rules.running.innermost, call.name, owner.stride(), view, index)
        owner.register_hook(partial(note, writes_data))
    return result


def _note(
    recorder: Recorder, module: str, name: str, strides: tuple, view: tuple, index: Any, writes_data: bool,
    relevance: Tensor | None,
) -> None:  # fmt: skip
    """Record what ends at constants when relevance arrives at a tensor that was written into."""
    if recorder.entries is None or relevance is None:
        return
    arriving, written = (
        torch.empty_strided(relevance.shape, strides, dtype=relevance.dtype, device=relevance.device) for _ in range(2)
    )
    arriving.copy_(relevance)
    written.zero_().as_strided(*view)[index] = arriving.as_strided(*view)[index]
    recorder.record(module, name, arriving if writes_data else written, [written if writes_data else None])
