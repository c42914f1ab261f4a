"""zennit-crp's base class of concepts."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from crp.concepts import ChannelConcept


class Concept(metaclass=ABCMeta):  # noqa: B024  (subclasses define only those of the five methods that they need)
    """A kind of concept, defined by the methods that zennit-crp calls.

    A subclass overrides `mask`, `mask_rf`, `attribute`, `reference_sampling` and `get_rf_indices`, or those of them
    that it needs. The five methods of our own interface (`crp.concepts.ConceptKind`) are derived from them here, so the
    same concept works with `crp.mine` and `crp.explain`.
    """

    def mask(self, batch_id: int, concept_ids: Sequence, layer_name: str | None) -> Callable[[Tensor], Tensor]:
        """Make a function that keeps the concepts in row `batch_id` of relevance `[N, ...]`."""
        raise NotImplementedError(f"{type(self).__name__} must define 'mask'.")

    def mask_rf(self, neuron_ids: Any, layer_name: str | None) -> Callable[[Tensor], Tensor]:
        """Make a function that keeps single positions; overridden as `mask_rf(batch_id, c_n_map, layer_name)`."""
        raise NotImplementedError(f"{type(self).__name__} must define 'mask_rf'.")

    def reference_sampling(
        self, relevance: Tensor, layer_name: str | None = None, max_target: str = "sum", abs_norm: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sort a batch for each concept: samples, scores and positions, `[N, concepts]` each, best first."""
        raise NotImplementedError(f"{type(self).__name__} must define 'reference_sampling'.")

    def get_rf_indices(self, output_shape: Sequence[int], layer_name: str | None) -> Sequence[int]:
        """List the positions of a layer's output of shape `[C, *S]`."""
        raise NotImplementedError(f"{type(self).__name__} must define 'get_rf_indices'.")

    def attribute(
        self, relevance: Tensor, mask: Tensor | None = None, layer_name: str | None = None, abs_norm: bool = True
    ) -> Tensor:
        """Sum relevance over each concept, `[N, ...]` -> `[N, concepts]`."""
        raise NotImplementedError(f"{type(self).__name__} must define 'attribute'.")

    # -- our own interface, derived from the above -------------------------------------------------------------

    def size(self, shape: Sequence[int]) -> int:
        """Return the number of concepts in an output of shape `[C, *S]`."""
        return self.attribute(torch.zeros(1, *shape), abs_norm=False).shape[1]

    def masked(self, relevance: Tensor, ids: Sequence[Sequence[int]]) -> Tensor:
        """Mask relevance `[N, ...]` once per condition: `[K, N, ...]`."""
        samples = range(len(relevance))
        masks = [[self.mask(sample, chosen, None) for sample in samples] for chosen in ids]
        return torch.stack([self._each_row(relevance, each) for each in masks])

    def at_positions(self, relevance: Tensor, ids: Tensor, positions: Tensor) -> Tensor:
        """Keep one position of one concept for each sample: `[1, N, ...]`."""
        kept: list[Mapping] = [{int(i): [int(p)]} for i, p in zip(ids, positions, strict=True)]
        return self._each_row(relevance, [self.mask_rf(row, each, None) for row, each in enumerate(kept)])[None]

    def total(self, values: Tensor) -> Tensor:
        """Sum over each concept, `[N, concepts]`."""
        return self.attribute(values, abs_norm=False)

    def peak(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Find the largest signed value of each concept and its position, `[N, concepts]` each."""
        samples, scores, positions = self.reference_sampling(values, max_target="max", abs_norm=False)
        return tuple(torch.zeros_like(found).scatter(0, samples, found) for found in (scores, positions))

    @staticmethod
    def _each_row(relevance: Tensor, masks: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
        kept = relevance.clone()
        for mask in masks:
            kept = mask(kept)
        return kept


Concept.register(ChannelConcept)
