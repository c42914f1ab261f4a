"""Each kind of work with zennit-crp, in the same classes and methods as `ours.py`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import subjects
from benchmarks.subjects import spread

# zennit-crp's modules: this runs in its environment
from crp.attribution import CondAttribution
from crp.concepts import ChannelConcept
from crp.helper import load_maximization
from crp.visualization import FeatureVisualization


class Work(subjects.Work):
    """What all kinds of work share with zennit-crp."""

    def visualization(self, samples: subjects.Samples, folder: str | Path) -> FeatureVisualization:
        """Make the object that mines and returns references."""
        layers = {layer: ChannelConcept() for layer in self.layers}
        return FeatureVisualization(
            CondAttribution(self.model), samples, layers, max_target="sum", abs_norm=True, path=str(folder)
        )


class Generate(Work):
    """Conditional heatmaps of many concepts for one picture."""

    def run(self, units: int, batch: int) -> Tensor:
        """Compute `units` heatmaps, `[units, H, W]`."""
        return self.heatmaps(spread(units, self.shapes[self.layers[0]][0]), batch)

    def check(self) -> dict[str, Tensor]:
        """Return heatmaps to compare."""
        return {"heatmap": self.run(self.row.check_units, self.row.check_units)}


class Cells(Work):
    """Relevance of concepts of a layer in all cells of one picture, concept by concept."""

    def run(self, units: int, batch: int) -> Tensor:
        """Compute the table `[units, cells]`."""
        side = self.row.cells
        heatmaps = self.heatmaps(spread(units, self.shapes[self.layers[0]][0]), batch)
        rows, columns = (torch.arange(size, device=heatmaps.device) * side // size for size in heatmaps.shape[1:])
        place = (rows[:, None] * side + columns).flatten()
        return heatmaps.new_zeros(units, side * side).index_add_(1, place, heatmaps.flatten(1))

    def check(self) -> dict[str, Tensor]:
        """Return the cells of some concepts, one row each."""
        return {"cells": self.run(self.row.check_units, self.row.check_units)}


class Mine(Work):
    """One pass over a data set: relevance and activation of all concepts of some layers."""

    def run(self, units: int, batch: int) -> None:
        """Write references and statistics of the first `units` samples to a temporary folder."""
        with tempfile.TemporaryDirectory() as folder:
            self._mine(units, batch, folder)

    def check(self) -> dict[str, Tensor]:
        """Return scores `[n, C]` of each layer and mode."""
        count, scores = self.row.check_units, {}
        with tempfile.TemporaryDirectory() as folder:
            found = self._mine(count, count, folder)
            for mode, path in (("relevance", found.RelMax.PATH), ("activation", found.ActMax.PATH)):
                for layer in self.layers:
                    sample, score, _ = (torch.from_numpy(array.copy()) for array in load_maximization(path, layer))
                    scores[f"{mode} {layer}"] = torch.zeros_like(score).scatter_(0, sample, score)
        return scores

    def _mine(self, units: int, batch: int, folder: str) -> FeatureVisualization:
        visualization = self.visualization(self.samples.first(units), folder)
        visualization.run(self.composite(), 0, units, batch_size=batch)
        return visualization


class Patches(Work):
    """Reference samples and heatmaps of the concepts of a layer, in both modes, for the references that we mined."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        (layer,) = self.layers
        self.shown = self.visualization(self.samples, self.scratch / "theirs")
        for mode, path in (("relevance", self.shown.RelMax.PATH), ("activation", self.shown.ActMax.PATH)):
            found = np.load(self.scratch / f"{mode}.npz")
            for name, array in (("data", found["sample"]), ("rel", found["score"]), ("rf", found["position"])):
                np.save(path / f"{layer}_{name}.npy", array.T)

    def run(self, units: int, batch: int) -> None:
        """Compute samples and heatmaps of `units` concepts as tensors; nothing is cropped, drawn or written."""
        for mode in ("relevance", "activation"):
            self._shown(mode, units, batch)

    def check(self) -> dict[str, Tensor]:
        """Compute heatmaps `[n, H, W]` of some concepts."""
        shown = self._shown("relevance", self.row.check_units, 8)
        return {"heatmap": torch.cat([heatmaps for _, heatmaps in shown.values()])}

    def _shown(self, mode: str, units: int, batch: int) -> dict[int, tuple[Tensor, Tensor]]:
        (layer,) = self.layers
        return self.shown.get_max_reference(
            spread(units, self.shapes[layer][0]), layer, mode, (0, 8), self.composite(),
            rf=True, plot_fn=None, batch_size=batch,
        )
