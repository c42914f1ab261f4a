"""Each kind of work with zennit-crp. Read `ours.py` beside it: the classes and methods are the same."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor
from zennit.composites import EpsilonPlusFlat

from benchmarks.rows import Row
from benchmarks.subjects import canonizers, layers_of, network, samples, spread

# of zennit-crp, in whose environment this runs
from crp.attribution import CondAttribution
from crp.concepts import ChannelConcept
from crp.visualization import FeatureVisualization


class NotAvailable(Exception):
    """This form of the work is not to be had here; the message says why."""


class Work:
    """What all kinds of work share: a network, its rules, its pictures."""

    def __init__(self, row: Row, dtype: torch.dtype, device: str, folder: Path) -> None:
        self.row, self.device = row, device
        self.model = network(row.net, folder)
        self.samples = samples(row.net, row.samples, row.size, folder)
        self.model.to(device, dtype).requires_grad_(False)
        self.samples.data = self.samples.data.to(dtype)
        self.layers = layers_of(self.model, row.layers)
        self.attribution = CondAttribution(self.model)

    def composite(self) -> EpsilonPlusFlat:
        """The rules of all rows."""
        return EpsilonPlusFlat(canonizers=canonizers(self.row.net))


class Generate(Work):
    """Conditional heatmaps of many concepts for one picture."""

    def __init__(self, row: Row, dtype: torch.dtype, device: str, folder: Path) -> None:
        super().__init__(row, dtype, device, folder)
        self.data = self.samples.data.to(device, copy=True).requires_grad_()
        shapes = {}
        handle = self.model.get_submodule(self.layers[0]).register_forward_hook(
            lambda module, args, output: shapes.update(output=output.shape)
        )
        self.model(self.data)
        handle.remove()
        self.channels = shapes["output"][1]

    def run(self, units: int, batch: int) -> Tensor:
        """`units` heatmaps `[units, H, W]`."""
        (layer,) = self.layers
        conditions = [{layer: [concept], "y": self.samples.labels} for concept in spread(units, self.channels)]
        parts = self.attribution.generate(self.data, conditions, self.composite(), batch_size=batch, verbose=False)
        return torch.cat([part.heatmap for part in parts])

    def check(self) -> dict[str, Tensor]:
        """Heatmaps to compare."""
        return {"heatmap": self.run(self.row.check_units, self.row.check_units)}


class Mine(Work):
    """One pass over a data set: relevance and activation of all concepts of some layers."""

    def run(self, units: int, batch: int) -> None:
        """Files of references and statistics of the first `units` samples, in a folder of their own."""
        with tempfile.TemporaryDirectory() as folder:
            found = FeatureVisualization(
                self.attribution,
                self.samples.first(units),
                {layer: ChannelConcept() for layer in self.layers},
                max_target="sum",
                abs_norm=True,
                path=folder,
            )
            found.run(self.composite(), 0, units, batch_size=batch)

    def check(self) -> dict[str, Tensor]:
        """Relevance of each concept and layer, divided as mining divides it."""
        count = self.row.check_units
        result = self.attribution(
            self.samples.data[:count].to(self.device).requires_grad_(),
            [{"y": [label]} for label in self.samples.labels[:count]],
            self.composite(),
            record_layer=self.layers,
            exclude_parallel=False,
        )
        return {layer: ChannelConcept().attribute(result.relevances[layer]) for layer in self.layers}
