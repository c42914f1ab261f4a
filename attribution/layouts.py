"""Which axes of the layers' outputs are channels, and where their positions lie, as one pass of the model shows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from math import isqrt, prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from crp.attribution.moved_places import MovedPlaces
from crp.attribution.named_layers import on_layer
from crp.attribution.nested_tensors import tensors_in
from crp.concepts import Layout

# Functions whose result has its channels on the second axis, and on the last one.
_FIRST = {
    torch.conv1d, torch.conv2d, torch.conv3d,
    torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d,
    functional.batch_norm, functional.group_norm, functional.instance_norm, functional.interpolate,
    functional.max_pool1d, functional.max_pool2d, functional.max_pool3d,
    functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d,
    functional.adaptive_avg_pool1d, functional.adaptive_avg_pool2d, functional.adaptive_avg_pool3d,
    functional.adaptive_max_pool1d, functional.adaptive_max_pool2d, functional.adaptive_max_pool3d,
}  # fmt: skip
_LAST = {
    functional.linear, functional.layer_norm, functional.rms_norm, functional.embedding,
    functional.scaled_dot_product_attention, functional.multi_head_attention_forward,
}  # fmt: skip
_RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}
_MOVING = {
    torch.permute, Tensor.permute, torch.transpose, Tensor.transpose, torch.swapaxes, Tensor.swapaxes,
    torch.movedim, Tensor.movedim, torch.moveaxis, Tensor.moveaxis,
}  # fmt: skip
# Class token, distillation token and registers: no model has more of them.
_LONGEST_PREFIX = 16


@contextmanager
def layouts_followed(model: nn.Module, data: Tensor, layers: Iterable[str]) -> Iterator[dict[str, Layout]]:
    """Say what the axes of the layers' outputs mean, from the pass of a model inside the context.

    Convolutions and batch norms have their channels on the second axis, linear and recurrent layers and layer norms on
    the last one; other functions keep them where they were. Tokens lie on the grid of the convolution that made them,
    or on one with the input's aspect ratio; the tokens that the grid lacks are in front. Positions in another order, as
    of tokens that were sorted by windows, lie on no grid.

    Parameters
    ----------
    model
        A copy that may be given hooks, made by `replicate`.
    data
        Its input, `[N, c, *S]`.
    layers
        Names of layers.

    Yields
    ------
    dict
        Filled during the pass: the layout of each layer that is called and returns a tensor.
    """
    names, found, axes = dict(model.named_modules()), {}, _Axes(data)

    def read(layer: str, output: Any) -> None:
        if isinstance(output, Tensor):
            found.setdefault(layer, axes.layout(output))

    handles = [on_layer(names, layer, partial(read, layer)) for layer in layers]
    try:
        with axes if handles else nullcontext():
            yield found
    finally:
        for handle in handles:
            handle.remove()


def _others(tensor: Tensor, axis: int) -> list[int]:
    """Return the sizes of all axes but one."""
    return [size for place, size in enumerate(tensor.shape) if place != axis]


class _Axes(TorchFunctionMode):
    """Follows the axis of channels through the functions of a pass."""

    def __init__(self, data: Tensor) -> None:
        super().__init__()
        self._space = tuple(data.shape[2:])
        self._axis: dict[int, tuple[Tensor, int]] = {}  # with the tensor, so that no two have the same id
        self._grids: list[tuple[int, ...]] = []
        self._places = MovedPlaces(self._axis)

    def layout(self, output: Tensor) -> Layout:
        """Return the layout of a layer's output."""
        shape = tuple(output.shape[1:])
        if len(shape) < 2:
            return Layout(shape)
        spatial = len(shape) - 1 == len(self._space)
        # what nothing is known of: as in a convolution, or tokens
        _, axis = self._axis.get(id(output), (output, 1 if spatial else len(shape)))
        last = axis == len(shape)
        space = shape[:-1] if last else shape[1:]
        grid = self._places.grid(output, axis)
        if spatial or len(space) > 1:
            return Layout(shape, last, None if grid in (None, space) else ())
        grid = self._grid(space[0]) if grid is None else grid
        return Layout(shape, last, grid, space[0] - prod(grid) if grid else 0)

    def __torch_function__(
        self, function: Callable, types: Collection[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function, and find the axis of channels of what it returns."""
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        sources = [tensor for tensor in tensors_in((*args, *kwargs.values())) if id(tensor) in self._axis]
        for output in tensors_in([result]):
            axis = self._axis_of(function, args, kwargs, sources, output)
            if axis is not None:
                self._axis[id(output)] = output, axis
                if output.ndim - 2 == len(self._space):
                    self._grids.append(tuple(size for place, size in enumerate(output.shape) if place not in (0, axis)))
        maps = function in _FIRST and isinstance(result, Tensor) and result.ndim - 2 == len(self._space)
        self._places.follow(function, args, kwargs, result, maps=maps)
        return result

    def _axis_of(
        self, function: Callable, args: tuple, kwargs: dict[str, Any], sources: Sequence[Tensor], output: Tensor
    ) -> int | None:
        if output.ndim < 2:
            return None
        if function in _FIRST:
            return 1
        if function in _LAST or getattr(function, "__name__", "") in _RECURRENT:
            return output.ndim - 1
        for source in sources:
            _, axis = self._axis[id(source)]
            if function in _MOVING:
                # a tensor whose sizes are its axes shows where they go
                sizes = torch.empty([place + 2 for place in range(source.ndim)], device="meta")
                moved = function(sizes, *args[1:], **kwargs)
                return [*moved.shape].index(axis + 2)
            kept = axis, axis - source.ndim  # counted from the front, or from the end
            for place in kept if len(output) == len(source) else kept[::-1]:
                if -output.ndim < place < output.ndim and output.shape[place] == source.shape[axis]:
                    return place % output.ndim
        along = {self._axis[id(source)][1] for source in sources}
        # other channels, as of a product with weights, or a part of them
        if len(along) == 1 and all(one.ndim == output.ndim for one in sources):
            (axis,) = along
            if all(_others(one, axis) == _others(output, axis) for one in sources):
                return axis
        return None

    def _grid(self, tokens: int) -> tuple[int, ...]:
        """Choose the grid on which tokens lie; empty if none fits."""
        for grid in reversed(self._grids):
            if 0 <= tokens - prod(grid) <= _LONGEST_PREFIX and prod(grid) > 1:
                return grid
        if len(self._space) == 2:
            height, width = self._space
            for prefix in range(min(_LONGEST_PREFIX, tokens - 1) + 1):
                rows = isqrt((tokens - prefix) * height // width)
                if rows and rows * width % height == 0 and rows * (rows * width // height) == tokens - prefix:
                    return rows, rows * width // height
        return ()
