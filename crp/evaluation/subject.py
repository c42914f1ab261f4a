"""What is evaluated: `Subject`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from crp.attribution import RelevanceFlow
from crp.attribution.starts import Start
from crp.concepts import Kinds
from crp.mining.labels import Label
from crp.models import PreparedModel
from crp.progress import in_batches

# Samples in one pass.
BATCH = 8


@dataclass(frozen=True)
class Subject:
    """A model, samples and layers to evaluate.

    Attributes
    ----------
    model
        The prepared model.
    everything
        Samples `[M, c, *S]`.
    right
        bool `[M]`: whether the model predicts them correctly; all of them without labels.
    labels
        The label of each sample, one class or several, or None.
    masks
        bool `[M, *S]`, where what they show is, or None.
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
    everything: Tensor
    right: Tensor
    labels: Sequence[Label] | None
    masks: Tensor | None
    layers: tuple[str, ...]
    concept: Kinds
    target: Callable[[Tensor], Start]
    seed: int
    progress: bool

    @cached_property
    def data(self) -> Tensor:
        """The samples that the model predicts correctly, `[N, c, *S]`."""
        return self.everything[self.right]

    @cached_property
    def masks_of_data(self) -> Tensor | None:
        """Their masks, bool `[N, *S]`."""
        return None if self.masks is None else self.masks[self.right]

    def batches(self, doing: str, size: int = BATCH, data: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
        """Yield (number of the first, samples `[B, c, *S]`), with a progress bar that says what is done."""
        data = self.data if data is None else data
        for rows, batch in in_batches(data, size, doing, shown=self.progress):
            yield rows.start, batch

    def flow(self, batch: Tensor) -> RelevanceFlow:
        """Open a forward pass over a batch."""
        return RelevanceFlow(self.model.replica, None, batch, self.layers)


def is_right(label: Label, predicted: int) -> bool:
    """Return whether a predicted class is the label, or one of several."""
    return predicted in label if isinstance(label, tuple) else predicted == label
