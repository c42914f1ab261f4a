"""Models that give different outputs for the same input: an active dropout, or a batch norm without statistics."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

from crp.errors import ModelError, listed

# Outputs of two forward passes of one sample may differ by this part of the largest one: more than rounding does.
_UNSTEADY = 1e-3
# By batches of another size other kernels are chosen: rounding of bfloat16 then differs by more.
_UNSTEADY_IN_BATCHES = {torch.bfloat16: 0.1}


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
            "in evaluation mode: is a dropout written as F.dropout(x) instead of F.dropout(x, training=self.training), "
            "or does the model keep a state between calls?"
        )


def check_same_in_batches(model: nn.Module, alone: Tensor, among_others: Tensor) -> None:
    """Refuse a model whose output for a sample depends on the other samples of its batch.

    Parameters
    ----------
    model
        The model, for the names of batch norms without running statistics.
    alone, among_others
        The output for a sample alone and as the first of a batch, `[1, ...]` and `[N, ...]`.

    Raises
    ------
    ModelError
    """
    first = among_others[:1]
    if first.shape != alone.shape:
        return
    off, most = (first - alone).abs().max(), alone.abs().max()
    if off > _UNSTEADY_IN_BATCHES.get(alone.dtype, _UNSTEADY) * most:
        norms = [
            name
            for name, module in model.named_modules()
            if isinstance(module, _NormBase) and not isinstance(module, _InstanceNorm) and module.running_mean is None
        ]
        why = f", because of batch norms without running statistics ({listed(norms, 3)})" if norms else ""
        raise ModelError(
            f"The model's output for a sample depends on the other samples of its batch{why}: it changes by "
            f"{float(off):.3g} of {float(most):.3g}. Mine with block_size=1 (--block-size 1), as single samples are "
            "explained."
        )
