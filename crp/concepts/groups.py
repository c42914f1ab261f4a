"""Groups of concepts as concepts: `Groups`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from crp.errors import InputError
from crp.layout import Layout

from .protocol import ConceptKind
from .selection import weights_of


@dataclass(frozen=True, eq=False)
class Groups(ConceptKind):
    """Sums of concepts of another kind, each with a weight, are concepts.

    Attributes
    ----------
    kind
        The kind of the members.
    members
        By name of the group, its members: ids, weights by id, or `all_but(ids)`, as in a condition.

    Examples
    --------
    >>> from crp.concepts import ChannelConcept
    >>> colours = Groups(ChannelConcept(), {"warm": [0, 2], "cold": {1: 1.0, 2: -0.5}})
    >>> colours.parts(torch.tensor([[1.0, 2.0, 4.0]]), [0, 1], Layout((3,)))[:, 0]
    tensor([[ 1.,  0.,  4.],
            [ 0.,  2., -2.]])
    """

    kind: ConceptKind
    members: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Check that there is a group."""
        if not isinstance(self.kind, ConceptKind) or not self.members:
            raise InputError("Groups need a ConceptKind, and at least one group with its members.")

    @property
    def masks(self) -> bool:
        """Whether the members' parts are the activation times constant factors."""
        return self.kind.masks

    @property
    def local(self) -> bool:
        """Whether the members' parts at a position depend on the activation there alone."""
        return self.kind.local

    def size(self, layout: Layout) -> int:
        """Return the number of groups."""
        self._weights(layout)
        return len(self.members)

    def parts(self, activation: Tensor, ids: Sequence[int], layout: Layout) -> Tensor:
        """Add up the members' parts for each id: `[N, *shape]` -> `[len(ids), N, *shape]`."""
        return self.kind.weighted(activation, self._weights(layout)[list(ids)], layout)

    def values(self, activation: Tensor, layout: Layout) -> Tensor:
        """Add up the members' activations, `[N, n, P]`."""
        found = self.kind.values(activation, layout)
        return torch.tensordot(self._weights(layout).to(found), found, ([1], [1])).movedim(0, 1)

    def weighted(self, activation: Tensor, weights: Tensor, layout: Layout) -> Tensor:
        """Weight the members by the sum of their groups' weights."""
        return self.kind.weighted(activation, weights @ self._weights(layout).to(weights), layout)

    def by_position(self, factor: Tensor, activation: Tensor, layout: Layout) -> Tensor:
        """Add up those of the members."""
        found = self.kind.by_position(factor, activation, layout)
        return torch.tensordot(self._weights(layout).to(found), found, ([1], [1])).movedim(0, 1)

    def places(self, layout: Layout) -> Tensor | None:
        """Return where any of a group's members can be."""
        places = self.kind.places(layout)
        return None if places is None else (self._weights(layout) != 0).float() @ places.float() > 0

    def averages(self, activation: Tensor, layout: Layout) -> Tensor:
        """Return the numbers that the members' mean parts are made of."""
        return self.kind.averages(activation, layout)

    def mean_parts(self, numbers: Tensor, weights: Tensor, layout: Layout) -> Tensor:
        """Weight the members' mean parts by the sum of their groups' weights."""
        return self.kind.mean_parts(numbers, weights @ self._weights(layout).to(weights), layout)

    def name(self, concept: int, layout: Layout) -> str:
        """Return the group's name."""
        return list(self.members)[concept]

    def _weights(self, layout: Layout) -> Tensor:
        count = self.kind.size(layout)
        return torch.stack([weights_of(chosen, count) for chosen in self.members.values()])
