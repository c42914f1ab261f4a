"""Where the values of a tensor lie on the feature map that they come from, and what functions do to that: `Places`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
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
    "getitem", "flip", "fliplr", "flipud", "roll", "rot90", "expand", "expand_as", "broadcast_to", "repeat", "tile",
    "repeat_interleave", "gather", "take_along_dim", "pad", "t", "H", "mH", "adjoint", "view_as", "reshape_as", "ravel",
    "split_with_sizes", "hsplit", "vsplit", "unsafe_chunk", "unsafe_split",
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

    @property
    def in_place(self) -> bool:
        """Whether the function changes its first argument."""
        return self.name == "setitem" or (self.name.endswith("_") and not self.name.startswith("_"))

    def run(self) -> Any:
        """Call the function."""
        return self.function(*self.args, **self.kwargs)

    def replacing(self, one: Tensor, other: Tensor) -> SeenCall:
        """Return the call with another tensor in the place of one, also inside lists and tuples."""

        def replaced(value: Any) -> Any:
            if isinstance(value, list | tuple):
                return [*map(replaced, value)] if isinstance(value, list) else tuple(map(replaced, value))
            return other if value is one else value

        kwargs = {name: replaced(value) for name, value in self.kwargs.items()}
        return SeenCall(self.function, replaced(self.args), kwargs)

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

    @classmethod
    def lost(cls, shape: Sequence[int], like: Places) -> Places:
        """Return the places of a tensor whose values have none, with as many axes of space as other ones."""
        return cls(tuple(each.new_full((), torch.nan).expand(tuple(shape)) for each in like.along))

    @cached_property
    def nowhere(self) -> bool:
        """Whether no value has a place."""
        return bool(in_memory(self.along[0]).isnan().all())

    @cached_property
    def indistinct(self) -> bool:
        """Whether no two values have different places."""
        return not any(differ(in_memory(each)) for each in self.along)

    def equal_along(self, axes: Iterable[int]) -> bool:
        """Return whether the values lie at one place along each of some axes."""
        axes = [*axes]
        return all(
            values.shape[axis] == 1 or bool((values == values.narrow(axis, 0, 1)).all())
            for values in (in_memory(each).nan_to_num(nan=-1) for each in self.along)
            for axis in axes
        )

    def among_neighbours(self, output: Tensor) -> Places:
        """Return the places of a map `[N, C, *S]` that is computed of neighbours: each value lies where these do."""

        def along(each: Tensor) -> Tensor:
            means = functional.interpolate(averaged(each, 1).float(), output.shape[2:], mode="area")
            return means.expand(output.shape)

        return Places(tuple(map(along, self.along)))

    def with_channels(self, axis: int, shape: Sequence[int]) -> Places:
        """Return the places of a tensor of another shape, which has other channels along `axis` and no other change."""
        found = Places(tuple(averaged(each, axis).float().expand(shape) for each in self.along), self.moved)
        if axis in self._grids:
            found._grids[axis] = self._grids[axis]
        return found

    def after(self, call: SeenCall) -> list[Places]:
        """Return the places of the results of a call, one for each, that moved or reduced (`moves`) these values."""
        if call.name in _REDUCING:
            dim, keep = call.argument(1, "dim"), call.argument(2, "keepdim", False) is True
            return [Places(tuple(each.mean(dim, keep) for each in self.along))]
        if call.name in ("view", "view_as"):  # coordinates cannot be seen as every shape that their tensor can
            call = call._replace(function=getattr(Tensor, call.name.replace("view", "reshape")))
        if call.name == "pad" and call.argument(2, "mode", "constant") == "constant":
            call = SeenCall(functional.pad, call.args[:1], {"pad": call.argument(1, "pad"), "value": torch.nan})
        return [Places(along) for along in zip(*map(call.on, self.along), strict=True)]

    def overwritten(self, index: Any, values: Places | None) -> Places:
        """Return the places after other values, which may have none, were written to an index."""
        along = [each.clone(memory_format=torch.contiguous_format) for each in self.along]
        for place, each in enumerate(along):
            each[index] = values.along[place] if values else torch.nan
        return Places(tuple(along))

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
        samples = torch.stack([averaged(each, axis).double().squeeze(axis) for each in self.along], 1)
        positions = samples[0]
        if not torch.equal(samples.nan_to_num(nan=-1), positions.nan_to_num(nan=-1).expand_as(samples)):
            return ()  # the data of a sample decide on the order
        if positions.ndim == len(positions) + 1 and all(map(_rises, positions, range(len(positions)))):
            return tuple(positions.shape[1:])
        means = positions.flatten(1).mul(2**12).round()  # means of several places are exact to rounding
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


def moves(call: SeenCall) -> bool:
    """Return whether a call moves or reduces the values of its first argument."""
    if call.name == "view":  # of a dtype, or of a shape
        return not isinstance(call.argument(1, "dtype"), torch.dtype)
    if call.name in _REDUCING:  # `max` and `min` of two tensors have no axis
        return isinstance(call.argument(1, "dim"), int | tuple | list)
    return call.name in _MOVING


def averaged(values: Tensor, axis: int) -> Tensor:
    """Average over an axis, along which most coordinates are one number in memory, and keep it with the length 1.

    What has no place, as a border or a constant beside the channels of a map, does not count.
    """
    return values.narrow(axis, 0, 1) if values.stride(axis) == 0 else values.double().nanmean(axis, keepdim=True)


def _rises(places: Tensor, axis: int) -> bool:
    """Return whether coordinates `[*S]` rise along one axis, where neighbours may share one, and along no other."""
    along = places.movedim(axis, 0).reshape(places.shape[axis], -1)
    rises = bool((along.diff(dim=0) >= 0).all()) and bool((along[-1] > along[0]).all() or len(along) == 1)
    return rises and bool((along == along[:, :1]).all())


def in_memory(values: Tensor) -> Tensor:
    """Return values without those that are repeated along an axis without being stored again."""
    for axis in range(values.ndim):
        if values.stride(axis) == 0:
            values = values.narrow(axis, 0, 1)
    return values


def differ(values: Tensor) -> bool:
    """Return whether two numbers differ, of those that are known."""
    most, least = values.nan_to_num(nan=-torch.inf), values.nan_to_num(nan=torch.inf)
    return values.numel() > 0 and bool(most.amax() > least.amin())
