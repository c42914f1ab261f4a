"""A module that erases what is around the places where a concept is active: `Eraser`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crp.concepts import ConceptKind
from crp.correction.presence import around
from crp.layout import Layout


class Eraser(nn.Module):
    """Put the usual activation around positions where a concept is active.

    Parameters
    ----------
    kind, ids
        The concepts that are watched for.
    threshold
        Values above which each concept counts as active, `[n]`.
    usual
        What is put there, `[C]`.
    layout
        The layer's layout; it has a grid.
    reach
        Positions around an active one that are replaced, too.
    """

    def __init__(
        self, kind: ConceptKind, ids: Sequence[int], threshold: Tensor, usual: Tensor, layout: Layout, reach: int
    ) -> None:
        super().__init__()
        self.kind, self.ids = kind, list(ids)
        self.register_buffer("threshold", threshold.clone())
        self.register_buffer("usual", usual.clone())
        self.layout, self.reach = layout, reach

    def forward(self, activation: Tensor) -> Tensor:
        """Replace channels, `[N, *shape]` -> the same."""
        layout = self.layout
        values = self.kind.values(activation, layout)[:, self.ids]  # [N, n, P]
        near = around((values > self.threshold[:, None]).any(1), layout, self.reach)
        replaced = torch.where(near[:, None], self.usual[:, None], layout.split(activation))
        return layout.joined(replaced)
