"""Where positions lie after operations that move them, such as reshapes that order tokens by windows: `MovedPlaces`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from crp.attribution.functions.function_calls import function_name
from crp.attribution.nested_tensors import tensors_in

# Functions that move values without changing them: what they do to a tensor, they do to the places of its values.
_MOVING = {
    "permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "T", "mT", "reshape", "view", "flatten",
    "unflatten", "squeeze", "unsqueeze", "unbind", "chunk", "split", "tensor_split", "narrow", "select", "index_select",
    "getitem", "flip", "roll", "rot90", "expand", "repeat",
}  # fmt: skip
_JOINING = {"cat", "concat", "concatenate", "stack"}
# Functions that put one value in the place of several: it lies where these lie on average.
_REDUCING = {"mean", "sum", "amax", "amin", "max", "min"}


@dataclass(frozen=True)
class _Places:
    """The coordinates of each value of a tensor, a tensor of its shape for each axis of space; NaN where unknown.

    `moved` says whether anything moved them since they were those of a feature map.
    """

    along: tuple[Tensor, ...]
    moved: bool = True


class MovedPlaces:
    """Follows the places of values through a pass, from feature maps `[N, C, *S]` on.

    Functions that move values run on the coordinates of the values, too. What keeps the shape, or the shape but for
    channels, keeps the coordinates. After any other function nothing is known, and positions count as in order.

    Parameters
    ----------
    axes
        By id of a tensor, the tensor and its axis of channels, of all tensors seen so far; filled by the caller.
    """

    def __init__(self, axes: Mapping[int, tuple[Tensor, int]]) -> None:
        self._axes = axes
        self._known: dict[int, tuple[Tensor, _Places]] = {}  # with the tensor, so that no two have the same id

    def follow(
        self, function: Callable, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any, *, maps: bool
    ) -> None:
        """Follow one call; `maps` says whether its result is a feature map `[N, C, *S]`, as of a convolution."""
        name, outputs = function_name(function), list(tensors_in([result]))
        if name in _JOINING and "out" not in kwargs:
            found = self._joined(function, args, kwargs)
        elif args and (name in _MOVING or name in _REDUCING) and not _has_another_meaning(name, args, kwargs):
            found = self._moved(function, name, args, kwargs)
        else:
            sources = [one for one in tensors_in((*args, *kwargs.values())) if id(one) in self._known]
            found = [self._carried(sources, output, maps) for output in outputs]
        for output, places in zip(outputs, found, strict=False):
            if places is not None and places.along[0].shape == output.shape:
                self._known[id(output)] = output, places

    def grid(self, tensor: Tensor, axis: int) -> tuple[int, ...] | None:
        """Return the grid on which the last positions of a tensor lie row by row.

        Parameters
        ----------
        tensor, axis
            A layer's output, and its axis of channels.

        Returns
        -------
        tuple of int or None
            Empty if positions are in another order, or none has a place; None if nothing is known.
        """
        _, places = self._known.get(id(tensor), (None, None))
        if places is None:
            return None
        if not places.moved:
            return tuple(tensor.shape[2:])
        means = torch.stack([_mean(each[0].movedim(axis - 1, 0)).flatten() for each in places.along])
        means = means.mul(2**12).round()  # means of several places are exact to rounding
        means = means[:, means.isnan().all(0).logical_not().cumsum(0) > 0]  # without what lies in front
        grid = tuple(len(row.unique()) for row in means)
        if not means.numel() or means.isnan().any() or prod(grid) != means.shape[1]:
            return ()
        ordered = torch.cartesian_prod(*[row.unique() for row in means]).view(-1, len(grid)).T
        return grid if torch.equal(ordered, means) else ()

    def _moved(
        self, function: Callable, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> list[_Places | None]:
        _, places = self._known.get(id(args[0]), (None, None))
        if places is None:
            return []
        if name in _REDUCING:
            keep = kwargs.get("keepdim", len(args) > 2 and args[2] is True)
            return [_Places(tuple(each.mean(_dim(args, kwargs), keep) for each in places.along))]
        # what can be seen as another shape differs between a tensor and its coordinates
        apply = Tensor.reshape if name == "view" else function
        parts = [list(tensors_in([apply(each, *args[1:], **kwargs)])) for each in places.along]
        return [_Places(along) for along in zip(*parts, strict=True)]

    def _joined(self, function: Callable, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[_Places | None]:
        tensors = list(tensors_in(args[:1] or [kwargs["tensors"]]))
        known = [self._known.get(id(one), (None, None))[1] for one in tensors]
        count = max((len(places.along) for places in known if places), default=0)
        options = {name: value for name, value in kwargs.items() if name != "tensors"}
        nowhere = [torch.full(one.shape, torch.nan, device=one.device) for one in tensors]

        def joined(axis: int) -> Tensor:
            each = [places.along[axis] if places else nan for places, nan in zip(known, nowhere, strict=True)]
            return function(each, *args[1:], **options)

        return [_Places(tuple(map(joined, range(count))))] if count else []

    def _carried(self, sources: Sequence[Tensor], output: Tensor, maps: bool) -> _Places | None:
        for source in sources:
            places = self._known[id(source)][1]
            if maps and not self._is_moved(source, places):
                break
            if source.shape == output.shape:
                return places
            (_, own), (_, other) = self._axes.get(id(source), (0, -1)), self._axes.get(id(output), (0, -2))
            shapes = [[size for place, size in enumerate(one.shape) if place != own] for one in (source, output)]
            if own == other and shapes[0] == shapes[1]:
                along = (each.mean(own, keepdim=True).expand(output.shape) for each in places.along)
                return _Places(tuple(along), places.moved)
            if maps:  # computed of neighbours that were none
                return _Places(tuple(torch.zeros_like(output, dtype=torch.float32) for _ in places.along))
        return _map_places(output) if maps else None

    def _is_moved(self, source: Tensor, places: _Places) -> bool:
        return places.moved and self.grid(source, 1) != source.shape[2:]


def _mean(values: Tensor) -> Tensor:
    """Average over the first axis, along which most coordinates are one number in memory."""
    return values[0].double() if values.stride(0) == 0 else values.double().mean(0)


def _map_places(output: Tensor) -> _Places:
    """Return the places of a feature map `[N, C, *S]`."""
    along = []
    for axis, size in enumerate(output.shape[2:]):
        places = torch.arange(size, dtype=torch.float32, device=output.device)
        along.append(places.view(size, *[1] * (output.ndim - axis - 3)).expand(output.shape))
    return _Places(tuple(along), moved=False)


def _dim(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the argument `dim` of a reduction."""
    return args[1] if len(args) > 1 else kwargs.get("dim")


def _has_another_meaning(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Return whether `max` and the like have no axis, but another tensor, and `view` has no shape, but a dtype."""
    if name == "view":
        return isinstance(args[1] if len(args) > 1 else kwargs.get("dtype"), torch.dtype)
    return name in _REDUCING and not isinstance(_dim(args, kwargs), int | tuple | list)
