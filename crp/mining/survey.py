"""The pass over the data set: every sample's relevance and activation, reduced to references and class statistics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from tqdm import tqdm

from crp.attribution import RelevanceFlow, Replica
from crp.concepts import ConceptKind
from crp.errors import ModelError
from crp.library.references import ClassStatistics, References

from .blocks import Block
from .scores import Score, shares
from .statistics import ClassSums
from .targets import TargetRule, explained_classes
from .topk import TopK


@dataclass(frozen=True)
class Survey:
    """What one pass leaves.

    Attributes
    ----------
    references
        By layer and mode (`"relevance"`, `"activation"`).
    statistics
        By layer.
    """

    references: dict[tuple[str, str], References]
    statistics: dict[str, ClassStatistics]


class Surveyor:
    """Reduces blocks of samples, one after the other.

    Parameters
    ----------
    replica
        The prepared model; samples are converted to the type of its weights, and scores are float32 in any case.
    sizes
        Number of concepts of each layer.
    classes
        Number of the model's outputs.
    concept
        What a concept is.
    targets
        Which class is explained.
    relevance_score, activation_score
        What a sample counts.
    k
        How many references to keep.
    """

    def __init__(
        self,
        replica: Replica,
        sizes: dict[str, int],
        classes: int,
        *,
        concept: ConceptKind,
        targets: TargetRule,
        relevance_score: Score,
        activation_score: Score,
        k: int,
    ):
        self._replica = replica
        self._targets = targets
        self._concept = concept
        self._scores = {"relevance": relevance_score, "activation": activation_score}
        self._best = {(layer, mode): TopK(size, k) for layer, size in sizes.items() for mode in self._scores}
        self._sums = {layer: ClassSums(classes, size) for layer, size in sizes.items()}

    def add(self, block: Block) -> None:
        """Run the model on a block and merge what its samples count.

        Raises
        ------
        SampleError
            If a sample's class is out of range, or a score is not finite.
        ModelError
            If the model's output is not finite; names the block's samples.
        """
        layers = list(self._sums)
        try:
            flow = RelevanceFlow(self._replica, None, block.data.to(self._replica.dtype or block.data.dtype), layers)
        except ModelError as error:
            raise ModelError(f"Samples {block.samples[0]} to {block.samples[-1]}: {error}") from error
        with flow:
            targets = explained_classes(self._targets, flow.prediction, block.labels, block.samples)
            for layer in layers:
                self._count(layer, "activation", flow.activation(layer), block, targets)

            def visit(layer: str, arriving: Tensor) -> None:
                total = self._concept.total(arriving)
                self._count(layer, "relevance", arriving, block, targets, total)
                self._sums[layer].add(targets, shares(total))

            flow.sweep(flow.output_relevance(targets), layers, visit)

    def _count(
        self, layer: str, mode: str, values: Tensor, block: Block, targets: np.ndarray, total: Tensor | None = None
    ) -> None:
        scores, positions = self._scores[mode](self._concept, values, total)
        self._best[layer, mode].add(block.samples.numpy(), scores.cpu().numpy(), targets, positions.cpu().numpy())

    def result(self) -> Survey:
        """References and statistics of all blocks so far."""
        return Survey(
            references={key: best.best for key, best in self._best.items()},
            statistics={layer: sums.result() for layer, sums in self._sums.items()},
        )


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
    return surveyor.result()


def sizes_of(concept: ConceptKind, shapes: dict[str, Sequence[int]]) -> dict[str, int]:
    """Number of concepts of each layer, from the shapes `[C, *S]` of their outputs."""
    return {layer: concept.size(shape) for layer, shape in shapes.items()}
