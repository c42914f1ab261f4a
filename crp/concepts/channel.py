"""Channels as concepts: `ChannelConcept`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crp.errors import InputError
from crp.indices import concept_ids as read_concepts
from crp.indices import position_ids
from crp.layout import Layout
from crp.relevance_shares import stabilised_shares

from .extremes import extreme
from .protocol import ConceptKind


class ChannelConcept(ConceptKind):
    """One channel, or one unit of a linear layer, is one concept.

    Examples
    --------
    >>> relevance = torch.arange(6.0).reshape(1, 3, 2)              # one sample, three channels, two positions
    >>> ChannelConcept().total(relevance)
    tensor([[1., 5., 9.]])
    >>> ChannelConcept().masked(relevance, [[0], [1, 2]]).sum(-1)   # two conditions
    tensor([[[1., 0., 0.]],
    <BLANKLINE>
            [[0., 5., 9.]]])
    """

    masks = True

    def size(self, layout: Layout | Sequence[int]) -> int:
        """Return the number of channels of a layer, from its layout or a shape `[C, *S]` without the samples' axis."""
        return layout.channels if isinstance(layout, Layout) else layout[0]

    def parts(self, activation: Tensor, ids: Sequence[int], layout: Layout) -> Tensor:
        """Keep one channel for each id: `[N, *shape]` -> `[len(ids), N, *shape]`."""
        return layout.as_given(self.masked(layout.channels_first(activation), [[index] for index in ids]))

    def weighted(self, activation: Tensor, weights: Tensor, layout: Layout) -> Tensor:
        """Multiply each channel by its weight, once per row of weights `[K, C]`."""
        return layout.joined(layout.split(activation)[None] * weights[:, None, :, None].to(activation))

    def values(self, activation: Tensor, layout: Layout) -> Tensor:
        """Return the channels, `[N, C, P]`."""
        return layout.split(activation)

    def by_position(self, factor: Tensor, activation: Tensor, layout: Layout) -> Tensor:
        """Multiply: a part has a single channel."""
        return layout.split(factor * activation)

    # -- relevance with the channels first ---------------------------------------------------------------------

    def masked(self, relevance: Tensor, ids: Sequence[Sequence[int]]) -> Tensor:
        """Keep only the chosen channels, once per condition.

        Parameters
        ----------
        relevance
            Relevance that arrives at the layer, `[N, C, *S]`.
        ids
            For each of the `K` conditions, the channels to keep.

        Returns
        -------
        Tensor
            `[K, N, C, *S]`, a new tensor.

        Raises
        ------
        InputError
            If the layer has no such channel.
        """
        mask = relevance.new_zeros(len(ids), relevance.shape[1])
        for row, channels in enumerate(ids):
            mask[row, list(read_concepts(channels, relevance.shape[1]))] = 1
        return relevance[None] * mask.view(len(ids), 1, -1, *[1] * (relevance.ndim - 2))

    def at_positions(self, relevance: Tensor, ids: Tensor, positions: Tensor) -> Tensor:
        """Keep one position of one channel for each sample.

        Parameters
        ----------
        relevance
            `[N, C, *S]`.
        ids
            Channel of each sample, int64 `[N]`.
        positions
            Position of each sample in the flattened space, int64 `[N]` (all 0 for a linear layer).

        Returns
        -------
        Tensor
            `[1, N, C, *S]`, zero except for `N` entries.
        """
        flat = relevance.flatten(2) if relevance.ndim > 2 else relevance[..., None]
        samples = torch.arange(len(flat), device=flat.device)
        kept = torch.zeros_like(flat)
        kept[samples, ids, positions] = flat[samples, ids, positions]
        return kept.view_as(relevance)[None]

    def total(self, values: Tensor) -> Tensor:
        """Sum over space, `[N, C, *S]` -> `[N, C]`; bfloat16 is summed in float32 to avoid rounding."""
        if values.dtype != torch.bfloat16:
            return values.flatten(2).sum(-1) if values.ndim > 2 else values
        if values.ndim == 2:
            return values.float()
        # one sample at a time, because a sum in another dtype first copies its input to that dtype
        return torch.stack([sample.flatten(1).sum(-1, dtype=torch.float32) for sample in values])

    def peak(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Find the largest signed value of each channel and its flat position, `[N, C, *S]` -> two of `[N, C]`.

        Of equal values, the first position is returned.
        """
        return extreme(values, largest=True)

    def trough(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Find the smallest signed value of each channel and its flat position, as `peak` finds the largest."""
        return extreme(values, largest=False)

    # -- zennit-crp's names ------------------------------------------------------------------------------------

    @staticmethod
    def mask(batch_id: int, concept_ids: Any, layer_name: str | None = None) -> Callable[[Tensor], Tensor]:
        """Make a function that keeps `concept_ids` in row `batch_id` of a relevance `[N, C, *S]`.

        Ids may have any form that `crp.indices.concept_ids` reads. The `mask_map` of conditional attributions takes
        functions of this signature.
        """

        def mask_row(relevance: Tensor) -> Tensor:
            keep = torch.zeros_like(relevance[batch_id])
            keep[list(read_concepts(concept_ids, relevance.shape[1], _named(layer_name)))] = 1
            relevance[batch_id] = relevance[batch_id] * keep
            return relevance

        return mask_row

    @staticmethod
    def mask_rf(
        batch_id: int, c_n_map: Mapping[int, Any], layer_name: str | None = None
    ) -> Callable[[Tensor], Tensor]:
        """Make a function that keeps single positions: `c_n_map` maps a channel to its flat positions."""

        def mask_row(relevance: Tensor) -> Tensor:
            keep = torch.zeros_like(relevance[batch_id]).reshape(relevance.shape[1], -1)
            where = _named(layer_name)
            for channel, positions in c_n_map.items():
                (row,) = read_concepts(channel, len(keep), where)
                keep[row, list(position_ids(positions, keep.shape[1], where))] = 1
            relevance[batch_id] = relevance[batch_id] * keep.view_as(relevance[batch_id])
            return relevance

        return mask_row

    def get_rf_indices(self, output_shape: Sequence[int], layer_name: str | None = None) -> np.ndarray:
        """Return all flat positions of an output of shape `[C, *S]`, for `mask_rf`."""
        return np.arange(prod(output_shape[1:]))

    def attribute(
        self,
        relevance: Tensor,
        mask: Tensor | None = None,
        layer_name: str | None = None,
        abs_norm: bool = True,
    ) -> Tensor:
        """Sum the relevance of every concept, `[N, C, *S]` -> `[N, C]`.

        Parameters
        ----------
        relevance
            `[N, C, *S]`.
        mask
            Factor applied to relevance before the sum: 1 inside a region of the layer, 0 outside.
        layer_name
            Unused; for kinds of concept that differ between layers.
        abs_norm
            Whether to divide by the sum over concepts of the absolute value.
        """
        totals = self.total(relevance if mask is None else relevance * mask)
        return stabilised_shares(totals) if abs_norm else totals

    def reference_sampling(
        self,
        relevance: Tensor,
        layer_name: str | None = None,
        max_target: str = "sum",
        abs_norm: bool = True,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sort the samples of a batch by their score for each concept.

        Parameters
        ----------
        relevance
            Relevance or activation, `[N, C, *S]`.
        layer_name
            Unused, as in `attribute`.
        max_target
            `"sum"` over space, or `"max"`, the largest signed value.
        abs_norm
            As in `attribute`.

        Returns
        -------
        tuple of three Tensors
            `[N, C]` each, best first: the index in the batch (in this order for equal scores), the score, and the flat
            position of the largest signed value.
        """
        peak, positions = self.peak(relevance)
        if max_target not in ("sum", "max"):
            raise InputError(f"max_target is 'sum' or 'max', given {max_target!r}.")
        scores = self.total(relevance) if max_target == "sum" else peak
        scores, samples = (stabilised_shares(scores) if abs_norm else scores).sort(dim=0, descending=True, stable=True)
        return samples, scores, positions.gather(0, samples)


def _named(layer: str | None) -> str:
    return f"layer '{layer}'" if layer else "the layer"
