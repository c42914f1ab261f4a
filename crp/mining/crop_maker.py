"""Heatmaps of patches from crops of the samples: as in the whole sample, for a fraction of the time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crp.attribution import RelevanceFlow, Replica
from crp.errors import CrpError

from .windows import Windows

# What a crop and the whole sample may differ by, as a part of the largest value: they sum in another order.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class CropMaker:
    """Computes the heatmap that single units of a layer send to the input, from windows of the samples.

    Attributes
    ----------
    replica
        The prepared model; its rules are linear, and it has made a whole pass.
    layer
        The layer, whose output is `[N, C, *S]`.
    windows
        The windows of its positions.
    """

    replica: Replica
    layer: str
    windows: Windows

    def heatmaps(
        self, samples: Sequence[Tensor], concepts: Sequence[int], positions: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute values and heatmaps of some units, one in each sample `[c, *S]`.

        Returns
        -------
        tuple of numpy.ndarray
            The units' activations float32 `[M]`, and their heatmaps float32 `[M, *S]`, from a start of 1.
        """
        slices = [self.windows.slices(position) for position in positions]
        crops = [sample[:, *where] for sample, where in zip(samples, slices, strict=True)]
        units = [(concept, *self.windows.place(at)) for concept, at in zip(concepts, positions, strict=True)]
        with RelevanceFlow(self.replica, None, torch.stack(crops), [self.layer], whole=False) as flow:
            activation = flow.activation(self.layer)
            start = torch.zeros_like(activation)
            for row, unit in enumerate(units):
                start[row, *unit] = 1
            values = [float(activation[row, *unit]) for row, unit in enumerate(units)]
            arrived = flow.down(start[None], start=self.layer)[0].sum(1).float().cpu().numpy()
        heatmaps = np.zeros((len(samples), *samples[0].shape[1:]), np.float32)
        for heatmap, where, part in zip(heatmaps, slices, arrived, strict=True):
            heatmap[where] = part
        return np.array(values, np.float32), heatmaps

    def exact(self, sample: Tensor) -> bool:
        """Whether crops give what whole samples give, at the edges of the layer and in its middle.

        For a sample `[c, *S]`, its values in another order, and noise like it: in one sample alone, what is not local
        may have no effect.
        """
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(sample.numel(), generator=generator).to(sample.device)
        shuffled = sample.flatten()[order].view_as(sample)
        size = float(sample.double().std()) or 1.0
        noise = torch.randn(sample.shape, generator=generator).to(sample) * size + sample.mean()
        return self._agrees(sample) and all(self._agrees(other, made_up=True) for other in (shuffled, noise))

    def _agrees(self, sample: Tensor, *, made_up: bool = False) -> bool:
        """Whether crops of one sample give what it gives; one that is made up may be none that the model accepts."""
        grid = self.windows.grid
        places = itertools.product(*[sorted({0, count // 2, count - 1}) for count in grid])
        positions = [int(np.ravel_multi_index(place, grid)) for place in places]
        try:
            flow = RelevanceFlow(self.replica, None, sample[None], [self.layer])
        except CrpError:
            if made_up:
                return True
            raise
        with flow:
            activation = flow.activation(self.layer)[0].flatten(1)
            concepts = [int(activation[:, at].abs().argmax()) for at in positions]
            start = torch.zeros(len(positions), 1, *flow.activation(self.layer).shape[1:]).to(activation)
            for row, (concept, at) in enumerate(zip(concepts, positions, strict=True)):
                start[row, 0, concept].view(-1)[at] = 1
            whole = flow.down(start, start=self.layer)[:, 0].sum(1).float().cpu().numpy()
            expected = [float(activation[concept, at]) for concept, at in zip(concepts, positions, strict=True)]
        try:
            values, heatmaps = self.heatmaps([sample] * len(positions), concepts, positions)
        except (CrpError, AssertionError, IndexError):
            return False  # the model runs on inputs of one size only
        return all(
            np.abs(one - other).max() <= _ROUNDING * np.abs(other).max()
            for one, other in [(values, np.array(expected)), *zip(heatmaps, whole, strict=True)]
        )
