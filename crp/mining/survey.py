"""The pass over the data set: every sample's relevance and activation, reduced to references and class statistics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from crp.attribution import RelevanceFlow, Replica
from crp.attribution.memory import memory_kept
from crp.concepts import ConceptKind
from crp.errors import CrpError, ModelError, SampleError
from crp.relevance_shares import shares

from .block_stream import Block
from .scores import Score
from .tally import Tally
from .targets import Question, TargetRule, questions
from .topk import check_finite
from .vector_writer import VectorWriter

# Scores and positions, `[N, concepts]`.
Scored = tuple[np.ndarray, np.ndarray]
# Scores, positions and targets, `[N, concepts]`.
Candidates = tuple[np.ndarray, np.ndarray, np.ndarray]


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
        What is explained.
    relevance_score, activation_score
        What a sample counts.
    vectors
        Takes the concept vectors of every sample, if they are to be kept.

    Attributes
    ----------
    device
        Where the model is, and blocks go.
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
        self.device = next(replica.model.parameters(), torch.empty(0)).device
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
            flow = RelevanceFlow(
                self._replica, None, self._converted(block.data), list(self.tally.sums), to_input=False
            )
        except ModelError as error:
            raise self._failing(block, error) from error
        with flow:
            asked = questions(self._targets, flow.prediction, block.labels, block.samples, self.tally.classes)
            scored = {layer: self._scored("activation", flow.activation(layer)) for layer in self.tally.sums}
            answers = [self._answer(flow, question, last=question is asked[-1]) for question in asked]
        active = {layer: _on_host(found) for layer, found in scored.items()}
        # All is looked at before any of it is kept, so that a block counts as a whole or not at all.
        for scores, _ in (*active.values(), *(scored for answer in answers for scored in answer.scores.values())):
            check_finite(block.samples.numpy(), scores)
        for leading in (leading for answer in answers for leading in answer.leading.values()):
            check_finite(block.samples.numpy(), leading)
        self._keep_activation(block, active, answers)
        for answer in answers:
            self._keep_answer(block, active, answer)
        self._keep_best(block, answers)
        if self._vectors is not None:
            self._keep_vectors(block, active, answers, flow.prediction)

    def sync(self) -> None:
        """Wait until the disk has the vectors of all blocks so far, before it is noted that these are done."""
        if self._vectors is not None:
            self._vectors.sync()

    def _answer(self, flow: RelevanceFlow, question: Question, *, last: bool) -> _Answer:
        """Carry one question down and score what arrives; in mode `"negative"` the negated relevance."""
        scores, totals = {}, {}

        def visit(layer: str, arriving: Tensor) -> None:
            totals[layer] = self._concept.total(arriving)
            for mode in ("relevance", "negative"):
                scores[layer, mode] = self._scored(mode, arriving, totals[layer])

        flow.sweep(question.relevance[None], list(self.tally.sums), visit, last=last)
        # not on the way down, where a GPU would be waited for at every layer
        leading = {layer: shares(total.double().cpu().numpy()) for layer, total in totals.items()}
        return _Answer(question.targets, {key: _on_host(scored) for key, scored in scores.items()}, leading)

    def _scored(self, mode: str, values: Tensor, total: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._scores[mode](self._concept, values, total, negated=mode == "negative")

    def _keep_activation(self, block: Block, active: dict[str, Scored], answers: list[_Answer]) -> None:
        """Activation knows no class: a sample competes once, and in each of its classes; the first stands beside it."""
        samples, first = block.samples.numpy(), _first(block, answers)
        for layer, (scores, positions) in active.items():
            rows = block.counted
            self.tally.add_best(layer, "activation", samples[rows], scores[rows], first[rows], positions[rows])
            for answer in answers:
                rows = answer.rows(block)
                scored = scores[rows], answer.targets[rows], positions[rows]
                self.tally.add_of_class(layer, "activation", samples[rows], *scored)

    def _keep_answer(self, block: Block, active: dict[str, Scored], answer: _Answer) -> None:
        """What counts for each pair of sample and target by itself."""
        rows = answer.rows(block)
        samples, targets = block.samples.numpy()[rows], answer.targets[rows]
        for (layer, mode), (scores, positions) in answer.scores.items():
            among = scores[rows] > 0 if mode == "negative" else None
            self.tally.add_of_class(layer, mode, samples, scores[rows], targets, positions[rows], among=among)
        for layer, leading in answer.leading.items():
            self.tally.sums[layer].add(targets, leading[rows], active[layer][0][rows].astype(np.float64))

    def _keep_best(self, block: Block, answers: list[_Answer]) -> None:
        """A sample competes once for each concept, with the target for which it scores most (the first of equals)."""
        for layer, mode in sorted({key for answer in answers for key in answer.scores}):
            held = [answer.candidates(layer, mode) for answer in answers if (layer, mode) in answer.scores]
            scores, positions, targets = reduce(_better, held)
            rows = block.counted[(targets[block.counted] >= 0).any(axis=1)]
            among = scores[rows] > 0 if mode == "negative" else None
            samples = block.samples.numpy()[rows]
            self.tally.add_best(layer, mode, samples, scores[rows], targets[rows], positions[rows], among=among)

    def _keep_vectors(
        self, block: Block, active: dict[str, Scored], answers: list[_Answer], prediction: Tensor
    ) -> None:
        """One row of each sample: of the first class explained for it, zero where there is none."""
        rows, first = block.counted, _first(block, answers)
        vectors = {}
        for layer, (scores, _) in active.items():
            leading = np.zeros(scores.shape)
            for answer in reversed(answers):
                leading = np.where((answer.targets >= 0)[:, None], answer.leading[layer], leading)
            vectors[layer] = leading[rows], scores[rows].astype(np.float64)
        predictions = prediction.argmax(1).cpu().numpy() if prediction.ndim == 2 else np.full(len(first), -1)
        labels = block.labels.numpy()
        labels = labels[:, 0] if labels.ndim == 2 else labels
        self._vectors.add(block.samples.numpy()[rows], first[rows], predictions[rows], labels[rows], vectors)

    def _failing(self, block: Block, error: ModelError) -> CrpError:
        """Which sample it is that the model fails on, found by trying one after the other."""
        for place in block.counted:
            data = self._converted(block.data[place, None])
            try:
                RelevanceFlow(self._replica, None, data, list(self.tally.sums), to_input=False).close()
            except ModelError as alone:
                return SampleError(int(block.samples[place]), f"cannot be explained: {alone}")
        return ModelError(f"Samples {block.samples[0]} to {block.samples[-1]}: {error}")

    def _converted(self, data: Tensor) -> Tensor:
        # to the device first: the copy of a pinned block need not be waited for
        return data.to(self.device, non_blocking=True).to(self._replica.dtype or data.dtype)


@dataclass(frozen=True)
class _Answer:
    """What one question found: scores and positions `[N, concepts]` by layer and mode, shares float64 by layer."""

    targets: np.ndarray
    scores: dict[tuple[str, str], Scored]
    leading: dict[str, np.ndarray]

    def candidates(self, layer: str, mode: str) -> Candidates:
        """What competes for the references; where nothing was asked, -inf and -1 for target."""
        scores, positions = self.scores[layer, mode]
        targets = self.targets[:, None]
        return np.where(targets >= 0, scores, -np.inf), positions, np.broadcast_to(targets, scores.shape)

    def rows(self, block: Block) -> np.ndarray:
        """Places of the samples that were asked about."""
        return block.counted[self.targets[block.counted] >= 0]


def _on_host(scored: tuple[Tensor, Tensor]) -> Scored:
    scores, positions = scored
    return scores.cpu().numpy(), positions.cpu().numpy()


def _better(first: Candidates, second: Candidates) -> Candidates:
    """Of two the one that scores more, the first of equals, for each sample and concept."""
    larger = second[0] > first[0]
    return tuple(np.where(larger, *pair) for pair in zip(second, first, strict=True))


def _first(block: Block, answers: list[_Answer]) -> np.ndarray:
    """The first target of each place, int64 `[N]`; -1 for none."""
    first = np.full(len(block.samples), -1)
    for answer in reversed(answers):
        first = np.where(answer.targets >= 0, answer.targets, first)
    return first


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
    with memory_kept(), tqdm(total=length, desc="samples", unit="sample", disable=not progress) as bar:
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
