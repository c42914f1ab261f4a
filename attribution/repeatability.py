"""Models that give different outputs for the same input, such as with a dropout that is active in evaluation mode."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor

from crp.errors import ModelError

# Outputs of two forward passes of one sample may differ by this part of the largest one: more than rounding does.
_UNSTEADY = 1e-3


def random_states(device: torch.device) -> tuple:
    """States of all global random generators that a model on `device` may use, as values that can be compared."""
    generators = [torch.get_rng_state()]
    if device.type == "cuda":
        generators.append(torch.cuda.get_rng_state(device))
    kind, keys, *place = np.random.get_state()  # noqa: NPY002  (a model may use it)
    return *(state.numpy().tobytes() for state in generators), kind, keys.tobytes(), *place, random.getstate()


def check_same_output(first: Tensor, second: Tensor) -> None:
    """Refuse a model whose outputs for the same input differ.

    Parameters
    ----------
    first, second
        `[N, ...]`, the outputs of two forward passes.

    Raises
    ------
    ModelError
    """
    off = (second - first).abs().max()
    if off > _UNSTEADY * first.abs().max():
        raise ModelError(
            f"The model gives different outputs for the same sample (they differ by {float(off):.3g}), although it is "
            "in evaluation mode: is a dropout written as F.dropout(x) instead of F.dropout(x, training=self.training)?"
        )
