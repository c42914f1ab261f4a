"""Max pooling, with both directions of relevance written out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from crp.attribution.linear_function import LinearFunction
from crp.attribution.signs import known_nonnegative

# On a CPU, channels are pooled in groups of about this many values (so that a group stays in the cache), and of at
# least this many channels (so that vector instructions are used).
_GROUP_VALUES, _GROUP_CHANNELS = 2**17, 24
# Without indices, planes are pooled in groups of about this many values.
_PLANE_VALUES = 2**18

_BACKWARD = {
    nn.MaxPool2d: torch.ops.aten.max_pool2d_with_indices_backward,
    nn.MaxPool3d: torch.ops.aten.max_pool3d_with_indices_backward,
}


class PoolRule:
    """Max pooling, where relevance goes to the selected pixel as the gradient does."""

    def __init__(self, module: nn.MaxPool2d | nn.MaxPool3d) -> None:
        self.module = module
        self.axes = 2 if type(module) is nn.MaxPool2d else 3
        self.original = module.forward

    def forward(self, data: Tensor) -> Tensor:
        """Replace the module's forward."""
        if data.ndim != self.axes + 2:
            return self.original(data)
        plain = data.ndim == 4 and data.is_floating_point() and data.device.type == "cpu" and data.is_contiguous()
        if plain and not data.requires_grad:
            with torch._C.DisableTorchFunction():
                return _pooled(data, self.module)
        return _PoolFunction.apply(data, self.module)


@dataclass
class _SelectedPixels:
    """Which pixel each output of a max pooling selected in one forward pass; `like` has the shape of the input."""

    module: nn.MaxPool2d | nn.MaxPool3d
    like: Tensor
    indices: Tensor

    def propagate(self, values: Tensor, upward: bool) -> Tensor:
        """Propagate `[N, C, *S]` or `[K, N, C, *S]` down to the selected pixels, or up from them."""
        if upward:
            flat = values.flatten(2 - self.indices.ndim)
            return flat.gather(-1, self.indices.flatten(2).expand(*flat.shape[:-1], -1)).unflatten(
                -1, self.indices.shape[2:]
            )
        if values.ndim == self.like.ndim:
            return self._down(values)
        # same memory layout as the input
        result = torch.empty_like(self.like.expand(len(values), *self.like.shape))
        for one, relevance in zip(result, values, strict=True):
            self._down(relevance, grad_input=one)
        return result

    def _down(self, relevance: Tensor, **out: Tensor) -> Tensor:
        module = self.module
        sizes = [
            [size] * (self.like.ndim - 2) if isinstance(size, int) else size
            for size in (module.kernel_size, module.stride, module.padding, module.dilation)
        ]
        operator = _BACKWARD[type(module)]
        return operator(relevance, self.like, *sizes, module.ceil_mode, self.indices, **out)


def _pool_channels_last(data: Tensor, pool: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Pool groups of channels in channels-last layout, which torch vectorises; it does not in the default layout."""
    planes = data.flatten(0, 1)[None]
    group = max(_GROUP_CHANNELS, _GROUP_VALUES // planes[0, 0].numel())
    pooled: list[Tensor] = []
    with torch._C.DisableTorchFunction():  # nobody needs to see these calls, and there are many
        for first in range(0, planes.shape[1], group):
            results = pool(planes[:, first : first + group].contiguous(memory_format=torch.channels_last))
            pooled = pooled or [values.new_empty(planes.shape[1], *values.shape[2:]) for values in results]
            for target, values in zip(pooled, results, strict=True):
                target[first : first + group] = values[0]
    output, indices = (values.unflatten(0, data.shape[:2]) for values in pooled)
    return output, indices


def _pooled(data: Tensor, module: nn.MaxPool2d) -> Tensor:
    """Pool `[N, C, H, W]` without indices: rows, then columns, which takes a third of the time."""
    (high, rows), (wide, columns) = (_shifts(module, axis, data.shape[axis]) for axis in (2, 3))
    if min(high, wide) < 1:
        return type(module).forward(module, data)  # which says that the input is too small
    output = data.new_empty(*data.shape[:2], high, wide)
    group = max(1, _PLANE_VALUES // (data.shape[2] * data.shape[3]))
    for planes, target in zip(data.flatten(0, 1).split(group), output.flatten(0, 1).split(group), strict=True):
        reduced = data.new_empty(len(planes), high, data.shape[3])
        _largest(planes, reduced, rows, axis=1)
        _largest(reduced, target, columns, axis=2)
    return output


def _shifts(module: nn.MaxPool2d, axis: int, length: int) -> tuple[int, list[tuple[slice, slice]]]:
    """Return the extent of the output along an axis; and for each place in the window, which outputs read which inputs.

    The first of these pairs are those that all outputs have.
    """
    kernel, stride, padding, dilation = (
        _pair(size)[axis - 2] for size in (module.kernel_size, module.stride, module.padding, module.dilation)
    )
    reach = length + 2 * padding - dilation * (kernel - 1) - 1
    extent = (reach + (stride - 1) * module.ceil_mode) // stride + 1
    if module.ceil_mode and (extent - 1) * stride >= length + padding:
        extent -= 1  # the last window would hold nothing but padding
    pairs = []
    for place in range(kernel):
        offset = place * dilation - padding
        first, last = max(0, -(offset // stride)), min(extent, (length - offset - 1) // stride + 1)
        if first < last:
            read = slice(first * stride + offset, (last - 1) * stride + offset + 1, stride)
            pairs.append((slice(first, last), read))
    return extent, sorted(pairs, key=lambda pair: pair[0].start - pair[0].stop)


def _largest(data: Tensor, output: Tensor, pairs: list[tuple[slice, slice]], *, axis: int) -> None:
    """Write the largest of the values that each output reads."""
    before = (slice(None),) * axis
    whole = [read for written, read in pairs[:2] if written == slice(0, output.shape[axis])]
    if whole:
        torch.maximum(data[*before, whole[0]], data[*before, whole[-1]], out=output)
        pairs = pairs[len(whole) :]
    else:
        output.fill_(-torch.inf)
    for written, read in pairs:
        target = output[*before, written]
        torch.maximum(target, data[*before, read], out=target)


class _PoolFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, data: Tensor, module: nn.MaxPool2d | nn.MaxPool3d) -> Tensor:
        pool = partial(
            nn.functional.max_pool2d if data.ndim == 4 else nn.functional.max_pool3d,
            kernel_size=module.kernel_size,
            stride=module.stride,
            padding=module.padding,
            dilation=module.dilation,
            ceil_mode=module.ceil_mode,
            return_indices=True,
        )
        by_channel = data.device.type == "cpu" and data.is_contiguous() and data.ndim == 4
        output, indices = _pool_channels_last(data, pool) if by_channel else pool(data)
        like = data.detach()
        if data.ndim == 5 and data.device.type == "cpu" and data.is_contiguous():
            like = data.new_empty(()).expand(data.shape)  # its values are not read, and a volume has many
        ctx.selected, ctx.nonnegative = _SelectedPixels(module, like, indices), known_nonnegative(data)
        return output

    @staticmethod
    def backward(ctx, relevance: Tensor) -> tuple[Tensor, None]:
        return LinearFunction.apply(relevance, ctx.selected, False), None
