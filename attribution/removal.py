"""What the model's output becomes when parts of a layer's output are removed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crp.attribution.starts import Start
from crp.attribution.upper_part import UpperPart
from crp.concepts import Parts

# Conditions whose replaced outputs are made at once, in bytes.
_LARGEST = 2**27


@dataclass(frozen=True)
class Removal:
    """Parts of a layer's output, and what takes their place.

    Attributes
    ----------
    parts
        The parts in the forward pass of the explained samples.
    activation
        The layer's output for them, `[N, *layer]`.
    references
        Parts of other samples whose mean takes the place of what is removed; None for zero.
    """

    parts: Parts
    activation: Tensor
    references: Parts | None = None

    def replaced(self, weights: Tensor) -> Tensor:
        r"""Return the layer's output with parts removed.

        Parameters
        ----------
        weights
            For each condition and sample, how much of each concept's part is removed, 0..1, `[K, N, n]`.

        Returns
        -------
        Tensor
            `[K, N, *layer]`: :math:`a - \sum_j w_j\,(part_j(a) - fill_j)`.
        """
        rows = [self._of(row, weights[:, row]) for row in range(len(self.activation))]
        return torch.stack(rows, 1)

    def _of(self, row: int, weights: Tensor) -> Tensor:
        kept = self.activation[row] - self.parts.of_samples(torch.tensor([row])).weighted(weights)[:, 0]
        return kept if self.references is None else kept + self.references.mean_weighted(weights)


def score_of(start: Start, prediction: Tensor) -> Tensor:
    """Return the explained number of each sample of `[N, ...]`, the sum of the relevance that starts, `[N]`."""
    return start.relevance(prediction).flatten(1).sum(1)


def outputs_without(upper: UpperPart, removal: Removal, start: Start, weights: Tensor) -> Tensor:
    """Return the explained number with parts removed: weights `[K, N, n]` -> `[K, N]`, float64."""
    step = max(1, _LARGEST // max(1, upper.activation.nbytes))
    return torch.cat(
        [
            torch.stack([score_of(start, found) for found in upper.outputs(removal.replaced(some))])
            for some in weights.split(step)
        ]
    ).double()


def removal_effects(
    upper: UpperPart,
    removal: Removal,
    start: Start,
    ids: Sequence[int],
    progress: Callable[[int], None] = lambda done: None,
) -> Tensor:
    """Compute how much the explained number falls when single concepts are removed.

    Parameters
    ----------
    upper
        The part of the model above the layer.
    removal
        What takes their place.
    start
        What is explained.
    ids
        The concepts.
    progress
        Called with the number of concepts that are done.

    Returns
    -------
    Tensor
        `[N, len(ids)]`, float64: positive for concepts that support the output.
    """
    base = score_of(start, upper.prediction).double()
    samples, count = len(upper.activation), removal.parts.size
    step = max(1, _LARGEST // max(1, upper.activation.nbytes, 4 * samples * count))
    found = []
    for first in range(0, len(ids), step):
        some = torch.tensor(list(ids[first : first + step]), device=upper.activation.device)
        weights = upper.activation.new_zeros(len(some), samples, count)
        weights[torch.arange(len(some)), :, some] = 1
        found.append(base - outputs_without(upper, removal, start, weights))
        progress(len(some))
    return torch.cat(found).T
