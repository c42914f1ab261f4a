"""A module that erases what is around the places where a concept is active: `Eraser`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crp.correction.presence import around
from crp.layout import Layout


class Eraser(nn.Module):
    """Put the usual activation around positions where a concept is active.

    Parameters
    ----------
    detectors
        How active each concept is, as products with the channels, `[n, C]`.
    threshold
        Values above which each concept counts as active, `[n]`.
    usual
        What is put there, `[C]`.
    layout
        The layer's layout; it has a grid.
    reach
        Positions around an active one that are replaced, too.
    """

    def __init__(self, detectors: Tensor, threshold: Tensor, usual: Tensor, layout: Layout, reach: int) -> None:
        super().__init__()
        self.register_buffer("detectors", detectors.clone())
        self.register_buffer("threshold", threshold.clone())
        self.register_buffer("usual", usual.clone())
        self.layout, self.reach = layout, reach

    def forward(self, activation: Tensor) -> Tensor:
        """Replace channels, `[N, *shape]` -> the same."""
        layout = self.layout
        channels = layout.split(activation)  # [N, C, P]
        active = (torch.matmul(self.detectors, channels) > self.threshold[:, None]).any(1)
        near = around(active, layout, self.reach)
        replaced = torch.where(near[:, None], self.usual[:, None], channels)
        return layout.joined(replaced)
