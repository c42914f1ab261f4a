"""Attention heads as concepts: `HeadConcept`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crp.errors import InputError
from crp.layout import Layout

from .protocol import ConceptKind


@dataclass(frozen=True)
class HeadConcept(ConceptKind):
    """One head of a layer whose channels are those of its heads, one head after the other, is one concept.

    In a transformer, that is the input of the attention's output projection: the layer `"blocks.3.attn.proj..input"`.
    A head's activation at a position is the length of its vector there.

    Attributes
    ----------
    heads
        Number of heads; it divides the number of channels.

    Examples
    --------
    >>> heads, layout = HeadConcept(2), Layout((3, 4), last=True)
    >>> heads.parts(torch.ones(1, 3, 4), [1], layout)[0, 0]
    tensor([[0., 0., 1., 1.],
            [0., 0., 1., 1.],
            [0., 0., 1., 1.]])
    """

    heads: int
    masks = True

    def size(self, layout: Layout) -> int:
        """Return the number of heads."""
        if self.heads < 1 or layout.channels % self.heads:
            raise InputError(f"{layout.channels} channels cannot be divided among {self.heads} heads.")
        return self.heads

    def parts(self, activation: Tensor, ids: Sequence[int], layout: Layout) -> Tensor:
        """Keep one head for each id: `[N, *shape]` -> `[len(ids), N, *shape]`."""
        weights = torch.nn.functional.one_hot(torch.tensor(ids), self.heads)
        return self.weighted(activation, weights.to(activation), layout)

    def weighted(self, activation: Tensor, weights: Tensor, layout: Layout) -> Tensor:
        """Multiply each head by its weight, once per row of weights `[K, heads]`."""
        of_channels = weights.repeat_interleave(layout.channels // self.heads, 1).to(activation)
        return layout.joined(layout.split(activation)[None] * of_channels[:, None, :, None])

    def values(self, activation: Tensor, layout: Layout) -> Tensor:
        """Return the length of each head's vector at each position, `[N, heads, P]`."""
        return torch.linalg.vector_norm(layout.split(activation).unflatten(1, (self.heads, -1)), dim=2)

    def by_position(self, factor: Tensor, activation: Tensor, layout: Layout) -> Tensor:
        """Sum over the channels of each head."""
        return layout.split(factor * activation).unflatten(1, (self.heads, -1)).sum(2)

    def name(self, concept: int, layout: Layout) -> str:
        """Return the head's number."""
        return f"head {concept}"
