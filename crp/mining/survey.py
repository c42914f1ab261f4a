"""The pass over the data set: every sample's relevance and activation, reduced to references and class statistics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from torch import Tensor
from tqdm import tqdm

from crp.attribution import RelevanceFlow, Replica
from crp.concepts import ConceptKind
from crp.errors import ModelError

from .blocks import Block
from .scores import Score, shares
from .tally import Survey, Tally
from .targets import Question, TargetRule, questions


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
    ):
        self.tally = tally
        self._replica = replica
        self._targets = targets
        self._concept = concept
        self._scores = {"relevance": relevance_score, "activation": activation_score}

    def add(self, block: Block) -> None:
        """Run the model on a block and merge what its samples count.

        Raises
        ------
        SampleError
            If a sample's class is out of range, or a score is not finite.
        ModelError
            If the model's output is not finite; names the block's samples.
        """
        layers = list(self.tally.sums)
        try:
            flow = RelevanceFlow(self._replica, None, block.data.to(self._replica.dtype or block.data.dtype), layers)
        except ModelError as error:
            raise ModelError(f"Samples {block.samples[0]} to {block.samples[-1]}: {error}") from error
        with flow:
            asked = questions(self._targets, flow.prediction, block.labels, block.samples, self.tally.classes)
            # activation knows no class; the first one explained stands beside it
            first = np.full(len(block.samples), -1)
            for question in reversed(asked):
                first = np.where(question.targets >= 0, question.targets, first)
            active = {}
            for layer in layers:
                scores, positions = self._scored(layer, "activation", flow.activation(layer), block)
                self.tally.best[layer, "activation"].add(block.samples.numpy(), scores, first, positions)
                active[layer] = scores.astype(np.float64)
            best: dict[str, _Best] = {}
            for question in asked:
                rows = np.flatnonzero(question.targets >= 0)

                def visit(layer: str, arriving: Tensor, question: Question = question, rows: np.ndarray = rows) -> None:
                    total = self._concept.total(arriving)
                    found = self._scored(layer, "relevance", arriving, block, total)
                    best.setdefault(layer, _Best(*found)).take(*found, question.targets)
                    self.tally.sums[layer].add(question.targets[rows], shares(total)[rows], active[layer][rows])

                flow.sweep(question.relevance[None], layers, visit)
            for layer, found in best.items():
                rows = np.flatnonzero(first >= 0)
                self.tally.best[layer, "relevance"].add(
                    block.samples.numpy()[rows], found.scores[rows], found.targets[rows], found.positions[rows]
                )

    def _scored(
        self, layer: str, mode: str, values: Tensor, block: Block, total: Tensor | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores and positions of a block's samples, `[N, concepts]`."""
        scores, positions = (found.cpu().numpy() for found in self._scores[mode](self._concept, values, total))
        return scores, positions


class _Best:
    """Of each sample's questions that for which it scores most, for each concept; the first of equal ones."""

    def __init__(self, scores: np.ndarray, positions: np.ndarray):
        self.scores, self.positions = np.full_like(scores, -np.inf), np.zeros_like(positions)
        self.targets = np.full(scores.shape, -1)

    def take(self, scores: np.ndarray, positions: np.ndarray, targets: np.ndarray) -> None:
        """Compare with one more question: two of `[N, concepts]`, and the targets `[N]` (-1: not asked)."""
        # a NaN is taken and kept, so that it is refused by the sample's name
        better = (targets >= 0)[:, None] & ~((scores <= self.scores) | np.isnan(self.scores))
        self.scores = np.where(better, scores, self.scores)
        self.positions = np.where(better, positions, self.positions)
        self.targets = np.where(better, targets[:, None], self.targets)


def run_survey(
    surveyor: Surveyor, stream: Iterable[Block], length: int, *, after_first: Callable[[float], None], progress: bool
) -> Survey:
    """Let the surveyor see all blocks.

    Parameters
    ----------
    surveyor
        Reduces them.
    stream
        The blocks.
    length
        Number of samples, for the progress bar.
    after_first
        Called with the seconds that reading and computing one sample of the first block took.
    progress
        Whether to show a bar with rate and time left.
    """
    start = time.perf_counter()
    with tqdm(total=length, desc="samples", unit="sample", disable=not progress) as bar:
        for place, block in enumerate(stream):
            surveyor.add(block)
            if place == 0:
                after_first((time.perf_counter() - start) / len(block.samples))
            bar.update(len(block.samples))
    return surveyor.tally.result()


def sizes_of(concept: ConceptKind, shapes: dict[str, Sequence[int]]) -> dict[str, int]:
    """Number of concepts of each layer, from the shapes `[C, *S]` of their outputs."""
    return {layer: concept.size(shape) for layer, shape in shapes.items()}
