"""Kinds of concept that mask relevance with methods of their own: channels, and the classes of zennit-crp."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from .channel import ChannelConcept
from .parts import Located, Parts


class MaskingMethods(Protocol):
    """A kind of concept with five methods on relevance `[N, C, *S]`, for which the activation does not matter."""

    def size(self, shape: Sequence[int]) -> int:
        """Return the number of concepts in an output of shape `[C, *S]`."""

    def masked(self, relevance: Tensor, ids: Sequence[Sequence[int]]) -> Tensor:
        """Keep the relevance of the chosen concepts of each condition: `[N, C, *S]` -> `[K, N, C, *S]`."""

    def at_positions(self, relevance: Tensor, ids: Tensor, positions: Tensor) -> Tensor:
        """Keep one position of one concept for each sample: `[N, C, *S]` -> `[1, N, C, *S]`."""

    def total(self, values: Tensor) -> Tensor:
        """Sum the values of each concept: `[N, C, *S]` -> `[N, n]`."""

    def peak(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Find the largest signed value of each concept and its position: two of `[N, n]`."""


class MaskedParts(Parts):
    """The parts of a layer whose kind of concept has `MaskingMethods`: the masked activation."""

    kind: MaskingMethods

    @cached_property
    def size(self) -> int:
        """Number of concepts."""
        shape = self.layout.shape
        return self.kind.size((shape[-1], *shape[:-1]) if self.layout.last else shape)

    @property
    def masks(self) -> bool:
        """Whether every part is the activation times a constant factor: it is."""
        return True

    def part(self, conditions: Sequence[Any]) -> Tensor:
        """Mask the activation: `[K, N, *shape]`."""
        return self.carried(self._activation, conditions)

    def carried(self, relevance: Tensor, conditions: Sequence[Any]) -> Tensor:
        """Mask relevance: `[N, *shape]` -> `[K, N, *shape]`."""
        rows = [self.weights([chosen], relevance)[0] for chosen in conditions]
        if all(bool(((row == 0) | (row == 1)).all()) for row in rows):
            return self._masked(relevance, [row.nonzero().flatten().tolist() for row in rows])
        return torch.stack([self._weighted(relevance, row) for row in rows])

    def at_positions(self, relevance: Tensor, ids: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Keep the relevance of one concept at one position for each sample: `[N, *shape]` -> the same."""
        chosen = (torch.tensor(numbers, device=relevance.device) for numbers in (ids, positions))
        return self.layout.as_given(self.kind.at_positions(self.layout.channels_first(relevance), *chosen)[0])

    def active_at(self, ids: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Keep the activation of one concept at one position for each sample, `[N, *shape]`."""
        return self.at_positions(self._activation, ids, positions)

    def relevance(self, relevance: Tensor) -> Located:
        """Locate the relevance `[N, *shape]` of every concept."""
        return _LocatedByMethods(self.kind, self.layout.channels_first(relevance))

    def total(self, relevance: Tensor) -> Tensor:
        """Sum the relevance of every concept, `[..., N, *shape]` -> `[..., N, n]`."""
        axes = len(self.layout.shape)
        rows = self.layout.channels_first(relevance.reshape(-1, *relevance.shape[-axes:]))
        return self.kind.total(rows).reshape(*relevance.shape[:-axes], -1)

    @cached_property
    def _active(self) -> Located:
        return self.relevance(self._activation)

    def averages(self) -> Tensor:
        """Return the mean activation of each channel over positions, `[N, C]`.

        Other kinds may count positions along any axis: of them the activation, `[N, C * P]`.
        """
        if not isinstance(self.kind, ChannelConcept):
            return self._activation.flatten(1)
        total = ChannelConcept.total(self.kind, self.layout.channels_first(self._activation))
        return total / self.layout.positions

    def filled(self, numbers: Tensor, conditions: Sequence[Any]) -> Tensor:
        """Mask the mean activation, once per condition: `[m]` -> `[K, *shape]`."""
        if isinstance(self.kind, ChannelConcept):
            numbers = self.layout.joined(numbers[:, None].expand(-1, self.layout.positions))
        return self.carried(numbers.view(1, *self.layout.shape), conditions)[:, 0]

    def _masked(self, relevance: Tensor, ids: Sequence[Sequence[int]]) -> Tensor:
        return self.layout.as_given(self.kind.masked(self.layout.channels_first(relevance), ids))

    def _weighted(self, relevance: Tensor, weights: Tensor) -> Tensor:
        ids = weights.nonzero().flatten().tolist()
        return torch.tensordot(weights[ids], self._masked(relevance, [[index] for index in ids]), 1)


class _LocatedByMethods:
    def __init__(self, kind: MaskingMethods, values: Tensor) -> None:
        self._kind, self._values = kind, values

    @cached_property
    def total(self) -> Tensor:
        return self._kind.total(self._values)

    def peak(self) -> tuple[Tensor, Tensor]:
        return self._kind.peak(self._values)

    def trough(self) -> tuple[Tensor, Tensor]:
        if hasattr(self._kind, "trough"):
            return self._kind.trough(self._values)
        highest, positions = self._kind.peak(-self._values)
        return -highest, positions
