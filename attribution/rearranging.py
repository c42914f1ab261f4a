"""torch's `stack` and `cat` as a flow runs them: the same values, rearranged with fewer passes over memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_JOINS = (torch.cat, torch.concat, torch.concatenate)


class Rearranging(TorchFunctionMode):
    """Changes what a model's forward pass does where it stacks or joins tensors.

    A stack along the last axis, which is how zennit makes a module of an addition, keeps its parts one after the other
    in memory, not element by element: sum and gradient go over whole tensors.

    What is joined is taken apart by relevance that flows down, and joined again by regions that flow up. torch adds up
    tensors of zeros with one part filled in instead.
    """

    def __torch_function__(
        self, function: Callable, types: Collection[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is torch.stack and len(args) == 1 and kwargs == {"dim": -1}:
            return torch.stack(*args).movedim(0, -1)
        if function in _JOINS and kwargs.keys() <= {"dim"}:
            tensors, axis = args[0], args[1] if len(args) > 1 else kwargs.get("dim", 0)
            alike = len({(tensor.ndim, tensor.dtype) for tensor in tensors}) == 1
            if alike and isinstance(axis, int):
                # counted from the end, an axis has the same number with and without conditions
                return _Joined.apply(axis if axis < 0 else axis - tensors[0].ndim, *tensors)
        return function(*args, **kwargs)


class _Joined(torch.autograd.Function):
    """`torch.cat`, whose transpose is `_Parts`."""

    @staticmethod
    def forward(axis: int, *tensors: Tensor) -> Tensor:
        return torch.cat(tensors, axis)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        ctx.axis, *tensors = inputs
        ctx.sizes = [tensor.shape[ctx.axis] for tensor in tensors]

    @staticmethod
    def backward(ctx, joined: Tensor) -> tuple[Tensor | None, ...]:
        return None, *_Parts.apply(joined, ctx.sizes, ctx.axis)

    @staticmethod
    def vmap(info, axes: tuple, axis: int, *tensors: Tensor) -> tuple[Tensor, int]:
        batched = [
            tensor.expand(info.batch_size, *tensor.shape) if place is None else tensor.movedim(place, 0)
            for tensor, place in zip(tensors, axes[1:], strict=True)
        ]
        return _Joined.apply(axis, *batched), 0


class _Parts(torch.autograd.Function):
    """`torch.split`, whose transpose is `_Joined`."""

    @staticmethod
    def forward(joined: Tensor, sizes: Sequence[int], axis: int) -> tuple[Tensor, ...]:
        return tuple(part.contiguous() for part in joined.split(sizes, axis))

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        _, _, ctx.axis = inputs

    @staticmethod
    def backward(ctx, *parts: Tensor) -> tuple[Tensor, None, None]:
        return _Joined.apply(ctx.axis, *parts), None, None

    @staticmethod
    def vmap(info, axes: tuple, joined: Tensor, sizes: Sequence[int], axis: int) -> tuple[tuple[Tensor, ...], tuple]:
        parts = _Parts.apply(joined.movedim(axes[0], 0), sizes, axis)
        return parts, (0,) * len(parts)
