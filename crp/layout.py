"""Which axes of a layer's output are channels and which are positions: `Layout`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from crp.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor  # opening a library must not load torch


@dataclass(frozen=True)
class Layout:
    """What the axes of a layer's output mean.

    ====================  =====================================================================================
    `[N, C, *S]`          `Layout((C, *S))`: channels first
    `[N, *S, C]`          `Layout((*S, C), last=True)`: channels last
    `[N, T, D]`           `Layout((T, D), last=True, grid=(h, w), prefix=p)`: tokens, with `p` tokens in front of
                          those of the grid (class token, registers), `T = p + h * w`
    `[N, D]`              `Layout((D,))`: one position
    ====================  =====================================================================================

    Attributes
    ----------
    shape
        Shape of the output without the samples' axis.
    last
        Whether the channels are on the last axis; otherwise they are on the first one of `shape`.
    grid
        Extent of the positions as they lie in the input, `*S`; empty if they have no place there. By default the axes
        of `shape` without the channels'.
    prefix
        Number of positions in front of the grid.

    Examples
    --------
    >>> layout = Layout((197, 768), last=True, grid=(14, 14), prefix=1)
    >>> layout.channels, layout.positions, layout.place(0), layout.place(16)
    (768, 197, None, (1, 1))
    """

    shape: tuple[int, ...]
    last: bool = False
    grid: tuple[int, ...] | None = None
    prefix: int = 0

    def __post_init__(self) -> None:
        """Fill in the grid, and check that it has as many positions as the layer."""
        shape = tuple(self.shape)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "last", self.last and len(shape) > 1)
        space = shape[:-1] if self.last else shape[1:]
        object.__setattr__(self, "grid", space if self.grid is None else tuple(self.grid))
        if self.grid and self.prefix + prod(self.grid) != prod(space):
            raise InputError(
                f"A layer of shape {list(shape)} has {prod(space)} positions, but {self.prefix} in front of a grid "
                f"{list(self.grid)} are {self.prefix + prod(self.grid)}."
            )

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.shape[-1] if self.last else self.shape[0]

    @property
    def positions(self) -> int:
        """Number of positions; 1 for a layer without space."""
        return prod(self.shape) // self.channels

    @property
    def space(self) -> tuple[int, ...]:
        """Extent of the positions, in whose flattened order they are counted; empty for `[N, D]`."""
        return self.shape[:-1] if self.last else self.shape[1:]

    @property
    def plain(self) -> bool:
        """Whether channels come first and all positions lie on the grid, as in a convolution or `[N, D]`."""
        return not self.last and self.grid == self.space

    def at(self, shape: Sequence[int]) -> Layout | None:
        """Return the layout for an input of another size; None if its grid does not follow from the shape.

        Parameters
        ----------
        shape
            Shape of the output without the samples' axis.
        """
        if tuple(shape) == self.shape:
            return self
        same_axes = len(shape) == len(self.shape) and self.grid == self.space
        return Layout(tuple(shape), self.last) if same_axes else None

    def split(self, values: Tensor) -> Tensor:
        """Arrange values as channels and flat positions: `[..., *shape]` -> `[..., C, P]`, a view if possible."""
        axes = len(self.shape)
        lead = values.shape[: values.ndim - axes]
        if self.last:
            return values.reshape(*lead, self.positions, self.channels).movedim(-1, -2)
        return values.reshape(*lead, self.channels, self.positions)

    def joined(self, values: Tensor) -> Tensor:
        """Undo `split`: `[..., C, P]` -> `[..., *shape]`."""
        if self.last:
            values = values.movedim(-1, -2)
        return values.reshape(*values.shape[:-2], *self.shape)

    def channels_first(self, values: Tensor) -> Tensor:
        """Move the channels to the front of the space: `[..., *shape]` -> `[..., C, *S]`, a view."""
        return values.movedim(-1, values.ndim - len(self.shape)) if self.last else values

    def as_given(self, values: Tensor) -> Tensor:
        """Undo `channels_first`."""
        return values.movedim(values.ndim - len(self.shape), -1) if self.last else values

    def place(self, position: int) -> tuple[int, ...] | None:
        """Return where a flat position lies on the grid; None for one in front of it, or without a grid."""
        if not self.grid or position < self.prefix:
            return None
        found, rest = [], position - self.prefix
        for extent in reversed(self.grid):
            rest, index = divmod(rest, extent)
            found.append(index)
        return tuple(reversed(found))

    def described(self) -> dict[str, Any]:
        """Return what a library's manifest stores of a layer: its shape, and the rest unless it is `plain`."""
        stored: dict[str, Any] = {"shape": list(self.shape)}
        if not self.plain:
            channels = "last" if self.last else "first"
            stored["layout"] = {"channels": channels, "grid": list(self.grid), "prefix": self.prefix}
        return stored

    @classmethod
    def from_description(cls, stored: Mapping[str, Any]) -> Layout:
        """Read what `described` returned.

        Raises
        ------
        InputError, KeyError, TypeError
            If it cannot be what `described` returns.
        """
        shape = tuple(stored["shape"])
        if "layout" not in stored:
            return cls(shape)
        layout = stored["layout"]
        numbers = [*layout["grid"], layout["prefix"]]
        if layout["channels"] not in ("first", "last") or any(type(size) is not int or size < 0 for size in numbers):
            raise InputError("The channels of a layout are first or last, its grid and prefix whole numbers.")
        return cls(shape, layout["channels"] == "last", tuple(layout["grid"]), layout["prefix"])
