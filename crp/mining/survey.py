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
from .targets import TargetRule, explained_classes
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
            targets = explained_classes(self._targets, flow.prediction, block.labels, block.samples)
            active = {
                layer: self._count(layer, "activation", flow.activation(layer), block, targets) for layer in layers
            }

            found = {}

            def visit(layer: str, arriving: Tensor) -> None:
                total = self._concept.total(arriving)
                self._count(layer, "relevance", arriving, block, targets, total)
                # rules that keep relevance positive leave nothing to look for
                if not arriving.amin() >= 0:
                    self._count(layer, "negative", -arriving, block, targets, -total)
                found[layer] = shares(total), active[layer]
                self.tally.sums[layer].add(targets, *found[layer])

            flow.sweep(flow.output_relevance(targets), layers, visit)
            if self._vectors is not None:
                predictions = flow.prediction.argmax(1).cpu().numpy()
                self._vectors.add(block.samples.numpy(), targets, predictions, block.labels.numpy(), found)

    def _count(
        self, layer: str, mode: str, values: Tensor, block: Block, targets: np.ndarray, total: Tensor | None = None
    ) -> np.ndarray:
        """Let the samples compete; returns their scores, `[N, concepts]`.

        In mode `"negative"`, values are the negated relevance, and samples that score above zero compete.
        """
        scores, positions = (found.cpu().numpy() for found in self._scores[mode](self._concept, values, total))
        among = scores > 0 if mode == "negative" else None
        self.tally.add(layer, mode, block.samples.numpy(), scores, targets, positions, among=among)
        return scores.astype(np.float64)


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
