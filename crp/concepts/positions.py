"""Positions and tokens as concepts: `PositionConcept`, `TokenConcept`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crp.errors import InputError
from crp.layout import Layout

from .protocol import ConceptKind


@dataclass(frozen=True)
class PositionConcept(ConceptKind):
    """One position of a layer, with all its channels, is one concept. Its activation is the length of its vector."""

    masks = True

    def size(self, layout: Layout) -> int:
        """Return the number of positions."""
        if layout.positions == 1:
            raise InputError(f"A layer of shape {list(layout.shape)} has no positions.")
        return layout.positions

    def parts(self, activation: Tensor, ids: Sequence[int], layout: Layout) -> Tensor:
        """Keep one position for each id: `[N, *shape]` -> `[len(ids), N, *shape]`."""
        weights = torch.nn.functional.one_hot(torch.tensor(ids), layout.positions)
        return self.weighted(activation, weights.to(activation), layout)

    def weighted(self, activation: Tensor, weights: Tensor, layout: Layout) -> Tensor:
        """Multiply each position by its weight, once per row of weights `[K, P]`."""
        return layout.joined(layout.split(activation)[None] * weights[:, None, None].to(activation))

    def values(self, activation: Tensor, layout: Layout) -> Tensor:
        """Return the length of each position's vector, `[N, P, P]`; a concept is active at its own position alone."""
        return torch.diag_embed(torch.linalg.vector_norm(layout.split(activation), dim=1))

    def by_position(self, factor: Tensor, activation: Tensor, layout: Layout) -> Tensor:
        """Sum over the channels of each position."""
        return torch.diag_embed(layout.split(factor * activation).sum(1))

    def places(self, layout: Layout) -> Tensor:
        """Return that a concept can be at its own position only."""
        return torch.eye(layout.positions, dtype=torch.bool)

    def name(self, concept: int, layout: Layout) -> str:
        """Return where the position lies on the grid."""
        place = layout.place(concept)
        return f"position {concept}" if place is None else f"position {', '.join(map(str, place))}"


@dataclass(frozen=True)
class TokenConcept(PositionConcept):
    """One token of a layer `[N, T, D]` is one concept: a class token, a register, or one that lies on a grid."""

    def size(self, layout: Layout) -> int:
        """Return the number of tokens."""
        if len(layout.shape) != 2 or not layout.last:
            raise InputError(
                f"A layer of shape {list(layout.shape)}{'' if layout.last else ', channels first,'} has no tokens; use "
                "positions or channels."
            )
        return layout.positions

    def name(self, concept: int, layout: Layout) -> str:
        """Return where the token lies on the grid, or its number."""
        place = layout.place(concept)
        return f"token {concept}" if place is None else f"token at {', '.join(map(str, place))}"
