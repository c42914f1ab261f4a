"""Checks that what is explained is the caller's model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from crp.attribution.backward_graph import graph_below
from crp.attribution.replica import Replica
from crp.errors import ModelError

# Largest difference of two outputs, relative to the largest value, that rounding explains.
_TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 0.1}


def check_graph(output: Tensor) -> None:
    """Refuse a graph that hides a part of the forward pass.

    Raises
    ------
    ModelError
        If the model uses reentrant activation checkpointing, which runs a part again in the backward pass.
    """
    if any(node.name() == "CheckpointFunctionBackward" for node in graph_below(output)):
        raise ModelError(
            "The model uses reentrant checkpointing, which hides its operations: call torch.utils.checkpoint with "
            "use_reentrant=False, or switch checkpointing off."
        )


def check_output(replica: Replica, data: Tensor, expected: Any, found: Any) -> None:
    """Compare the output of a copy with that of the caller's model.

    With rules of `composite_for` they must be equal. A composite of the caller computes what zennit computes; if its
    canonizers change the output (zennit's merged batch norms do), a note of the replica says by how much.

    Raises
    ------
    ModelError
        If they differ by more than rounding.
    """
    if not isinstance(expected, Tensor):
        return  # the forward pass says that the output is not a tensor
    expected, found = expected.detach().double(), found.detach().double()
    difference = float((expected - found).abs().max())
    largest = float(expected.abs().max())
    if replica.operations is None:
        if difference > 1e-3 * largest:
            replica.notes.append(
                f"The canonizers of the composite change the model's output by up to {difference / largest:.1%} of its "
                "largest value."
            )
    elif not difference <= _TOLERANCES[data.dtype] * max(largest, 1e-6):
        raise ModelError(
            f"The copy of the model that is explained gives another output: they differ by {difference:.3g} of "
            f"{largest:.3g}. If its forward pass depends on the data, explain such inputs apart from others."
        )
