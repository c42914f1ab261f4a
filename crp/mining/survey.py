"""The pass over the data set: relevance and activation of every sample, reduced to references and class statistics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from crp.attribution import RelevanceFlow, Replica
from crp.attribution.memory import memory_kept
from crp.attribution.repeatability import check_same_in_batches
from crp.attribution.starts import Start
from crp.concepts import Kinds, Layout, Located, concept_count, kind_at, mean_count
from crp.errors import CrpError, ModelError, SampleError
from crp.progress import progress_bar
from crp.relevance_shares import shares

from .block_stream import Block
from .scores import Score
from .tally import Tally
from .targets import AttributionTarget, TargetRule, attribution_targets, check_targets_of_samples
from .topk import check_finite
from .vector_writer import VectorWriter

# More numbers of a layer are not kept as means: 2 MB, and twice that in the state.
MOST_MEANS = 2**18

# Scores and positions, `[N, concepts]`.
Scored = tuple[np.ndarray, np.ndarray]
# Scores, positions and targets, `[N, concepts]`.
Candidates = tuple[np.ndarray, np.ndarray, np.ndarray]


class Surveyor:
    """Reduces blocks of samples to a tally, one block after the other.

    Parameters
    ----------
    replica
        The prepared model. Samples are converted to the dtype of its weights; scores are always float32.
    tally
        Receives the scores.
    concept
        The kind of concept.
    targets
        What is explained of each sample.
    relevance_score, activation_score
        How a sample is scored for a concept.
    layouts
        What the axes of the layers' outputs mean; otherwise this is observed.
    vectors
        Receives the concept vectors of every sample, if they are stored.

    Attributes
    ----------
    device
        Device of the model, to which blocks are moved.
    """

    def __init__(
        self,
        replica: Replica,
        tally: Tally,
        *,
        concept: Kinds,
        targets: TargetRule,
        relevance_score: Score,
        activation_score: Score,
        layouts: Mapping[str, Layout] | None = None,
        vectors: VectorWriter | None = None,
    ) -> None:
        self.tally = tally
        self._replica = replica
        self.device = next(replica.model.parameters(), torch.empty(0)).device
        self._targets = targets
        self._concept, self._layouts = concept, layouts
        self._vectors = vectors
        self._scores = {"relevance": relevance_score, "activation": activation_score, "negative": relevance_score}
        self._paths: set[int] = set()

    def add(self, block: Block) -> None:
        """Run the model on a block and add its samples to the tally.

        Raises
        ------
        SampleError
            If a sample's class is out of range, its output or a score is not finite, or the target rule explains it in
            another way than alone. Nothing is added then.
        ModelError
            If the samples of the block change one another's outputs by control flow that depends on all of them.
        """
        if not len(block.counted):
            return
        layers = list(self.tally.sums)
        try:
            flow = self._opened(block.data, layers)
        except ModelError as error:
            raise self._failing(block, error) from error
        with flow:
            self._check_together(flow, block)
            known = flow.prediction, block.labels, block.samples, self.tally.classes
            targets = attribution_targets(self._targets, *known)
            check_targets_of_samples(self._targets, targets, *known)
            scored, averages = {}, {}
            for layer in layers:
                own = flow.parts(layer, self._concept)
                scored[layer] = self._scored("activation", own.activation())
                if layer in self.tally.means:
                    averages[layer] = own.averages()
            attributions = [self._attributed(flow, target, last=target is targets[-1]) for target in targets]
        active = {layer: _on_host(found) for layer, found in scored.items()}
        averages = {layer: found.cpu().numpy() for layer, found in averages.items()}
        _check_all_finite(block, active, averages, attributions)
        for layer, found in averages.items():
            self.tally.means[layer].add(found[block.counted])
        self._add_activation(block, active, attributions)
        for attribution in attributions:
            self._add_attribution(block, active, attribution)
        self._add_best(block, attributions)
        if self._vectors is not None:
            self._add_vectors(block, active, attributions, flow.prediction)

    def _check_together(self, flow: RelevanceFlow, block: Block) -> None:
        """Compare outputs with those of single samples, in a block in which the model has gone another way than before.

        `if mask.any(): ...` runs for all samples of a batch if it runs for one.
        """
        if len(block.data) == 1 or flow.path in self._paths:
            return

        def alone(place: int) -> tuple[int, Tensor]:
            with self._opened(block.data[place, None], list(self.tally.sums)) as single:
                return single.path, single.prediction

        # nearly all models go one way, whatever the data are
        usual = not self._paths and all(alone(place)[0] == flow.path for place in (0, -1))
        for place in range(0 if usual else len(block.data)):
            check_same_in_batches(self._replica.source, alone(place)[1], flow.prediction[place, None])
        self._paths.add(flow.path)

    def sync(self) -> None:
        """Wait until the vectors of all blocks so far are on disk, before these blocks are recorded as done."""
        if self._vectors is not None:
            self._vectors.sync()

    def _attributed(self, flow: RelevanceFlow, target: AttributionTarget, *, last: bool) -> _Attribution:
        """Make one backward pass and score the relevance that arrives; mode `"negative"` scores its negative."""
        scores, totals = {}, {}

        def visit(layer: str, arriving: Tensor) -> None:
            located = flow.parts(layer, self._concept).relevance(arriving)
            totals[layer] = located.total
            for mode in ("relevance", "negative"):
                scores[layer, mode] = self._scored(mode, located)

        flow.sweep(target.relevance[None], list(self.tally.sums), visit, last=last)
        # after the pass, because copying to the host at every layer would stall a GPU
        shares_of = {layer: shares(total.double().cpu().numpy()) for layer, total in totals.items()}
        return _Attribution(target.targets, {key: _on_host(scored) for key, scored in scores.items()}, shares_of)

    def _scored(self, mode: str, values: Located) -> tuple[Tensor, Tensor]:
        return self._scores[mode](values, negated=mode == "negative")

    def _add_activation(self, block: Block, active: dict[str, Scored], attributions: list[_Attribution]) -> None:
        """Add activations, which do not depend on the target: once overall with the first one, and once per class."""
        samples, first = block.samples.numpy(), _first_target(block, attributions)
        for layer, (scores, positions) in active.items():
            rows = block.counted
            self.tally.add_best(layer, "activation", samples[rows], scores[rows], first[rows], positions[rows])
            for attribution in attributions:
                rows = attribution.rows(block)
                scored = scores[rows], attribution.targets[rows], positions[rows]
                self.tally.add_of_class(layer, "activation", samples[rows], *scored)

    def _add_attribution(self, block: Block, active: dict[str, Scored], attribution: _Attribution) -> None:
        """Add what is kept for every pair of sample and target: class references and class statistics."""
        rows = attribution.rows(block)
        samples, targets = block.samples.numpy()[rows], attribution.targets[rows]
        for (layer, mode), (scores, positions) in attribution.scores.items():
            among = scores[rows] > 0 if mode == "negative" else None
            self.tally.add_of_class(layer, mode, samples, scores[rows], targets, positions[rows], among=among)
        for layer, own in attribution.shares.items():
            self.tally.sums[layer].add(targets, own[rows], active[layer][0][rows].astype(np.float64))

    def _add_best(self, block: Block, attributions: list[_Attribution]) -> None:
        """Add each sample once per concept, with the target for which it scores highest (the first of equal ones)."""
        for layer, mode in sorted({key for attribution in attributions for key in attribution.scores}):
            held = [found.candidates(layer, mode) for found in attributions if (layer, mode) in found.scores]
            scores, positions, targets = reduce(_better, held)
            rows = block.counted[(targets[block.counted] >= 0).any(axis=1)]
            among = scores[rows] > 0 if mode == "negative" else None
            samples = block.samples.numpy()[rows]
            self.tally.add_best(layer, mode, samples, scores[rows], targets[rows], positions[rows], among=among)

    def _add_vectors(
        self, block: Block, active: dict[str, Scored], attributions: list[_Attribution], prediction: Tensor
    ) -> None:
        """Write one row per sample: shares for its first target, or zeros if it has none."""
        rows, first = block.counted, _first_target(block, attributions)
        vectors = {}
        for layer, (scores, _) in active.items():
            chosen = np.zeros(scores.shape)
            for attribution in reversed(attributions):
                chosen = np.where((attribution.targets >= 0)[:, None], attribution.shares[layer], chosen)
            vectors[layer] = chosen[rows], scores[rows].astype(np.float64)
        # a start is the only class of its library
        has_class = prediction.ndim == 2 and not isinstance(self._targets, Start)
        predictions = prediction.argmax(1).cpu().numpy() if has_class else np.full(len(first), -1)
        labels = block.labels.numpy()
        labels = labels[:, 0] if labels.ndim == 2 else labels
        self._vectors.add(block.samples.numpy()[rows], first[rows], predictions[rows], labels[rows], vectors)

    def _failing(self, block: Block, error: ModelError) -> CrpError:
        """Find the sample on which the model fails by running one sample at a time."""
        for place in block.counted:
            try:
                self._opened(block.data[place, None], list(self.tally.sums)).close()
            except ModelError as alone:
                return SampleError(int(block.samples[place]), f"cannot be explained: {alone}")
        return ModelError(f"Samples {block.samples[0]} to {block.samples[-1]}: {error}")

    def _opened(self, data: Tensor, layers: list[str]) -> RelevanceFlow:
        # to the device first, because copying from pinned memory is asynchronous
        data = data.to(self.device, non_blocking=True).to(self._replica.dtype or data.dtype)
        return RelevanceFlow(self._replica, None, data, layers, to_input=False, layouts=self._layouts)


@dataclass(frozen=True)
class _Attribution:
    """What one backward pass found.

    Scores and positions are `[N, concepts]` by layer and mode, shares float64 `[N, concepts]` by layer.
    """

    targets: np.ndarray
    scores: dict[tuple[str, str], Scored]
    shares: dict[str, np.ndarray]

    def candidates(self, layer: str, mode: str) -> Candidates:
        """Return the candidates for references; score -inf and target -1 for samples that do not take part."""
        scores, positions = self.scores[layer, mode]
        targets = self.targets[:, None]
        return np.where(targets >= 0, scores, -np.inf), positions, np.broadcast_to(targets, scores.shape)

    def rows(self, block: Block) -> np.ndarray:
        """Return the rows of the samples that take part."""
        return block.counted[self.targets[block.counted] >= 0]


def _check_all_finite(
    block: Block, active: dict[str, Scored], averages: dict[str, np.ndarray], attributions: list[_Attribution]
) -> None:
    """Check all scores before any is added, so that a block is added as a whole or not at all."""
    samples = block.samples.numpy()
    for scores in (*(scores for scores, _ in active.values()), *averages.values()):
        check_finite(samples, scores)
    for attribution in attributions:
        for scores, _ in attribution.scores.values():
            check_finite(samples, scores)
    for attribution in attributions:
        for own in attribution.shares.values():
            check_finite(samples, own)


def _on_host(scored: tuple[Tensor, Tensor]) -> Scored:
    scores, positions = scored
    return scores.cpu().numpy(), positions.cpu().numpy()


def _better(first: Candidates, second: Candidates) -> Candidates:
    """Choose the higher score for each sample and concept; of equal ones the first."""
    larger = second[0] > first[0]
    return tuple(np.where(larger, *pair) for pair in zip(second, first, strict=True))


def _first_target(block: Block, attributions: list[_Attribution]) -> np.ndarray:
    """Return the first target of each sample, int64 `[N]`; -1 for none."""
    first = np.full(len(block.samples), -1)
    for attribution in reversed(attributions):
        first = np.where(attribution.targets >= 0, attribution.targets, first)
    return first


def run_survey(
    surveyor: Surveyor,
    stream: Iterable[Block],
    length: int,
    *,
    doing: str = "samples",
    after_first: Callable[[float], None] = lambda seconds: None,
    after_each: Callable[[Block], None] = lambda block: None,
    skip_bad: bool = False,
    progress: bool,
) -> None:
    """Add blocks to the surveyor's tally.

    Parameters
    ----------
    surveyor
        Reduces the blocks.
    stream
        The blocks.
    length
        Number of samples in them, for the progress bar.
    doing
        What the progress bar is called.
    after_first
        Called after the first block with the seconds per sample that reading and computing it took.
    after_each
        Called with each block after it has been added.
    skip_bad
        Whether to skip samples on which the model fails.
    progress
        Whether to show a progress bar.
    """
    start = time.perf_counter()
    with memory_kept(), progress_bar(doing, length, shown=progress) as bar:
        for place, block in enumerate(stream):
            added = _added(surveyor, block, skip_bad)
            if place == 0:
                after_first((time.perf_counter() - start) / len(block.samples))
            after_each(added)
            bar.update(len(block.samples))


def _added(surveyor: Surveyor, block: Block, skip_bad: bool) -> Block:
    """Add a block to the tally and return it, without the samples that had to be skipped."""
    while True:
        try:
            surveyor.add(block)
        except SampleError as error:
            if not skip_bad:
                raise
            block = block.without(error)
        else:
            return block


def sizes_of(concept: Kinds, layouts: Mapping[str, Layout]) -> dict[str, int]:
    """Count the concepts of each layer."""
    return {layer: concept_count(kind_at(layer, concept), layout) for layer, layout in layouts.items()}


def mean_sizes_of(concept: Kinds, layouts: Mapping[str, Layout]) -> dict[str, int]:
    """Count the numbers that the mean parts of each layer are made of, of layers whose means are small enough to keep.

    Positions and tokens have a number for each channel at each position.
    """
    counts = {layer: mean_count(kind_at(layer, concept), layout) for layer, layout in layouts.items()}
    return {layer: count for layer, count in counts.items() if count <= MOST_MEANS}
