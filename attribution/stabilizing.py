"""Denominators of rules: `z + epsilon * sign(z)`, with 1 as the sign of zero."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import torch
from torch import Tensor

# zennit's default stabiliser (zennit.core.Stabilizer).
EPSILON = 1e-6

# Of an element-wise computation on a CPU, each thread gets this many values at a time: few enough that intermediate
# results stay in its cache, and enough that starting the threads costs little beside the work.
_PER_THREAD = 2**18


class Reciprocal:
    """`1 / (z + epsilon * sign(z))` as a factor of relevance.

    It is stored when it is used a second time; before, it is computed in the cache and multiplied there. The product is
    the same, to the last digit.

    Parameters
    ----------
    values
        z.
    epsilon
        The stabiliser.
    nonnegative
        Whether z is known to have no negative value, which saves time.
    """

    def __init__(self, values: Tensor, epsilon: float, *, nonnegative: bool = False) -> None:
        self._values, self._epsilon, self._nonnegative = values.detach(), epsilon, nonnegative
        self._stored: Tensor | None = None
        self._used = False

    @property
    def tensor(self) -> Tensor:
        """The factor, stored from now on."""
        if self._stored is None:
            self._stored = torch.empty_like(self._values)
            with torch.no_grad(), torch._C.DisableTorchFunction():  # each piece would be a call that modes see
                for values, result in pieces(self._values, self._stored):
                    self._into(values, result)
            self._values = self._stored  # of the same shape, and z may be freed
        return self._stored

    def of_channels(self, channels: Tensor) -> Tensor:
        """Compute the factor of some channels alone, int64 `[k]`: `[N, k, *S]`. It is not stored."""
        if self._stored is not None:
            return self._stored.index_select(1, channels)
        return Reciprocal(
            self._values.index_select(1, channels), self._epsilon, nonnegative=self._nonnegative
        ).tensor

    def times(self, relevance: Tensor) -> Tensor:
        """Multiply relevance by the factor: of the shape of z, or with axes of conditions before."""
        if not self._once(relevance):
            return relevance * self.tensor
        product = torch.empty_like(self._values)
        for values, own, result in pieces(self._values, relevance, product):
            self._into(values, result)
            result.mul_(own)
        return product

    def _once(self, relevance: Tensor) -> bool:
        """Whether the factor need not be stored: for the first relevance, if it is no part of another graph."""
        first, self._used = not self._used, True
        return (
            first
            and self._stored is None
            and relevance.shape == self._values.shape
            and relevance.dtype == self._values.dtype
            and not torch.is_grad_enabled()
            and not torch._C._functorch.is_functorch_wrapped_tensor(relevance)
        )

    def _into(self, values: Tensor, result: Tensor) -> None:
        if self._nonnegative:
            torch.add(values, self._epsilon, out=result).reciprocal_()
            return
        _reciprocal_into(values, result, self._epsilon)


@cache
def _largest(epsilon: float, dtype: torch.dtype) -> float:
    return torch.full((), epsilon, dtype=dtype, device="cpu").reciprocal().item()


def stabilized_reciprocal(values: Tensor) -> Tensor:
    """Compute `1 / (z + epsilon * sign(z))` with `EPSILON`."""
    return Reciprocal(values, EPSILON).tensor


def stabilized_reciprocal_into(values: Tensor, result: Tensor) -> Tensor:
    """Compute `stabilized_reciprocal` of a piece of a tensor, without a graph, in the place of `result`."""
    return _reciprocal_into(values, result, EPSILON)


def _reciprocal_into(values: Tensor, result: Tensor, epsilon: float) -> Tensor:
    # torch has no vectorised `copysign`. The reciprocal of zero is infinite; clamped, it is that of the stabiliser.
    torch.sign(values, out=result)
    torch.add(values, result, alpha=epsilon, out=result).reciprocal_()
    largest = _largest(epsilon, values.dtype)
    return result.clamp_(-largest, largest)


def values_per_piece(whole: Tensor) -> int:
    """Return how many values of a tensor to compute at a time: all of them on a GPU, where each piece costs a step.

    >>> values_per_piece(torch.zeros(3, device="meta"))
    3
    """
    return _PER_THREAD * torch.get_num_threads() if whole.device.type == "cpu" else max(1, whole.numel())


def pieces(*tensors: Tensor) -> Iterator[Sequence[Tensor]]:
    """Split tensors of one shape into pieces, all in the memory order of the last tensor."""
    last = tensors[-1]
    axes = sorted(range(last.ndim), key=last.stride, reverse=True)
    return zip(*(values.permute(axes).reshape(-1).split(values_per_piece(last)) for values in tensors), strict=True)
