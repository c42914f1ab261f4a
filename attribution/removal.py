"""What a model's output becomes when parts of a layer's output are removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from crp.attribution.starts import Start, held
from crp.attribution.upper_part import UpperPart
from crp.concepts import MeanParts, Parts
from crp.errors import InputError
from crp.values import ConceptMeans

# Replaced outputs of the layer that are made at once, in bytes.
_LARGEST = 2**25


class Removal:
    r"""Removes parts of a layer's output, and puts something in their place.

    .. math:: a - \sum_{j \in J} part_j(a) + \sum_{j \in J} fill_j

    What belongs to no concept stays as it is.

    Parameters
    ----------
    upper
        The part of the model above the layer, for the samples in question.
    parts
        The parts of the layer's output for these samples.
    fill
        What takes the place of what is removed: the mean parts over a data set, or the parts of other samples; None for
        zero.
    """

    def __init__(self, upper: UpperPart, parts: Parts, fill: MeanParts | Parts | None = None) -> None:
        self.upper, self.parts, self._fill = upper, parts, fill

    def filled_with(self, fill: ConceptMeans | Parts) -> Removal:
        """Return the removal that puts something in the place of what is removed.

        Parameters
        ----------
        fill
            The means over a data set (`Library.means`, or `Parts.means` of some samples), or the parts of other
            samples: one for each sample, or one for all.

        Raises
        ------
        InputError
            If these are means of another layer or kind of concept, or the number of samples is neither 1 nor `N`.
        """
        if isinstance(fill, ConceptMeans):
            return Removal(self.upper, self.parts, self.parts.of_means(fill))
        if fill.samples not in (1, self.parts.samples):
            raise InputError(
                f"Parts of {fill.samples} samples cannot take the place of parts of {self.parts.samples} samples: give "
                "one for each, or one for all."
            )
        return Removal(self.upper, self.parts, fill.of_samples(torch.arange(self.parts.samples) % fill.samples))

    def outputs(self, removed: Sequence[Any], start: Start) -> Tensor:
        """Compute what is explained, with concepts removed.

        Parameters
        ----------
        removed
            For each of `K` conditions, what is removed from every sample: ids, weights by id, or `all_but(ids)`.
        start
            What is explained, at the places that it has in the whole output (`crp.attribution.starts.held`).

        Returns
        -------
        Tensor
            `[K, N]`, float64.
        """
        return explained_values(held(start, self.upper.prediction), self.predictions(removed))

    def predictions(self, removed: Sequence[Any]) -> Tensor:
        """Compute the model's whole output, with concepts removed from every sample, `[K, N, ...]`."""
        return torch.cat([self.upper.outputs(self.replaced(some)) for some in self.split(removed)])

    def replaced(self, removed: Sequence[Any]) -> Tensor:
        """Compute the layer's output with concepts removed from every sample, `[K, N, *layer]`."""
        found = self.upper.activation - self.parts.part(removed)
        return found if self._fill is None else found + self._fill.part(removed)

    def outputs_each(self, removed: Sequence[Sequence[Any]], start: Start) -> Tensor:
        """Compute what is explained, with other concepts removed from each sample.

        Parameters
        ----------
        removed
            For each of the `N` samples, for each of `K` conditions, what is removed.
        start
            What is explained, at the places that it has in the whole output (`crp.attribution.starts.held`).

        Returns
        -------
        Tensor
            `[K, N]`, float64.
        """
        return explained_values(held(start, self.upper.prediction), self.predictions_each(removed))

    def predictions_each(self, removed: Sequence[Sequence[Any]]) -> Tensor:
        """Compute the model's whole output, `[K, N, ...]`, with other concepts removed from each of the `N` samples."""
        if len(removed) != self.parts.samples:
            raise InputError(f"Conditions are given for {len(removed)} samples, but there are {self.parts.samples}.")
        splits = zip(*map(self.split, removed), strict=True)
        return torch.cat([self.upper.outputs(self._replaced_in_each(some)) for some in splits])

    def effects(self, ids: Sequence[int], start: Start) -> Tensor:
        """Compute how much the explained output falls when single concepts are removed.

        Returns
        -------
        Tensor
            `[N, len(ids)]`, float64: positive for concepts that support the output.
        """
        base = explained_value(start, self.upper.prediction).double()
        return (base - self.outputs([[index] for index in ids], start)).T

    def split(self, removed: Sequence[Any]) -> list[Sequence[Any]]:
        """Divide conditions so that the layer's outputs for some of them fit into memory."""
        step = max(1, _LARGEST // (2 * self.upper.activation.nbytes))
        return [removed[first : first + step] for first in range(0, len(removed), step)]

    def _replaced_in_each(self, removed: Sequence[Sequence[Any]]) -> Tensor:
        rows = []
        for row, some in enumerate(removed):
            sample = torch.tensor([row])
            found = self.upper.activation[row] - self.parts.of_samples(sample).part(some)[:, 0]
            rows.append(found if self._fill is None else found + self._fill.of_samples(sample).part(some)[:, 0])
        return torch.stack(rows, 1)


def explained_value(start: Start, prediction: Tensor) -> Tensor:
    """Return the number of each sample that is explained, the sum of the relevance that starts: `[N, ...]` -> `[N]`."""
    return start.relevance(prediction).flatten(1).sum(1)


def follows_output(start: Start, prediction: Tensor) -> bool:
    """Return whether what is explained changes with the model's output, `[N, ...]`; a caller's numbers do not."""
    value = explained_value(start, prediction)
    # two others: a number may be the same at one
    return any(not torch.equal(value, explained_value(start, factor * prediction + 1)) for factor in (2, 3))


def explained_values(start: Start, predictions: Tensor) -> Tensor:
    """Return `explained_value` of each condition: `[K, N, ...]` -> `[K, N]`, float64."""
    return torch.stack([explained_value(start, prediction) for prediction in predictions]).double()
