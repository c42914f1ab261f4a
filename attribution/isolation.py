"""Contexts and defaults of torch around a call that must not change what is computed in it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

import numpy as np
import torch
from torch import Tensor

# Devices whose autocast may be active.
_AUTOCAST = ("cpu", "cuda")

_replaced_default: ContextVar[torch.device | None] = ContextVar("_replaced_default", default=None)


@contextmanager
def isolated() -> Iterator[None]:
    """Compute as if no torch context were active around the call; restore the contexts afterwards.

    Autocast would compute convolutions and matrix products in bfloat16. In inference mode and under `no_grad` there is
    no graph for relevance to flow through. With another default device, tensors would be created on it that belong on
    the CPU. Also a decorator: `@isolated()`.

    Examples
    --------
    >>> with torch.autocast("cpu", torch.bfloat16), isolated():
    ...     print((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
    torch.float32
    """
    default = torch.get_default_device()
    with ExitStack() as contexts:
        for device in _AUTOCAST:
            if torch.is_autocast_enabled(device):
                contexts.enter_context(torch.autocast(device, enabled=False))
        contexts.enter_context(torch.inference_mode(False))
        contexts.enter_context(torch.enable_grad())
        if default.type != "cpu":
            contexts.callback(_replaced_default.reset, _replaced_default.set(default))
            contexts.enter_context(torch.device("cpu"))
        yield


@contextmanager
def isolated_pass() -> Iterator[None]:
    """Run a model `isolated`, and put global random generators back to where they were, in case it draws from them.

    Also a decorator. It takes a tenth of a millisecond, so what runs no model is only `isolated`.
    """
    with _random_states_kept(), isolated():
        yield


@contextmanager
def _random_states_kept() -> Iterator[None]:
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    # a model may use the old generators, too
    before, old, python = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        yield
    finally:
        torch.set_rng_state(before)
        np.random.set_state(old)  # noqa: NPY002
        random.setstate(python)
        if on_gpus:
            torch.cuda.set_rng_state_all(on_gpus)


@contextmanager
def callers_default(device: torch.device) -> Iterator[None]:
    """Restore, inside `isolated`, the caller's default device for a model on `device`, if it is that device.

    A model may create tensors in `forward` and rely on the default.
    """
    default = _replaced_default.get()
    with ExitStack() as contexts:
        if default is not None and default.type == device.type:
            contexts.enter_context(torch.device(default))
        yield


def outside_inference(tensor: Tensor) -> Tensor:
    """Clone a tensor that was created in inference mode, which autograd cannot use; return any other as it is."""
    return tensor.clone() if tensor.is_inference() else tensor
