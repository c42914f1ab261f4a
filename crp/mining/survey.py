"""The pass over the data set: every sample's relevance and activation, reduced to references and class statistics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from torch import Tensor
from tqdm import tqdm

from crp.attribution import RelevanceFlow, Replica
from crp.concepts import ConceptKind
from crp.errors import CrpError, ModelError, SampleError

from .blocks import Block
from .scores import Score, shares
from .tally import Tally
from .targets import TargetRule, explained_classes
from .topk import check_finite
from .vectors import VectorWriter


class Surveyor:
    """Reduces blocks of samples, one after the other.

    Parameters
    ----------
    replica
        The prepared model; samples are converted to the type of its weights, and scores are float32 in any case.
    tally
        Takes what the samples count.
    concept
        What a concept is.
    targets
        Which class is explained.
    relevance_score, activation_score
        What a sample counts.
    vectors
        Takes the concept vectors of every sample, if they are to be kept.
    """

    def __init__(
        self,
        replica: Replica,
        tally: Tally,
        *,
        concept: ConceptKind,
        targets: TargetRule,
        relevance_score: Score,
        activation_score: Score,
        vectors: VectorWriter | None = None,
    ):
        self.tally = tally
        self._replica = replica
        self._targets = targets
        self._concept = concept
        self._vectors = vectors
        self._scores = {"relevance": relevance_score, "activation": activation_score, "negative": relevance_score}

    def add(self, block: Block) -> None:
        """Run the model on a block and merge what its samples count.

        Raises
        ------
        SampleError
            If a sample's class is out of range, or its output or a score is not finite. Nothing is merged then.
        """
        if not len(block.counted):
            return
        try:
            flow = RelevanceFlow(self._replica, None, self._converted(block.data), list(self.tally.sums))
        except ModelError as error:
            raise self._failing(block, error) from error
        with flow:
            targets = explained_classes(self._targets, flow.prediction, block.labels, block.samples)
            scores, leading = self._scored(flow, targets)
            predictions = flow.prediction.argmax(1).cpu().numpy()
        # All is looked at before any of it is kept, so that a block counts as a whole or not at all.
        for found in (*(values for values, _ in scores.values()), *leading.values()):
            check_finite(block.samples.numpy(), found)
        counted = block.counted
        samples, targets = block.samples.numpy()[counted], targets[counted]
        vectors = {
            layer: (found[counted], scores[layer, "activation"][0][counted].astype(np.float64))
            for layer, found in leading.items()
        }
        if self._vectors is not None:
            labels = block.labels.numpy()[counted]
            self._vectors.add(samples, targets, predictions[counted], labels, vectors)
        for (layer, mode), (values, positions) in scores.items():
            among = values[counted] > 0 if mode == "negative" else None
            self.tally.add(layer, mode, samples, values[counted], targets, positions[counted], among=among)
        for layer, both in vectors.items():
            self.tally.sums[layer].add(targets, *both)

    def sync(self) -> None:
        """Wait until the disk has the vectors of all blocks so far, before it is noted that these are done."""
        if self._vectors is not None:
            self._vectors.sync()

    def _scored(
        self, flow: RelevanceFlow, targets: np.ndarray
    ) -> tuple[dict[tuple[str, str], tuple[np.ndarray, np.ndarray]], dict[str, np.ndarray]]:
        """Scores and positions `[N, concepts]` by layer and mode, and shares float64 `[N, concepts]` by layer.

        In mode `"negative"` they are those of the negated relevance; it is missing where no relevance is negative.
        """
        found, leading = {}, {}

        def score(layer: str, mode: str, values: Tensor, total: Tensor | None = None) -> None:
            scored = self._scores[mode](self._concept, values, total)
            found[layer, mode] = tuple(array.cpu().numpy() for array in scored)

        def visit(layer: str, arriving: Tensor) -> None:
            total = self._concept.total(arriving)
            score(layer, "relevance", arriving, total)
            # rules that keep relevance positive leave nothing to look for
            if not arriving.amin() >= 0:
                score(layer, "negative", -arriving, -total)
            leading[layer] = shares(total)

        for layer in self.tally.sums:
            score(layer, "activation", flow.activation(layer))
        flow.sweep(flow.output_relevance(targets), list(self.tally.sums), visit)
        return found, leading

    def _failing(self, block: Block, error: ModelError) -> CrpError:
        """Which sample it is that the model fails on, found by trying one after the other."""
        for place in block.counted:
            data = self._converted(block.data[place, None])
            try:
                RelevanceFlow(self._replica, None, data, list(self.tally.sums)).close()
            except ModelError as alone:
                return SampleError(int(block.samples[place]), f"cannot be explained: {alone}")
        return ModelError(f"Samples {block.samples[0]} to {block.samples[-1]}: {error}")

    def _converted(self, data: Tensor) -> Tensor:
        return data.to(self._replica.dtype or data.dtype)


def run_survey(
    surveyor: Surveyor,
    stream: Iterable[Block],
    length: int,
    *,
    after_first: Callable[[float], None] = lambda seconds: None,
    after_each: Callable[[Block], None] = lambda block: None,
    skip_bad: bool = False,
    progress: bool,
) -> None:
    """Let the surveyor see blocks.

    Parameters
    ----------
    surveyor
        Reduces them.
    stream
        The blocks.
    length
        Number of samples in them, for the progress bar.
    after_first
        Called with the seconds that reading and computing one sample of the first block took.
    after_each
        Called with each block when it has been merged.
    skip_bad
        Whether samples that the model fails on are skipped.
    progress
        Whether to show a bar with rate and time left.
    """
    start = time.perf_counter()
    with tqdm(total=length, desc="samples", unit="sample", disable=not progress) as bar:
        for place, block in enumerate(stream):
            seen = _added(surveyor, block, skip_bad)
            if place == 0:
                after_first((time.perf_counter() - start) / len(block.samples))
            after_each(seen)
            bar.update(len(block.samples))


def _added(surveyor: Surveyor, block: Block, skip_bad: bool) -> Block:
    """Let the surveyor see a block; returns it without the samples that had to be skipped."""
    while True:
        try:
            surveyor.add(block)
        except SampleError as error:
            if not skip_bad:
                raise
            block = block.without(error)
        else:
            return block


def sizes_of(concept: ConceptKind, shapes: dict[str, Sequence[int]]) -> dict[str, int]:
    """Number of concepts of each layer, from the shapes `[C, *S]` of their outputs."""
    return {layer: concept.size(shape) for layer, shape in shapes.items()}
