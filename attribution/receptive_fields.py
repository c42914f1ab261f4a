"""Geometric receptive fields: the part of the input that each position of a layer can see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from crp.attribution.copies import replicate
from crp.attribution.functions.function_calls import function_name
from crp.attribution.isolation import isolated_pass
from crp.attribution.kept_places import keeps_places
from crp.attribution.named_layers import check_layer, on_layer
from crp.attribution.nested_tensors import tensors_in
from crp.errors import ModelError


@isolated_pass()
def receptive_boxes(model: nn.Module, shape: Sequence[int], layer: str) -> Tensor:
    """Compute the geometric receptive field of every position of a layer.

    It follows from kernel sizes, strides and paddings. If channels of a layer see different parts (as after a
    concatenation), the box contains all of them. Intervals are tracked through one forward pass. This is exact for
    convolution, pooling, padding, slicing and operations that keep positions in place (activations, normalisation,
    sums, concatenation of channels: `kept_places.py`). After any other operation a position is assumed to see the whole
    input.

    Parameters
    ----------
    model
        Any model; its weights do not matter.
    shape
        Shape of one input, `(c, *S)`.
    layer
        A layer's name.

    Returns
    -------
    Tensor
        int64 `[positions, 2 * d]` for `d` spatial axes. Positions are in the order of the layer's flattened space. A
        row holds the first pixel along each axis, then the end (exclusive) along each axis: for images top, left,
        bottom, right. A layer without space has one row, the whole input.

    Examples
    --------
    >>> receptive_boxes(nn.Sequential(nn.Conv2d(1, 1, 3, stride=2)), (1, 5, 7), "0")[:2]
    tensor([[0, 0, 3, 3],
            [0, 2, 3, 5]])
    """
    intervals = _intervals_at(model, shape, [layer])[layer]
    if not intervals:
        return torch.tensor([[0] * len(shape[1:]) + list(shape[1:])])
    places = torch.cartesian_prod(*[torch.arange(len(first)) for first, _ in intervals]).view(-1, len(intervals))
    ends = [interval[side][places[:, axis]] for side in (0, 1) for axis, interval in enumerate(intervals)]
    return torch.stack(ends, 1)


@isolated_pass()
def receptive_sizes(model: nn.Module, shape: Sequence[int], layers: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the largest extent of the receptive fields of each layer's positions, along each axis of the input.

    Parameters and errors are as in `receptive_boxes`, for several layers in one pass.

    Examples
    --------
    >>> receptive_sizes(nn.Sequential(nn.Conv2d(1, 1, 3, stride=2), nn.Conv2d(1, 1, 2)), (1, 5, 7), ["0", "1"])
    {'0': (3, 3), '1': (5, 5)}
    """
    return {
        layer: tuple(int((high - low).max()) for low, high in intervals) or tuple(shape[1:])
        for layer, intervals in _intervals_at(model, shape, layers).items()
    }


def _intervals_at(model: nn.Module, shape: Sequence[int], layers: Sequence[str]) -> dict[str, list[_Interval]]:
    """Run a copy until all layers are reached, and return what the positions of each see."""
    copy = replicate(model)
    names = dict(copy.named_modules())
    for layer in layers:
        check_layer(names, layer)
    weight = next(copy.parameters(), torch.empty(0))
    data = torch.zeros(1, *shape, dtype=weight.dtype, device=weight.device)
    reached: dict[str, list[_Interval]] = {}

    def record(layer: str, output: Tensor) -> None:
        reached[layer] = tracker.intervals(output)
        if len(reached) == len(layers):
            raise _Reached

    for layer in layers:
        on_layer(names, layer, partial(record, layer))
    with suppress(_Reached), torch.no_grad(), _IntervalTracker(data) as tracker:
        copy(data)
    for layer in layers:
        if layer not in reached:
            raise ModelError(f"The model never calls '{layer}'.")
    return {layer: reached[layer] for layer in layers}


# For each position along an axis: start and end (exclusive) of the input pixels it sees; 0, 0 for none.
_Interval = tuple[Tensor, Tensor]


class _Reached(Exception):  # noqa: N818  (not an error)
    """Ends the forward pass at the requested layer."""


class _IntervalTracker(TorchFunctionMode):
    """Records during a forward pass what part of the input the positions of each tensor see, axis by axis."""

    def __init__(self, data: Tensor) -> None:
        super().__init__()
        self.sizes = data.shape[2:]
        # tensors are kept alive, because another tensor could reuse the id of a freed one
        self.seen: dict[int, tuple[Tensor, list[_Interval]]] = {}
        # tensors whose channels were moved behind the space, as around the layer norms of a ConvNeXt
        self.moved: dict[int, tuple[Tensor, list[_Interval]]] = {}
        self._record(data, [(torch.arange(size), torch.arange(size) + 1) for size in self.sizes])

    def intervals(self, tensor: Tensor) -> list[_Interval]:
        """Return what the positions of a tensor `[N, C, *S]` see; an empty list for a tensor without space."""
        return self.seen[id(tensor)][1] if id(tensor) in self.seen else self._whole_input(tensor)

    def __torch_function__(self, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None):
        """Run `function` and record the intervals of its result."""
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if isinstance(result, Tensor) and self._follow_moved(function, result, args, kwargs):
            return result
        sources = [tensor for tensor in tensors_in([*args, *kwargs.values()]) if id(tensor) in self.seen]
        if sources:
            for output in tensors_in([result]):
                self._record(output, self._propagate(function, sources, output, args, kwargs))
            name = function_name(function)
            if name == "setitem" or (name.endswith("_") and not keeps_places(function, args, kwargs, args[0].ndim)):
                for changed in filter(torch.is_tensor, (args[0], args[0]._base)):  # a view changes what it is a view of
                    self._record(changed, self._whole_input(changed))
        return result

    def _follow_moved(self, function: Callable, output: Tensor, args: tuple, kwargs: dict) -> bool:
        """Record a result if channels are moved behind the space, have been, or are moved back."""
        given = [tensor for tensor in tensors_in([*args, *kwargs.values()]) if id(tensor) in self.moved]
        if function in (torch.permute, Tensor.permute):
            dims = kwargs.get("dims", args[1] if len(args) > 1 and not isinstance(args[1], int) else args[1:])
            dims = tuple(dim % output.ndim for dim in dims)
            last, back = (0, *range(2, output.ndim), 1), (0, output.ndim - 1, *range(1, output.ndim - 1))
            if dims == last and id(args[0]) in self.seen and output.ndim - 2 == len(self.sizes):
                self.moved[id(output)] = output, self.intervals(args[0])
                return True
            if dims == back and given:
                self._record(output, self.moved[id(given[0])][1])
                return True
        if not given:
            return False
        mixed = any(id(tensor) in self.seen for tensor in tensors_in([*args, *kwargs.values()]))
        normalised = kwargs.get("normalized_shape", args[1] if len(args) > 1 else ())
        if function in (functional.layer_norm, functional.rms_norm):
            mixed |= len(normalised) > 1  # over positions
        if function in _AT_ITS_POSITION and not mixed and all(one.shape[:-1] == output.shape[:-1] for one in given):
            self.moved[id(output)] = output, _all_of([self.moved[id(one)][1] for one in given])
        else:
            self._record(output, self._whole_input(output))
        return True

    def _record(self, tensor: Tensor, intervals: list[_Interval]) -> None:
        self.seen[id(tensor)] = (tensor, intervals)

    def _whole_input(self, tensor: Tensor) -> list[_Interval]:
        if tensor.ndim - 2 != len(self.sizes):
            return []
        lengths = zip(tensor.shape[2:], self.sizes, strict=True)
        return [(torch.zeros(length, dtype=torch.int64), torch.full((length,), size)) for length, size in lengths]

    def _propagate(
        self, function: Callable, sources: list[Tensor], output: Tensor, args: tuple, kwargs: dict
    ) -> list[_Interval]:
        first = self.intervals(sources[0])
        if not first or output.ndim != sources[0].ndim:
            return self._whole_input(output)
        if function in _WINDOWS:
            windows = _windows(_WINDOWS[function], args, kwargs, output.ndim - 2)
            return [
                _union(interval, _window_indices(length, *window))
                for interval, length, window in zip(first, output.shape[2:], windows, strict=True)
            ]
        if function is functional.pad:
            amounts = kwargs.get("pad", args[1] if len(args) > 1 else ())
            mode = kwargs.get("mode", args[2] if len(args) > 2 else "constant")
            # given from the last axis to the first
            before = [amounts[2 * axis] if 2 * axis < len(amounts) else 0 for axis in range(output.ndim)][::-1][2:]
            return [
                _union(interval, _padded_indices(length, left, len(interval[0]), mode)[:, None])
                for interval, length, left in zip(first, output.shape[2:], before, strict=True)
            ]
        if function is Tensor.__getitem__ and isinstance(args[1], tuple) and len(args[1]) == output.ndim:
            return [(low[index], high[index]) for (low, high), index in zip(first, args[1][2:], strict=True)]
        same = [tensor for tensor in sources if tensor.shape[2:] == output.shape[2:]]
        if len(same) != len(sources) or not keeps_places(function, args, kwargs, output.ndim):
            return self._whole_input(output)
        return _all_of([self.intervals(tensor) for tensor in same])


def _all_of(several: Sequence[list[_Interval]]) -> list[_Interval]:
    """Unite what the positions of several tensors see."""
    return [
        (torch.stack([low for low, _ in axis]).amin(0), torch.stack([high for _, high in axis]).amax(0))
        for axis in zip(*several, strict=True)
    ]


# Functions that compute each position of a tensor [N, *S, C] from the same position.
_AT_ITS_POSITION = {
    functional.linear, functional.layer_norm, functional.rms_norm, functional.gelu, functional.relu, functional.silu,
    functional.dropout, torch.add, Tensor.add, Tensor.add_, torch.mul, Tensor.mul, Tensor.mul_, torch.relu,
    Tensor.contiguous,
}  # fmt: skip


_WINDOWS = {
    torch.conv1d: functional.conv1d,
    torch.conv2d: functional.conv2d,
    torch.conv3d: functional.conv3d,
} | {
    function: function
    for dimension in (1, 2, 3)
    for kind in ("max_pool", "avg_pool")
    for function in (getattr(functional, f"{kind}{dimension}d"),)
}


def _windows(function: Callable, args: tuple, kwargs: dict, axes: int) -> Iterator[tuple[int, int, int, int]]:
    """Return kernel size, stride, padding and dilation of a convolution or pooling along each axis."""
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    if "pool" in function.__name__:
        names = ("input", "kernel_size", "stride", "padding", "dilation" if "max" in function.__name__ else "ceil_mode")
    given = dict(zip(names, args, strict=False)) | kwargs

    def along(value: object) -> Sequence[int]:
        return [value] * axes if isinstance(value, int) else list(value) * (axes if len(value) == 1 else 1)

    kernels = along(given["kernel_size"]) if "kernel_size" in given else given["weight"].shape[2:]
    strides = along(given.get("stride") or (kernels if "pool" in function.__name__ else 1))
    dilations = along(given.get("dilation", 1))
    padding = given.get("padding", 0)
    if padding == "same":
        padding = [dilation * (kernel - 1) // 2 for kernel, dilation in zip(kernels, dilations, strict=True)]
    paddings = along(0 if padding == "valid" else padding)
    return zip(kernels, strides, paddings, dilations, strict=True)


def _window_indices(outputs: int, kernel: int, stride: int, padding: int, dilation: int) -> Tensor:
    """Compute the indices `[outputs, kernel]` that a sliding window reads; indices outside the input are padding."""
    return torch.arange(outputs)[:, None] * stride - padding + torch.arange(kernel)[None] * dilation


def _padded_indices(length: int, before: int, size: int, mode: str) -> Tensor:
    """Compute which index each place of a padded axis holds; one outside of the axis is a constant."""
    indices = torch.arange(length) - before
    if mode == "circular":
        return indices % size
    if mode == "replicate":
        return indices.clamp(0, size - 1)
    if mode == "reflect":
        indices = indices.abs()
        return torch.where(indices < size, indices, 2 * (size - 1) - indices)
    return indices


def _union(interval: _Interval, indices: Tensor) -> _Interval:
    """Unite what several positions of a lower tensor see, for each position that reads them."""
    low, high = interval
    real = (indices >= 0) & (indices < len(low))
    indices = indices.clamp(0, len(low) - 1)
    real &= high[indices] > low[indices]
    lowest = torch.where(real, low[indices], torch.iinfo(torch.int64).max).amin(1)
    return torch.where(real.any(1), lowest, 0), torch.where(real, high[indices], 0).amax(1)
