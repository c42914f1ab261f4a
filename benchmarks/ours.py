"""Each kind of work with this package, and the plain gradient as its lower bound."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import crp
from benchmarks import subjects
from benchmarks.pages import Pages  # noqa: F401  (a kind of work like those below)
from benchmarks.subjects import spread
from crp.attribution import RelevanceFlow, Replica, composite_for, prepare
from crp.attribution.memory import memory_kept
from crp.concepts import ChannelConcept
from crp.explanations import concepts_in_cells
from crp.layout import Layout
from crp.library.references import References
from crp.mining.block_stream import SampleReader, blocks
from crp.mining.class_sums import LEADING
from crp.mining.runtime import tensor_cores
from crp.mining.scores import Score
from crp.mining.survey import Surveyor, run_survey, sizes_of
from crp.mining.tally import Survey, Tally

# Dtype of the weights, where it changes.
_DTYPES = {"float32": None, "tf32": None, "bfloat16": torch.bfloat16}

CHANNELS = ChannelConcept()

# zennit-crp keeps as many, and has one score for both modes.
REFERENCES = 40
SCORE = "sum/divided"

# Patches of each concept and mode.
PATCHES = 8

# Length to which lists are compared.
TOP = 16


class Work(subjects.Work):
    """What all our kinds of work share."""

    @memory_kept()
    def floor(self, units: int, batch: int) -> float:
        """Measure the seconds of `units` plain gradients: forward pass, then the gradient of the class at the input."""
        self.synchronize()
        start = time.perf_counter()
        for first in range(0, units, batch):
            samples = slice(first, min(first + batch, units))
            data = self.samples.data[samples].to(self.device, copy=True).requires_grad_()
            labels = torch.tensor(self.samples.labels[samples], device=self.device)
            torch.autograd.grad(self.model(data).gather(1, labels[:, None]).sum(), data)
        self.synchronize()
        return time.perf_counter() - start


class Generate(Work):
    """Conditional heatmaps of many concepts for one picture."""

    # the forward pass of `floor` and its batch size
    _held: tuple[int, Tensor, Tensor] | None = None

    def run(self, units: int, batch: int) -> Tensor:
        """Compute `units` heatmaps, `[units, H, W]`."""
        (layer,) = self.layers
        return self.heatmaps(spread(units, self.shapes[layer][0]), batch)

    def check(self) -> dict[str, Tensor]:
        """Return heatmaps to compare."""
        return {"heatmap": self.run(self.row.check_units, self.row.check_units)}

    @memory_kept()
    def floor(self, units: int, batch: int) -> float:
        """Measure the seconds of `units` gradients, without the forward pass, which the concepts share too."""
        if self._held is None or self._held[0] != batch:
            data = self.samples.data.expand(batch, -1, -1, -1).to(self.device, copy=True).requires_grad_()
            self._held = batch, self.model(data)[:, self.samples.labels[0]].sum(), data
        _, logits, data = self._held
        passes = -(-units // batch)
        self.synchronize()
        start = time.perf_counter()
        for _ in range(passes):
            torch.autograd.grad(logits, data, retain_graph=True)
        self.synchronize()
        return (time.perf_counter() - start) * units / (passes * batch)


class Cells(Work):
    """Relevance of all concepts of a layer in all cells of one picture."""

    def run(self, units: int, batch: int) -> Tensor:
        """Return the table `[cells, C]`; always of all concepts, whatever `units` is."""
        (layer,), side = self.layers, self.row.cells
        with RelevanceFlow(self.model, self.composite(), self.picture(), [layer]) as flow:
            arriving = flow.down(flow.output_relevance(self.samples.labels), to=layer)[0]
            return concepts_in_cells(flow, layer, arriving, side, side)

    def check(self) -> dict[str, Tensor]:
        """Return the cells of some concepts, one row each."""
        table = self.run(0, 0)
        return {"cells": table[:, spread(self.row.check_units, table.shape[1])].T}


class Mine(Work):
    """One pass over a data set: relevance and activation of all concepts of some layers."""

    def run(self, units: int, batch: int) -> Survey:
        """Compute references and statistics of the first `units` samples."""
        (precision,) = self.row.precisions
        # zennit-crp has one score for both modes
        return self.survey(units, batch, precision, SCORE, REFERENCES)

    def survey(self, units: int, batch: int, precision: str, activation_score: str, k: int) -> Survey:
        """Run one pass in a precision: what `crp.mine` does between fingerprints and patches."""
        reader = SampleReader(self.samples.first(units), labelled=True)
        with tensor_cores(tf32=precision == "tf32"):
            replica = prepare(self.model, self.composite(), dtype=_DTYPES[precision])
            layouts = self.layouts(replica)
            surveyor = Surveyor(
                replica,
                Tally(sizes_of(CHANNELS, layouts), self._classes(), k, LEADING, 0),
                concept=CHANNELS,
                layouts=layouts,
                targets="label",
                relevance_score=Score(SCORE),
                activation_score=Score(activation_score),
            )
            stream = blocks(reader, batch, 0, {})
            run_survey(surveyor, stream, len(reader), progress=False)
            return surveyor.tally.result()

    def check(self) -> dict[str, Tensor]:
        """Return scores `[n, C]` of each layer and mode; in float64, those before mining rounds them to float32."""
        count = self.row.check_units
        if self.samples.data.dtype == torch.float32:
            found = self.run(count, count).references
            # zennit-crp has no negative references
            return {
                f"{mode} {layer}": _by_sample(found[layer, mode], count)
                for layer in self.layers
                for mode in ("relevance", "activation")
            }
        scores, score = {}, Score(SCORE)
        data = self.samples.data[:count].to(self.device)
        with RelevanceFlow(self.model, self.composite(), data, self.layers) as flow:
            parts = {layer: flow.parts(layer, CHANNELS) for layer in self.layers}
            for layer in self.layers:
                scores[f"activation {layer}"] = score(parts[layer].activation())[0]
            flow.sweep(
                flow.output_relevance(self.samples.labels[:count]),
                self.layers,
                lambda layer, arriving: scores.update(
                    {f"relevance {layer}": score(parts[layer].relevance(arriving))[0]}
                ),
            )
        return scores

    def layouts(self, replica: Replica) -> dict[str, Layout]:
        """Say what the axes of the layers' outputs mean: channels first."""
        return {layer: Layout(tuple(shape)) for layer, shape in self.shapes.items()}

    def _classes(self) -> int:
        with torch.no_grad():
            return self.model(self.samples.data[:1].to(self.device)).shape[1]


class Blocks(Mine):
    """A pass with the default rules over the outputs of all blocks, compared with plain gradients."""

    def composite(self) -> Any:
        """Return the default rules of mining."""
        return composite_for(self.model).composite

    def layouts(self, replica: Replica) -> dict[str, Layout]:
        """Find out what the axes of the layers' outputs mean, in a pass of the first sample, as `crp.mine` does."""
        data = self.samples.data[:1].to(self.device)
        with RelevanceFlow(replica, None, data, self.layers) as flow:
            return {layer: flow.layout(layer) for layer in self.layers}

    def figures(self, batch: int) -> dict[str, float]:
        """Measure the seconds of a pass and of plain gradients in turn, the fastest of three each, and their ratio."""
        passes, gradients = [], []
        for _ in range(3):
            self.synchronize()
            start = time.perf_counter()
            self.run(self.row.units, batch)
            self.synchronize()
            passes.append(time.perf_counter() - start)
            gradients.append(self.floor(self.row.units, batch))
        return {
            "seconds a sample": min(passes) / self.row.units,
            "times a forward pass and gradient": min(passes) / min(gradients),
        }


class Lists(Mine):
    """Reference lists in several precisions, compared with those of float32."""

    def composite(self) -> Any:
        """Return the default rules of mining, because zennit has no canonizer for the blocks of ResNet-20."""
        return composite_for(self.model).composite

    def run(self, units: int, batch: int) -> Survey:
        """Run a pass in float32, to choose a batch size."""
        return self.survey(units, batch, "float32", "max", TOP)

    def figures(self, batch: int) -> dict[str, float]:
        """Measure samples per second in each precision, and how many samples of float32's lists the others share."""
        figures, exact = {}, None
        for precision in self.row.precisions:
            self.synchronize()
            start = time.perf_counter()
            survey = self.survey(self.row.units, batch, precision, "max", TOP)
            self.synchronize()
            figures[f"samples a second, {precision}"] = self.row.units / (time.perf_counter() - start)
            if exact is None:
                exact = survey
                continue
            for mode in ("relevance", "activation"):
                shares = {
                    layer: overlap(exact.references[layer, mode].sample, survey.references[layer, mode].sample)
                    for layer in self.layers
                }
                everything = np.concatenate(list(shares.values()))
                figures[f"overlap of {mode} lists, {precision}"] = float(everything.mean())
                figures[f"lowest layer's, {mode}, {precision}"] = min(float(share.mean()) for share in shares.values())
                figures[f"worst concept's, {mode}, {precision}"] = float(everything.min())
        return figures


class Library(Work):
    """A complete library, mined as a user does it, without patches."""

    def run(self, units: int, batch: int) -> None:
        """Mine `units` samples."""
        with tempfile.TemporaryDirectory() as folder:
            crp.mine(
                self.model,
                self.samples.first(units),
                layers=self.layers,
                path=Path(folder) / "library",
                composite=self.composite(),
                block_size=batch,
                patches=0,
                progress=False,
            )


class Patches(Work):
    """Patches of the concepts of a layer, in both modes; their references are mined beforehand, for both sides."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        (layer,) = self.layers
        self.library = self.scratch / "library"
        if not self.library.exists():
            mined = crp.mine(
                self.model,
                self.samples,
                layers=self.layers,
                path=self.library,
                composite=self.composite(),
                patches=PATCHES,
                patch_concepts={layer: []},
                # patches are made with as many samples at a time as in zennit-crp
                block_size=self.row.memory_batch,
                progress=False,
            )
            for mode in ("relevance", "activation"):
                found = mined.references(layer, mode)
                np.savez(
                    self.scratch / f"{mode}.npz",
                    sample=found.sample[:, :PATCHES],
                    score=found.score[:, :PATCHES],
                    position=found.position[:, :PATCHES],
                )

    def run(self, units: int, batch: int) -> None:
        """Make the patches of `units` concepts: heatmaps, crops, pictures, files."""
        (layer,) = self.layers
        with tempfile.TemporaryDirectory() as folder:
            copy = shutil.copytree(self.library, Path(folder) / "library")
            crp.add_patches(
                crp.open_library(copy),
                self.model,
                self.samples,
                layer,
                spread(units, self.shapes[layer][0]),
                composite=self.composite(),
                progress=False,
            )

    def check(self) -> dict[str, Tensor]:
        """Compute heatmaps `[n, H, W]` of scoring positions of some concepts; each starts from its activation."""
        (layer,) = self.layers
        found, heatmaps = np.load(self.scratch / "relevance.npz"), []
        replica = prepare(self.model, self.composite())
        for concept in spread(self.row.check_units, self.shapes[layer][0]):
            samples, positions = found["sample"][concept].tolist(), torch.from_numpy(found["position"][concept])
            data = self.samples.data[samples].to(self.device)
            with RelevanceFlow(replica, None, data, [layer]) as flow:
                ids = torch.full_like(positions, concept).to(self.device)
                start = CHANNELS.at_positions(flow.activation(layer), ids, positions.to(self.device))
                heatmaps.append(flow.down(start, start=layer)[0].sum(1))
        return {"heatmap": torch.cat(heatmaps)}


def overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Fraction of samples that two lists `[C, k]` have in common, for every concept `[C]`.

    >>> overlap(np.array([[1, 2, 3, 4], [5, 6, 7, 8]]), np.array([[4, 3, 2, 1], [5, 6, 1, 2]]))
    array([1. , 0.5])
    """
    return (one[:, :, None] == other[:, None, :]).any(2).mean(1)


def _by_sample(references: References, count: int) -> Tensor:
    """Return the scores `[n, C]` of the first `count` samples, all of which are in the lists."""
    table = torch.full((count, len(references.sample)), torch.nan)
    for place in range(count):
        table[references.sample[:, place], torch.arange(table.shape[1])] = torch.from_numpy(references.score[:, place])
    return table
