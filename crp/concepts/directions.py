"""Directions of a layer's channels as concepts: `Directions`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from crp.errors import InputError
from crp.layout import Layout

from .encoders import LeastSquares
from .protocol import ConceptKind

_LEAST_SQUARES = LeastSquares()

# Encoders that are prepared for directions, by version of the matrix, dtype and device. No attribute of the directions,
# all of which are part of their fingerprint.
_PREPARED: WeakKeyDictionary[Directions, dict[tuple, Callable[[Tensor], Tensor]]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Directions(ConceptKind):
    """Vectors of channels as concepts: concept activation vectors, factors of NMF, latents of an autoencoder.

    At a position with activation `a` `[C]`, the part of direction j is its coefficient times the direction; what no
    direction explains, the decoder's bias among it, is the rest.

    Attributes
    ----------
    matrix
        The directions, `[n, C]`, one per row.
    encoder
        Function of activations `[..., C]` and the matrix that returns coefficients `[..., n]`
        (`crp.concepts.encoders`).
    names
        A name for each direction; may be empty.

    Examples
    --------
    >>> pair = Directions(torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.6, 0.8]]))
    >>> pair.parts(torch.tensor([[2.0, 5.0, 0.0]]), [0, 1], Layout((3,)))[:, 0]
    tensor([[2.0000, 0.0000, 0.0000],
            [0.0000, 1.8000, 2.4000]])
    """

    matrix: Tensor
    encoder: Callable[[Tensor, Tensor], Tensor] = _LEAST_SQUARES
    names: tuple[str, ...] = ()
    local = True
    averages_values = True

    def __post_init__(self) -> None:
        """Check the directions."""
        if self.matrix.ndim != 2 or not self.matrix.numel() or not bool(self.matrix.isfinite().all()):
            raise InputError(f"Directions are finite numbers [n, C], given {list(self.matrix.shape)}.")
        if self.names and len(self.names) != len(self.matrix):
            raise InputError(f"There are {len(self.names)} names for {len(self.matrix)} directions.")
        object.__setattr__(self, "names", tuple(self.names))

    def size(self, layout: Layout) -> int:
        """Return the number of directions."""
        if layout.channels != self.matrix.shape[1]:
            raise InputError(
                f"The directions have {self.matrix.shape[1]} channels, but a layer of shape {list(layout.shape)} has "
                f"{layout.channels}."
            )
        return len(self.matrix)

    def parts(self, activation: Tensor, ids: Sequence[int], layout: Layout) -> Tensor:
        """Return coefficient times direction for each id: `[N, *shape]` -> `[len(ids), N, *shape]`."""
        ids = list(ids)
        found = self._coefficients(activation, layout)[..., ids].movedim(-1, 0)
        return layout.joined(found[:, :, None] * self._directions(activation)[ids][:, None, :, None])

    def values(self, activation: Tensor, layout: Layout) -> Tensor:
        """Return the coefficients, `[N, n, P]`."""
        return self._coefficients(activation, layout).movedim(-1, 1)

    def weighted(self, activation: Tensor, weights: Tensor, layout: Layout) -> Tensor:
        """Return sums of coefficients times directions, once per row of weights `[K, n]`."""
        used = weights.any(0).nonzero().flatten()
        found, directions = self._coefficients(activation, layout)[..., used], self._directions(activation)[used]
        each = [(found * row[used].to(found)) @ directions for row in weights]
        return layout.joined(torch.stack(each).movedim(-1, -2))

    def by_position(self, factor: Tensor, activation: Tensor, layout: Layout) -> Tensor:
        """Multiply coefficients by the directions' products with the factor, `[N, n, P]`."""
        products = layout.split(factor).movedim(1, -1) @ self._directions(activation).T
        return (self._coefficients(activation, layout) * products).movedim(-1, 1)

    def averages(self, activation: Tensor, layout: Layout) -> Tensor:
        """Return the mean coefficients over positions, `[N, n]`."""
        return self.values(activation, layout).mean(2)

    def mean_parts(self, numbers: Tensor, weights: Tensor, layout: Layout) -> Tensor:
        """Return sums of mean coefficients `[n]` times directions, the same at each position."""
        found = (weights * numbers) @ self._directions(numbers)
        return layout.joined(found[..., None].expand(-1, -1, layout.positions))

    def name(self, concept: int, layout: Layout) -> str:
        """Return the direction's name, if it has one."""
        return self.names[concept] if self.names else ""

    def _coefficients(self, activation: Tensor, layout: Layout) -> Tensor:
        values, directions = layout.split(activation).movedim(1, -1), self._directions(activation)
        if not hasattr(self.encoder, "prepared"):
            return self.encoder(values, directions)
        known, key = _PREPARED.setdefault(self, {}), (self.matrix._version, values.dtype, values.device)
        if key not in known:
            known[key] = self.encoder.prepared(directions)
        return known[key](values)

    def _directions(self, like: Tensor) -> Tensor:
        return self.matrix.to(like)
