"""Kinds of concept that are no `ConceptKind`: one with our five methods, one as code for zennit-crp defines it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from crp.legacy.concept_base import Concept


def paired(values: Tensor) -> Tensor:
    """Add up neighbouring channels: `[N, C, *S]` -> `[N, ceil(C / 2), positions]`."""
    flat = values.flatten(2)
    return torch.stack([flat[:, first : first + 2].sum(1) for first in range(0, flat.shape[1], 2)], 1)


class PairMethods:
    """Two neighbouring channels of `[N, C, *S]` are a concept; the last channel may be alone."""

    def size(self, shape: Sequence[int]) -> int:
        return (shape[0] + 1) // 2

    def masked(self, relevance: Tensor, ids: Sequence[Sequence[int]]) -> Tensor:
        pair = torch.arange(relevance.shape[1]) // 2
        keep = torch.stack([torch.isin(pair, torch.tensor(list(chosen), dtype=torch.long)) for chosen in ids])
        return relevance[None] * keep.view(len(ids), 1, -1, *[1] * (relevance.ndim - 2))

    def at_positions(self, relevance: Tensor, ids: Tensor, positions: Tensor) -> Tensor:
        kept = torch.zeros_like(relevance)
        for row, (pair, position) in enumerate(zip(ids.tolist(), positions.tolist(), strict=True)):
            channels = slice(2 * pair, 2 * pair + 2)
            kept[row].flatten(1)[channels, position] = relevance[row].flatten(1)[channels, position]
        return kept[None]

    def total(self, values: Tensor) -> Tensor:
        return paired(values).sum(2)

    def peak(self, values: Tensor) -> tuple[Tensor, Tensor]:
        found = paired(values).max(2)
        return found.values, found.indices


class OldPairs(Concept):
    """The same with the methods that zennit-crp calls."""

    def mask(self, batch_id: int, concept_ids: Sequence[int], layer_name: str | None = None) -> Callable:
        def masked(relevance: Tensor) -> Tensor:
            kept = relevance.clone()
            kept[batch_id] = PairMethods().masked(relevance[batch_id, None], [concept_ids])[0, 0]
            return kept

        return masked

    def mask_rf(self, batch_id: int, c_n_map: Mapping[int, Sequence[int]], layer_name: str | None = None) -> Callable:
        def masked(relevance: Tensor) -> Tensor:
            kept, ((pair, (position,)),) = relevance.clone(), c_n_map.items()
            one = relevance[batch_id, None]
            kept[batch_id] = PairMethods().at_positions(one, torch.tensor([pair]), torch.tensor([position]))[0, 0]
            return kept

        return masked

    def attribute(
        self, relevance: Tensor, mask: Tensor | None = None, layer_name: str | None = None, abs_norm: bool = True
    ) -> Tensor:
        return PairMethods().total(relevance)

    def reference_sampling(
        self, relevance: Tensor, layer_name: str | None = None, max_target: str = "sum", abs_norm: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        scores, positions = PairMethods().peak(relevance)
        order = scores.argsort(0, descending=True)
        return order, scores.gather(0, order), positions.gather(0, order)
