"""Where the values of a tensor lie on the feature map that they come from, and what functions do to that: `Places`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from crp.attribution.functions.function_calls import function_name
from crp.attribution.nested_tensors import tensors_in

# Functions that move values without changing them: what they do to a tensor, they do to the places of its values.
_MOVING = {
    "permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "T", "mT", "reshape", "view", "flatten",
    "unflatten", "squeeze", "unsqueeze", "unbind", "chunk", "split", "tensor_split", "narrow", "select", "index_select",
    "getitem", "flip", "roll", "rot90", "expand", "repeat", "gather", "take_along_dim", "pad",
}  # fmt: skip
# Functions that put one value in the place of several: it lies where these lie on average.
_REDUCING = {"mean", "sum", "amax", "amin", "max", "min"}


class SeenCall(NamedTuple):
    """A call of a function, as a mode sees it."""

    function: Callable
    args: tuple
    kwargs: dict[str, Any]

    @property
    def name(self) -> str:
        """The function's name without module."""
        return function_name(self.function)

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """Return an argument that may be given by place or by name."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)

    def on(self, values: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """Return the results of the call with another first argument."""
        rest = {name: value for name, value in self.kwargs.items() if name != "tensors"}
        return list(tensors_in([self.function(values, *self.args[1:], **rest)]))


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

    def after(self, call: SeenCall) -> list[Places]:
        """Return the places of the results of a call, one for each, that moved or reduced (`moves`) these values."""
        if call.name in _REDUCING:
            dim, keep = call.argument(1, "dim"), call.argument(2, "keepdim", False) is True
            return [Places(tuple(each.mean(dim, keep) for each in self.along))]
        if call.name == "view":  # what can be seen as another shape differs between a tensor and its coordinates
            call = call._replace(function=Tensor.reshape)
        if call.name == "pad" and call.argument(2, "mode", "constant") == "constant":
            call = SeenCall(functional.pad, call.args[:1], {"pad": call.argument(1, "pad"), "value": torch.nan})
        return [Places(along) for along in zip(*map(call.on, self.along), strict=True)]

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


def joined(call: SeenCall, known: Sequence[Places | None]) -> list[Places]:
    """Return the places of tensors that `cat` or `stack` joins; what nothing is known of has none."""
    unknown = [torch.full((), torch.nan, device=one.device).expand(one.shape) for one in call.argument(0, "tensors")]

    def along(axis: int) -> Tensor:
        (found,) = call.on([one.along[axis] if one else nan for one, nan in zip(known, unknown, strict=True)])
        return found

    count = max((len(places.along) for places in known if places), default=0)
    return [Places(tuple(map(along, range(count))))] if count else []


def moves(call: SeenCall, axis: int | None) -> bool:
    """Return whether a call moves or reduces the values of its first argument, whose channels are on `axis`."""
    if call.name == "view":  # of a dtype, or of a shape
        return not isinstance(call.argument(1, "dtype"), torch.dtype)
    if call.name == "pad":  # two amounts for each axis, from the last one on
        amounts, last = call.argument(1, "pad"), call.args[0].ndim - 1
        return any(amount and last - place // 2 != axis for place, amount in enumerate(amounts))
    if call.name in _REDUCING:  # `max` and `min` of two tensors have no axis
        return isinstance(call.argument(1, "dim"), int | tuple | list)
    return call.name in _MOVING


def _constant(values: Tensor, axis: int) -> Tensor:
    """Average over an axis, along which most coordinates are one number in memory, and keep it with the length 1."""
    return values.narrow(axis, 0, 1) if values.stride(axis) == 0 else values.double().mean(axis, keepdim=True)
