"""What a model's output becomes when parts of a layer's output are removed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crp.attribution.flow import RelevanceFlow
from crp.attribution.starts import Start
from crp.attribution.upper_part import UpperPart
from crp.concepts import ConceptKind, MaskingMethods, Parts, parts_of
from crp.errors import ModelError

# Replaced outputs of the layer that are made at once, in bytes.
_LARGEST = 2**27
# Largest difference, relative to the largest value, of a layer's output in the copy that is explained and in the model:
# rounding, and the eps that zennit's merging of batch norms leaves out.
_SAME, _SAME_BFLOAT16 = 1e-3, 0.1


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

    def filled_with(self, references: Parts) -> Removal:
        """Return the removal that puts the mean of other samples in the place of what is removed."""
        return Removal(self.upper, self.parts, references)

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
        return _explained_values(start, self.predictions(removed))

    def predictions(self, removed: Sequence[Sequence[int]]) -> Tensor:
        """Compute the model's whole output, with concepts removed from every sample, `[K, N, ...]`."""
        return self._run([list(removed)])

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
        return _explained_values(start, self.predictions_each(removed))

    def predictions_each(self, removed: Sequence[Sequence[Sequence[int]]]) -> Tensor:
        """Compute the model's whole output, `[K, N, ...]`, with other concepts removed from each of the `N` samples."""
        return self._run(removed)

    def effects(self, ids: Sequence[int], start: Start) -> Tensor:
        """Compute how much the explained output falls when single concepts are removed.

        Returns
        -------
        Tensor
            `[N, len(ids)]`, float64: positive for concepts that support the output.
        """
        base = explained_value(start, self.upper.prediction).double()
        return (base - self.outputs([[index] for index in ids], start)).T

    def _run(self, removed: Sequence[Sequence[Sequence[int]]]) -> Tensor:
        activation = self.upper.activation
        step = max(
            1, _LARGEST // (activation.nbytes * (1 if self._references is None else 1 + self._references.samples))
        )
        found = []
        for first in range(0, len(removed[0]), step):
            some = [conditions[first : first + step] for conditions in removed]
            found.append(self.upper.outputs(self._replaced(some)))
        return torch.cat(found)

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


def explained_value(start: Start, prediction: Tensor) -> Tensor:
    """Return the number of each sample that is explained, the sum of the relevance that starts: `[N, ...]` -> `[N]`."""
    return start.relevance(prediction).flatten(1).sum(1)


def _explained_values(start: Start, predictions: Tensor) -> Tensor:
    """Return `explained_value` of each condition: `[K, N, ...]` -> `[K, N]`, float64."""
    return torch.stack([explained_value(start, prediction) for prediction in predictions]).double()


def removal_in(
    flow: RelevanceFlow, data: Tensor, layer: str, concept: ConceptKind | MaskingMethods, end: str | None = None
) -> Removal:
    """Remove concepts from a layer of a flow's model, for the samples of the flow.

    Parameters
    ----------
    flow
        An open flow that holds the layer.
    data
        Its samples, `[N, c, *S]`.
    layer
        Name of the layer.
    concept
        The kind of concept.
    end
        A layer of the flow above it, whose output takes the place of the model's.

    Raises
    ------
    ModelError
        If canonizers of the composite changed the layer's output: relevance is of other values than the model's own.
    """
    # the copy's output of a layer that a batch norm was merged into is the batch norm's
    own = {name: dict(flow.replica.merges).get(name, name) for name in (layer, end) if name}
    upper = UpperPart(flow.replica.source, data, own[layer], own[end] if end else None)
    for name, computed in {layer: upper.activation, **({end: upper.prediction} if end else {})}.items():
        held = flow.activation(name)
        off = float((computed - held).abs().max())
        allowed = _SAME_BFLOAT16 if held.dtype == torch.bfloat16 else _SAME
        if off > allowed * max(float(held.abs().max()), 1e-6):
            raise ModelError(
                f"The canonizers of the composite change the output of layer '{name}', so its concepts cannot be "
                "removed from the model itself: name the layer after it."
            )
    return Removal(upper, parts_of(concept, upper.activation, flow.layout(layer), layer))
