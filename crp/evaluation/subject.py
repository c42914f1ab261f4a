"""What is evaluated: `Subject`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from crp.attribution import RelevanceFlow
from crp.attribution.removal import follows_output
from crp.attribution.starts import Start, held
from crp.concepts import Kinds
from crp.errors import InputError
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
    explained
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
    explained: Callable[[Tensor], Start]
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

    def shown(self, prediction: Tensor) -> Start:
        """Return what is explained of a prediction, with its places there; enough for heatmaps."""
        return held(self.explained(prediction), prediction)

    def target(self, prediction: Tensor) -> Start:
        """Return what is explained of a prediction, to measure it in other outputs, too.

        Raises
        ------
        InputError
            If it does not follow the output.
        """
        start = self.shown(prediction)
        if not is_measurable(start, prediction):
            raise InputError(
                "What starts does not follow the model's output, as with fixed numbers: removing concepts does "
                "not change it, so there is nothing to measure. Explain a part of the output, for example "
                "target=lambda output: Given(lambda output: output * weights)."
            )
        return start

    def batches(self, doing: str, size: int = BATCH, data: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
        """Yield (number of the first, samples `[B, c, *S]`), with a progress bar that says what is done."""
        data = self.data if data is None else data
        for rows, batch in in_batches(data, size, doing, shown=self.progress):
            yield rows.start, batch

    def flow(self, batch: Tensor) -> RelevanceFlow:
        """Open a forward pass over a batch."""
        return RelevanceFlow(self.model.replica, None, batch, self.layers)


def is_measurable(start: Start, prediction: Tensor) -> bool:
    """Return whether what is explained changes with the output, as numbers of the caller do not.

    A class that is predicted nowhere in these samples starts nothing, and counts as zero.
    """
    return follows_output(start, prediction) or not start.relevance(prediction).any()


def is_right(label: Label, predicted: int) -> bool:
    """Return whether a predicted class is the label, or one of several."""
    return predicted in label if isinstance(label, tuple) else predicted == label
