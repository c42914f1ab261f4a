"""A module that erases what is around the places where a concept is active: `Eraser`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
        front = active[:, : layout.prefix] & False
        grid = active[:, layout.prefix :].to(activation.dtype).unflatten(1, (1, *layout.grid))
        pool = (nn.functional.max_pool1d, nn.functional.max_pool2d, nn.functional.max_pool3d)[len(layout.grid) - 1]
        near = pool(grid, 2 * self.reach + 1, 1, self.reach).flatten(1) > 0
        replaced = torch.where(torch.cat([front, near], 1)[:, None], self.usual[:, None], channels)
        return layout.joined(replaced)
