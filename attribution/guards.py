"""Checks that what is explained is the caller's model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from crp.attribution.backward_graph import graph_below
from crp.attribution.observation import Observation
from crp.attribution.replica import Replica
from crp.errors import ModelError, listed

# Largest difference of two outputs, relative to the largest value, that rounding explains.
_TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 0.1}
# A model is observed on so many samples, because all tensors of that pass are kept. A single one is a special case for
# models that drop axes of length 1.
_OBSERVED = 2

# Why a module may seem not to be called: a lambda holds the caller's module, not its copy.
NOT_FOLLOWED = (
    ", or calls it in a function that was made outside of its class (a lambda, a replaced forward), which cannot be "
    "followed: make it a method."
)


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


def observed(replica: Replica, data: Tensor, layers: Sequence[str]) -> Observation:
    """Observe the caller's model on the first samples `[N, ...]`, or on all if it does not run on so few.

    The replica then knows the layouts of the layers.
    """
    if len(data) > _OBSERVED:
        try:
            return replica.observe(data[:_OBSERVED], layers)
        except Exception:  # whatever the model's code raises for a batch of another size
            pass
    return replica.observe(data, layers)


def check_output(
    replica: Replica, data: Tensor, observation: Observation, found: Any, modules: tuple[str, ...]
) -> None:
    """Compare the output of a copy with that of the caller's model.

    With rules of `composite_for` they must be equal. A composite of the caller computes what zennit computes; if its
    canonizers change the output (zennit's merged batch norms do), a note of the replica says by how much.

    Parameters
    ----------
    replica
        The copy.
    data
        Its input, `[N, ...]`.
    observation
        Of the caller's model on the first samples of the data. If they do not agree, as where samples of a batch depend
        on each other, or other modules ran, all are compared.
    found
        The output of the copy.
    modules
        Names of the modules that ran in the copy, in that order; none if they were not followed.

    Raises
    ------
    ModelError
        If they differ by more than rounding.
    """
    if not isinstance(observation.output, Tensor):
        return  # the forward pass says that the output is not a tensor
    tolerance = 1e-3 if replica.operations is None else _TOLERANCES[data.dtype]
    if observation.samples < len(data):
        first = found[: observation.samples]
        if first.shape == observation.output.shape and modules in ((), observation.modules):
            difference, largest = _difference(observation.output, first)
            if difference <= tolerance * largest:
                return
        observation = replica.observe(data)
    difference, largest = _difference(observation.output, found)
    if difference <= tolerance * max(largest, 1e-6):
        return
    if replica.edited:
        raise ModelError(
            f"The model was changed after it was prepared or mined ({listed(replica.edited, 3)}), and gives another "
            "output now: prepare it again, and explain with a library that was mined with this model."
        )
    if replica.operations is None:
        replica.notes.append(
            f"The canonizers of the composite change the model's output by up to {difference / largest:.1%} of its "
            "largest value."
        )
    else:
        raise ModelError(
            f"The copy of the model that is explained does not give the model's output: they differ by "
            f"{difference:.3g}, and the largest value is {largest:.3g}. If the forward pass depends on the data, "
            "explain such inputs separately."
        )


def _difference(expected: Tensor, found: Tensor) -> tuple[float, float]:
    """Return the largest difference of two outputs, and the largest value of the first."""
    expected, found = expected.detach().double(), found.detach().double()
    return float((expected - found).abs().max()), float(expected.abs().max())
