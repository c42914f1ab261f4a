"""Which tensors have no negative value: the branches of many rules depend on it."""

from __future__ import annotations

import torch
from torch import Tensor


def known_nonnegative(values: Tensor) -> bool:
    """Return whether the values are the output of a ReLU, possibly after max pooling."""
    return getattr(values.grad_fn, "nonnegative", False)


def is_nonnegative(values: Tensor) -> Tensor:
    """Check that no value is negative; returns a bool tensor without axes."""
    if values.dtype == torch.bfloat16 and values.device.type == "cpu":
        # Compared as integers, which have the sign in the same bit: five times as fast. Only -0 counts as negative.
        unsigned = values.view(torch.int16).amin() >= 0
        if unsigned:
            return unsigned
    return values.amin() >= 0
