"""What is evaluated: `Subject`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor
from tqdm import tqdm

from crp.attribution import RelevanceFlow
from crp.attribution.starts import Start
from crp.concepts import ConceptKind
from crp.models import PreparedModel

# Samples in one pass.
BATCH = 8


@dataclass(frozen=True)
class Subject:
    """A model, samples and layers to evaluate.

    Attributes
    ----------
    model
        The prepared model.
    data
        Samples `[N, c, *S]`.
    layers
        Names of the layers.
    concept
        The kind of concept.
    target
        From a prediction `[N, ...]` to what is explained.
    seed
        Seed of all that is drawn.
    progress
        Whether to show progress bars.
    """

    model: PreparedModel
    data: Tensor
    layers: tuple[str, ...]
    concept: ConceptKind
    target: Callable[[Tensor], Start]
    seed: int
    progress: bool

    def batches(self, doing: str, size: int = BATCH) -> Iterator[tuple[int, Tensor]]:
        """Yield (number of the first, samples `[B, c, *S]`), with a progress bar that says what is done."""
        with tqdm(total=len(self.data), desc=doing, unit="sample", disable=not self.progress) as bar:
            for first in range(0, len(self.data), size):
                batch = self.data[first : first + size]
                yield first, batch
                bar.update(len(batch))

    def flow(self, batch: Tensor) -> RelevanceFlow:
        """Open a forward pass over a batch."""
        return RelevanceFlow(self.model.replica, None, batch, self.layers)
