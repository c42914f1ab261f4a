"""Where the values of a tensor lie on the feature map that they come from, and what functions do to that: `Places`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from crp.attribution.nested_tensors import tensors_in

# Functions that move values without changing them: what they do to a tensor, they do to the places of its values.
_MOVING = {
    "permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "T", "mT", "reshape", "view", "flatten",
    "unflatten", "squeeze", "unsqueeze", "unbind", "chunk", "split", "tensor_split", "narrow", "select", "index_select",
    "getitem", "flip", "roll", "rot90", "expand", "repeat", "gather", "take_along_dim", "pad",
}  # fmt: skip
# Functions that put one value in the place of several: it lies where these lie on average.
_REDUCING = {"mean", "sum", "amax", "amin", "max", "min"}


@dataclass(frozen=True, eq=False)
class Places:
    """The coordinates of each value of a tensor `[N, ...]` on a feature map.

    Attributes
    ----------
    along
        A tensor of that shape for each axis of space; NaN where a value has no place.
    moved
        Whether anything moved the values since they were those of a feature map.
    """

    along: tuple[Tensor, ...]
    moved: bool = True
    _grids: dict[int, tuple[int, ...]] = field(default_factory=dict, repr=False)

    @classmethod
    def of_map(cls, output: Tensor) -> Places:
        """Return the places of a feature map `[N, C, *S]`."""
        along = []
        for axis, size in enumerate(output.shape[2:]):
            places = torch.arange(size, dtype=torch.float32, device=output.device)
            along.append(places.view(size, *[1] * (output.ndim - axis - 3)).expand(output.shape))
        return cls(tuple(along), moved=False)

    def among_neighbours(self, output: Tensor) -> Places:
        """Return the places of a map `[N, C, *S]` that is computed of neighbours: each value lies where these do."""

        def along(each: Tensor) -> Tensor:
            means = functional.interpolate(_constant(each, 1).float(), output.shape[2:], mode="area")
            return means.expand(output.shape)

        return Places(tuple(map(along, self.along)))

    def with_channels(self, axis: int, shape: Sequence[int]) -> Places:
        """Return the places of a tensor of another shape, which has other channels along `axis` and no other change."""
        found = Places(tuple(_constant(each, axis).float().expand(shape) for each in self.along), self.moved)
        if axis in self._grids:
            found._grids[axis] = self._grids[axis]
        return found

    def after(self, function: Callable, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Places]:
        """Return the places of a function's results, one for each, after it moved or reduced (`moves`) these values."""
        if name in _REDUCING:
            keep = kwargs.get("keepdim", len(args) > 2 and args[2] is True)
            return [Places(tuple(each.mean(_dim(args, kwargs), keep) for each in self.along))]
        if name == "view":  # what can be seen as another shape differs between a tensor and its coordinates
            function = Tensor.reshape
        if name == "pad" and "constant" in (kwargs.get("mode", "constant"), *args[2:3]):
            function, args, kwargs = partial(functional.pad, value=torch.nan), (args[0], _amounts(args, kwargs)), {}
        parts = [list(tensors_in([function(each, *args[1:], **kwargs)])) for each in self.along]
        return [Places(along) for along in zip(*parts, strict=True)]

    def grid(self, axis: int) -> tuple[int, ...]:
        """Return the grid on which the last positions lie row by row; empty if they are in another order, or nowhere.

        Parameters
        ----------
        axis
            The axis of channels.
        """
        if axis not in self._grids:
            self._grids[axis] = self._grid(axis)
        return self._grids[axis]

    def _grid(self, axis: int) -> tuple[int, ...]:
        if not self.moved:
            return tuple(self.along[0].shape[2:])
        means = torch.stack([_constant(each[0], axis - 1).double().flatten() for each in self.along])
        means = means.mul(2**12).round()  # means of several places are exact to rounding
        means = means[:, means.isnan().all(0).logical_not().cumsum(0) > 0]  # without what lies in front
        axes = [row.unique() for row in means]
        grid = tuple(map(len, axes))
        if not means.numel() or means.isnan().any() or prod(grid) != means.shape[1]:
            return ()
        ordered = torch.cartesian_prod(*axes).view(-1, len(grid)).T
        return grid if torch.equal(ordered, means) else ()


def joined(
    function: Callable, known: Sequence[Places | None], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> list[Places]:
    """Return the places of tensors that `cat` or `stack` joins; what nothing is known of has none."""
    tensors = list(tensors_in(args[:1] or [kwargs["tensors"]]))
    options = {name: value for name, value in kwargs.items() if name != "tensors"}
    unknown = [torch.full((), torch.nan, device=one.device).expand(one.shape) for one in tensors]

    def along(axis: int) -> Tensor:
        each = [places.along[axis] if places else nan for places, nan in zip(known, unknown, strict=True)]
        return function(each, *args[1:], **options)

    count = max((len(places.along) for places in known if places), default=0)
    return [Places(tuple(map(along, range(count))))] if count else []


def moves(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], axis: int | None) -> bool:
    """Return whether a function moves or reduces the values of its first argument, whose channels are on `axis`."""
    if name == "view":  # of a dtype, or of a shape
        return not isinstance(args[1] if len(args) > 1 else kwargs.get("dtype"), torch.dtype)
    if name == "pad":
        along = [args[0].ndim - 1 - place // 2 for place, amount in enumerate(_amounts(args, kwargs)) if amount]
        return any(place != axis for place in along)
    if name in _REDUCING:  # `max` and `min` of two tensors have no axis
        return isinstance(_dim(args, kwargs), int | tuple | list)
    return name in _MOVING


def _constant(values: Tensor, axis: int) -> Tensor:
    """Average over an axis, along which most coordinates are one number in memory, and keep it with the length 1."""
    return values.narrow(axis, 0, 1) if values.stride(axis) == 0 else values.double().mean(axis, keepdim=True)


def _dim(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the argument `dim` of a reduction."""
    return args[1] if len(args) > 1 else kwargs.get("dim")


def _amounts(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[int]:
    """Return the argument `pad` of `functional.pad`: two numbers for each axis, from the last one on."""
    return args[1] if len(args) > 1 else kwargs["pad"]
