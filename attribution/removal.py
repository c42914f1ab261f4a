"""What a model's output becomes when parts of a layer's output are removed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crp.attribution.starts import Start
from crp.attribution.upper_part import UpperPart
from crp.concepts import Parts

# Replaced outputs of the layer that are made at once, in bytes.
_LARGEST = 2**27


class Removal:
    r"""Removes parts of a layer's output, and puts something in their place.

    .. math:: a - \sum_{j \in J} part_j(a) + \sum_{j \in J} fill_j

    Parameters
    ----------
    upper
        The part of the model above the layer, for the samples in question.
    parts
        The parts of the layer's output for these samples.
    references
        Parts for other samples, whose mean takes the place of what is removed; None for zero.
    """

    def __init__(self, upper: UpperPart, parts: Parts, references: Parts | None = None) -> None:
        self.upper, self.parts = upper, parts
        self._references = references.mean() if references is not None and references.masks else references

    def outputs(self, removed: Sequence[Sequence[int]], start: Start) -> Tensor:
        """Compute what is explained, with concepts removed.

        Parameters
        ----------
        removed
            For each of `K` conditions, the ids of the concepts that are removed from every sample.
        start
            What is explained.

        Returns
        -------
        Tensor
            `[K, N]`, float64.
        """
        return self._run([list(removed)], start)

    def outputs_each(self, removed: Sequence[Sequence[Sequence[int]]], start: Start) -> Tensor:
        """Compute what is explained, with other concepts removed from each sample.

        Parameters
        ----------
        removed
            For each of the `N` samples, for each of `K` conditions, the ids of the concepts that are removed.
        start
            What is explained.

        Returns
        -------
        Tensor
            `[K, N]`, float64.
        """
        return self._run(removed, start)

    def effects(self, ids: Sequence[int], start: Start) -> Tensor:
        """Compute how much the explained output falls when single concepts are removed.

        Returns
        -------
        Tensor
            `[N, len(ids)]`, float64: positive for concepts that support the output.
        """
        base = explained(start, self.upper.prediction).double()
        return (base - self.outputs([[index] for index in ids], start)).T

    def _run(self, removed: Sequence[Sequence[Sequence[int]]], start: Start) -> Tensor:
        activation = self.upper.activation
        step = max(
            1, _LARGEST // (activation.nbytes * (1 if self._references is None else 1 + self._references.samples))
        )
        found = []
        for first in range(0, len(removed[0]), step):
            some = [conditions[first : first + step] for conditions in removed]
            found += [explained(start, output) for output in self.upper.outputs(self._replaced(some))]
        return torch.stack(found).double()

    def _replaced(self, removed: Sequence[Sequence[Sequence[int]]]) -> Tensor:
        if len(removed) == 1:
            return self.upper.activation - self.parts.part(removed[0]) + self._filled(removed[0])
        rows = [self.parts.of_samples(torch.tensor([row])).part(some)[:, 0] for row, some in enumerate(removed)]
        fills = [self._filled(some)[:, 0] for some in removed]
        return self.upper.activation - torch.stack(rows, 1) + torch.stack(fills, 1)

    def _filled(self, removed: Sequence[Sequence[int]]) -> Tensor:
        if self._references is None:
            return self.upper.activation.new_zeros(len(removed), 1, *[1] * (self.upper.activation.ndim - 1))
        return self._references.part(removed).mean(1, keepdim=True)


def explained(start: Start, prediction: Tensor) -> Tensor:
    """Return the number of each sample that is explained, the sum of the relevance that starts: `[N, ...]` -> `[N]`."""
    return start.relevance(prediction).flatten(1).sum(1)
