"""Max pooling, with both directions of relevance written out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from crp.attribution.linear_function import LinearFunction
from crp.attribution.signs import known_nonnegative

# On a CPU, channels are pooled in groups of about this many values (so that a group stays in the cache), and of at
# least this many channels (so that vector instructions are used).
_GROUP_VALUES, _GROUP_CHANNELS = 2**19, 16

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
    space = pool(planes[:, :1].to("meta"))[0].shape[2:]
    output, indices = (torch.empty(1, planes.shape[1], *space, dtype=dtype) for dtype in (data.dtype, torch.int64))
    group = max(_GROUP_CHANNELS, _GROUP_VALUES // planes[0, 0].numel())
    for part, *targets in zip(*(values.split(group, 1) for values in (planes, output, indices)), strict=True):
        results = pool(part.contiguous(memory_format=torch.channels_last))
        for target, values in zip(targets, results, strict=True):
            target.copy_(values)
    return output[0].unflatten(0, data.shape[:2]), indices[0].unflatten(0, data.shape[:2])


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
