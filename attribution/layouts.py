"""Which axes of the layers' outputs are channels, and where their positions lie, as one pass of the model shows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from math import isqrt, prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from crp.attribution.moved_places import Places, SeenCall, joined, moves
from crp.attribution.named_layers import on_layer
from crp.attribution.nested_tensors import tensors_in
from crp.concepts import Layout

# Functions whose result has its channels on the second axis, and on the last one.
_WITH_SPACE = {"conv", "conv_transpose", "max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool"}
_FIRST = {f"{kind}{axes}d" for kind in _WITH_SPACE for axes in (1, 2, 3)} | {
    "batch_norm", "group_norm", "instance_norm", "interpolate",
}  # fmt: skip
_LAST = {
    "linear", "layer_norm", "rms_norm", "embedding", "scaled_dot_product_attention", "multi_head_attention_forward",
    "lstm", "gru", "rnn_tanh", "rnn_relu",
}  # fmt: skip
_MOVING = {"permute", "transpose", "swapaxes", "movedim", "moveaxis"}
_JOINING = {"cat", "concat", "concatenate", "stack"}
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
        if isinstance(output, Tensor) and layer not in found:
            with torch._C.DisableTorchFunction():  # these calls are not the model's
                found[layer] = axes.layout(output)

    handles = [on_layer(names, layer, partial(read, layer)) for layer in layers]
    try:
        with axes if handles else nullcontext():
            yield found
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True, eq=False)
class _Followed:
    """What is known of a tensor of the pass: its axis of channels, and where its values lie."""

    tensor: Tensor  # held, so that no two have the same id
    axis: int | None = None
    places: Places | None = None

    def is_but_for_channels(self, other: _Followed) -> bool:
        """Return whether this and the other have the same shape, but for the length of their axis of channels."""
        return self.axis is not None and self.axis == other.axis and self._others == other._others

    @property
    def _others(self) -> list[int]:
        return [size for place, size in enumerate(self.tensor.shape) if place != self.axis]


class _Axes(TorchFunctionMode):
    """Follows the axis of channels, and the places of values, through the functions of a pass."""

    def __init__(self, data: Tensor) -> None:
        super().__init__()
        self._space = tuple(data.shape[2:])
        self._known: dict[int, _Followed] = {}
        self._grids: list[tuple[int, ...]] = []

    def layout(self, output: Tensor) -> Layout:
        """Return the layout of a layer's output."""
        shape = tuple(output.shape[1:])
        if len(shape) < 2:
            return Layout(shape)
        spatial = self._has_space(output)
        followed = self._of(output)
        axis = followed.axis
        if axis is None:  # as in a convolution, or tokens
            axis = 1 if spatial else len(shape)
        last = axis == len(shape)
        space = shape[:-1] if last else shape[1:]
        grid = followed.places and followed.places.grid(axis)
        if spatial or len(space) > 1:
            return Layout(shape, last, None if grid in (None, space) else ())
        grid = self._grid(space[0]) if grid is None else grid
        return Layout(shape, last, grid, space[0] - prod(grid) if grid else 0)

    def __torch_function__(
        self, function: Callable, types: Collection[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function, and find the axis of channels and the places of what it returns."""
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        outputs = list(tensors_in([result]))
        if not outputs:
            return result  # as of a call that reads a shape
        call = SeenCall(function, args, kwargs)
        given = [self._of(tensor) for tensor in tensors_in((*args, *kwargs.values()))]
        found = []
        for output in outputs:
            before, axis = self._of(output), self._axis_of(call, given, output)
            found.append(before if axis is None else replace(before, axis=axis))
            if axis is not None and self._has_space(output):
                self._grids.append(tuple(size for place, size in enumerate(output.shape) if place not in (0, axis)))
        located = self._places_of(call, given, found)
        for one, places in zip_longest(found, located[: len(found)]):
            if places is not None and places.along[0].shape == one.tensor.shape:
                one = replace(one, places=places)
            if one.axis is not None or one.places is not None:
                self._known[id(one.tensor)] = one
        return result

    def _of(self, tensor: Tensor) -> _Followed:
        return self._known.get(id(tensor)) or _Followed(tensor)

    def _has_space(self, tensor: Tensor) -> bool:
        return tensor.ndim - 2 == len(self._space) > 0

    def _axis_of(self, call: SeenCall, given: Sequence[_Followed], output: Tensor) -> int | None:
        if output.ndim < 2:
            return None
        sources = [one for one in given if one.axis is not None]
        if call.name in _FIRST:
            return 2 if call.name == "conv1d" and _mixes_tokens(call, sources) else 1
        if call.name in _LAST:
            return output.ndim - 1
        for source in sources:
            tensor, axis = source.tensor, source.axis
            if call.name in _MOVING:
                # a tensor whose sizes are its axes shows where they go
                sizes = torch.empty([place + 2 for place in range(tensor.ndim)], device="meta")
                (moved,) = call.on(sizes)
                return [*moved.shape].index(axis + 2)
            kept = axis, axis - tensor.ndim  # counted from the front, or from the end
            for place in kept if len(output) == len(tensor) else kept[::-1]:
                if -output.ndim < place < output.ndim and output.shape[place] == tensor.shape[axis]:
                    return place % output.ndim
        # other channels, as of a product with weights, or a part of them
        if len({source.axis for source in sources}) == 1:
            axis = sources[0].axis
            result = _Followed(output, axis)
            if all(one.tensor.ndim == output.ndim and one.is_but_for_channels(result) for one in sources):
                return axis
        return None

    def _places_of(
        self, call: SeenCall, given: Sequence[_Followed], outputs: Sequence[_Followed]
    ) -> list[Places | None]:
        known = [one.places for one in given]
        own_result = "out" not in call.kwargs  # what is given must not get coordinates
        if call.name in _JOINING and own_result:
            return joined(call, known)
        if call.args and isinstance(call.args[0], Tensor) and own_result and moves(call, given[0].axis):
            if known[0] is None:
                return []
            if call.name == "pad" and not known[0].moved:  # a map with a border is a map
                return [Places.of_map(outputs[0].tensor)]
            return known[0].after(call)
        maps = call.name in _FIRST and len(outputs) == 1 and outputs[0].axis == 1 and self._has_space(outputs[0].tensor)
        return [_carried([one for one in given if one.places is not None], output, maps) for output in outputs]

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


def _mixes_tokens(call: SeenCall, sources: Sequence[_Followed]) -> bool:
    """Return whether a convolution `[N, T, C]` -> `[N, U, C]` combines tokens, and leaves channels where they are."""
    values, weight = call.argument(0, "input"), call.argument(1, "weight")
    return weight.shape[2] == 1 and any(one.tensor is values and one.axis == 2 for one in sources)


def _carried(sources: Sequence[_Followed], output: _Followed, maps: bool) -> Places | None:
    """Return the places of a result whose values lie where those of a source lie."""
    for source in sources:
        places, shape = source.places, output.tensor.shape
        if maps and not (places.moved and places.grid(1) != source.tensor.shape[2:]):
            break
        if source.tensor.shape == shape:
            return places
        if source.is_but_for_channels(output):
            return places.with_channels(source.axis, shape)
        if maps:
            return places.among_neighbours(output.tensor)
    return Places.of_map(output.tensor) if maps else None
