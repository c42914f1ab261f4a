"""Each kind of work with this package, and the plain gradient as its floor."""

from __future__ import annotations

import inspect
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from zennit.composites import EpsilonPlusFlat

from benchmarks.rows import Row
from benchmarks.subjects import canonizers, layers_of, network, samples, spread
from crp.attribution import CondAttribution, RelevanceFlow, prepare
from crp.concepts import ChannelConcept
from crp.mining.blocks import SampleReader, blocks
from crp.mining.scores import Score
from crp.mining.survey import Surveyor, run_survey, sizes_of

# zennit-crp keeps as many.
REFERENCES = 40


class NotAvailable(Exception):
    """This form of the work is not to be had here; the message says why."""


class Work:
    """What all kinds of work share: a network, its rules, its pictures.

    Parameters
    ----------
    row
        What to do.
    dtype
        Of weights and pictures.
    device
        Where to compute.
    folder
        Of trained weights and photos.
    """

    def __init__(self, row: Row, dtype: torch.dtype, device: str, folder: Path) -> None:
        self.row, self.device = row, device
        self.model = network(row.net, folder)
        self.samples = samples(row.net, row.samples, row.size, folder)
        if any(isinstance(part, torch.nn.LazyLinear) for part in self.model.modules()):
            self.model(self.samples.data[:1])
        self.model.to(device, dtype).requires_grad_(False)
        self.samples.data = self.samples.data.to(dtype)
        self.layers = layers_of(self.model, row.layers)

    def composite(self) -> EpsilonPlusFlat:
        """The rules of all rows."""
        return EpsilonPlusFlat(canonizers=canonizers(self.row.net))

    def floor(self, units: int, batch: int) -> float:
        """Seconds that `units` plain gradients take: forward, and gradient of the class to the input."""
        start = time.perf_counter()
        for first in range(0, units, batch):
            data = self.samples.data[first : first + batch].to(self.device, copy=True).requires_grad_()
            labels = torch.tensor(self.samples.labels[first : first + batch], device=self.device)
            logits = self.model(data).gather(1, labels[:, None]).sum()
            torch.autograd.grad(logits, data)
        synchronize(self.device)
        return time.perf_counter() - start


class Generate(Work):
    """Conditional heatmaps of many concepts for one picture."""

    def __init__(self, row: Row, dtype: torch.dtype, device: str, folder: Path) -> None:
        super().__init__(row, dtype, device, folder)
        self.data = self.samples.data.to(device, copy=True).requires_grad_()
        with RelevanceFlow(self.model, None, self.data, self.layers) as flow:
            self.channels = flow.activation(self.layers[0]).shape[1]
        self.held: dict[int, tuple[Tensor, Tensor]] = {}

    def run(self, units: int, batch: int) -> Tensor:
        """`units` heatmaps `[units, H, W]`."""
        (layer,) = self.layers
        conditions = [{layer: [concept], "y": self.samples.labels} for concept in spread(units, self.channels)]
        parts = CondAttribution(self.model).generate(
            self.data, conditions, self.composite(), batch_size=batch, verbose=False
        )
        return torch.cat([part.heatmap for part in parts])

    def check(self) -> dict[str, Tensor]:
        """Heatmaps to compare."""
        return {"heatmap": self.run(self.row.check_units, self.row.check_units)}

    def floor(self, units: int, batch: int) -> float:
        """Seconds that `units` gradients take, without the forward pass, which is shared as it is by the concepts."""
        if batch not in self.held:
            data = self.samples.data.expand(batch, -1, -1, -1).clone().to(self.device).requires_grad_()
            self.held = {batch: (self.model(data)[:, self.samples.labels[0]].sum(), data)}
        logits, data = self.held[batch]
        synchronize(self.device)
        start = time.perf_counter()
        for _ in range(0, units, batch):
            torch.autograd.grad(logits, data, retain_graph=True)
        synchronize(self.device)
        return (time.perf_counter() - start) * units / (-(-units // batch) * batch)


class Mine(Work):
    """One pass over a data set: relevance and activation of all concepts of some layers."""

    def __init__(self, row: Row, dtype: torch.dtype, device: str, folder: Path) -> None:
        super().__init__(row, dtype, device, folder)
        with RelevanceFlow(self.model, None, self.samples.data[:1], self.layers) as flow:
            shapes = {layer: tuple(flow.activation(layer).shape[1:]) for layer in self.layers}
            self.classes = flow.prediction.shape[1]
        self.sizes = sizes_of(ChannelConcept(), shapes)

    def run(self, units: int, batch: int) -> Any:
        """References and statistics of the first `units` samples."""
        reader = SampleReader(self.samples.first(units), labelled=True)
        surveyor = Surveyor(
            prepare(self.model, self.composite()),
            self.sizes,
            self.classes,
            concept=ChannelConcept(),
            targets="label",
            # zennit-crp's only choice for both
            relevance_score=Score("sum/divided"),
            activation_score=Score("sum/divided"),
            k=REFERENCES,
            **_precision(Surveyor, self.row.precision),
        )
        return run_survey(
            surveyor, blocks(reader, batch, 0, {}), len(reader), after_first=lambda seconds: None, progress=False
        )

    def check(self) -> dict[str, Tensor]:
        """Relevance of each concept and layer, divided as mining divides it, before it is rounded to float32."""
        count, score, found = self.row.check_units, Score("sum/divided"), {}
        with RelevanceFlow(self.model, self.composite(), self.samples.data[:count], self.layers) as flow:
            flow.sweep(
                flow.output_relevance(self.samples.labels[:count]),
                self.layers,
                lambda layer, arriving: found.update({layer: score(ChannelConcept(), arriving)[0]}),
            )
        return found


def _precision(function: Any, precision: str) -> dict[str, str]:
    """The argument `precision`, where it is not the default."""
    if precision == "float32":
        return {}
    if "precision" not in inspect.signature(function).parameters:
        raise NotAvailable(f"mining has no precision={precision!r}")
    return {"precision": precision}


def synchronize(device: str) -> None:
    """Wait for the device; a CPU does not run ahead."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
