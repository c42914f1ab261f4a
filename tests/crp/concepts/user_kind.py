"""A kind of concept written from the documentation alone: frequencies of a layer's output over its grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crp.concepts import ConceptKind, Layout
from crp.errors import InputError


@dataclass(frozen=True)
class Bands(ConceptKind):
    """What varies slowly over the grid, and what varies fast.

    Each axis is transformed by an orthonormal DCT-II. A coefficient belongs to a band by the mean of its frequencies,
    each divided by the extent of its axis. What is in front of the grid (class tokens) belongs to the rest.
    """

    count: int = 3

    def size(self, layout: Layout) -> int:
        """Return the number of bands."""
        if math.prod(layout.grid) < 2:
            raise InputError(f"A layer of shape {layout.shape} has no frequencies.")
        return self.count

    def parts(self, activation: Tensor, ids: Sequence[int], layout: Layout) -> Tensor:
        """Keep the coefficients of each band."""
        channels = layout.split(activation)
        spectrum = channels[..., layout.prefix :].unflatten(-1, layout.grid)
        for matrix in self._matrices(activation, layout):
            spectrum = torch.tensordot(spectrum, matrix, ([2], [1]))
        places = torch.meshgrid(*(torch.arange(extent) / extent for extent in layout.grid), indexing="ij")
        band = (torch.stack(places).mean(0) * self.count).long().to(activation.device)
        kept = torch.stack([spectrum * (band == index) for index in ids])
        for matrix in self._matrices(activation, layout):
            kept = torch.tensordot(kept, matrix, ([3], [0]))
        found = activation.new_zeros(len(kept), *channels.shape)
        found[..., layout.prefix :] = kept.flatten(3)
        return layout.joined(found)

    def _matrices(self, like: Tensor, layout: Layout) -> list[Tensor]:
        """Return the cosines of each axis, by frequency and position."""
        found = []
        for extent in layout.grid:
            place = torch.arange(extent, dtype=torch.float64)
            matrix = torch.cos(math.pi / extent * place[:, None] * (place + 0.5)) * (2 / extent) ** 0.5
            matrix[0] /= 2**0.5
            found.append(matrix.to(like))
        return found
