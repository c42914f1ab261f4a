"""What a concept is: an addressable part of a layer's output.

`ChannelConcept`, the default, is one channel of a convolution or one unit of a linear layer. Another kind of
concept (a token, a direction, a head) is a class with the same methods:

========================  ===================================================================================
`size(shape)`             how many concepts an output of that shape holds
`masked(relevance, ids)`  keeps the relevance of chosen concepts, one chosen set per condition
`at_positions(...)`       keeps one position of one concept for each sample
`total(values)`           one number per concept: the sum over its part
`peak(values)`            the largest signed value of each concept, and where it stands
`trough(values)`          the smallest one; where a kind has none, it is found as the peak of the negated values
========================  ===================================================================================

Axes: `N` samples, `K` conditions, `C` channels, `*S` space (none for a linear layer).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from math import prod
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from crp.errors import InputError
from crp.indices import concept_ids as read_concepts
from crp.indices import position_ids

# Values of a channel up to which numpy finds the largest on one core faster than torch does first in lines, of at least
# and at most so many values, on all of them.
_SMALL_PLANE, _SHORT_LINE, _LONG_LINE = 2**11, 2**6, 2**8


def __getattr__(name: str) -> object:
    """Hand on zennit-crp's base class `Concept`, which old code imports from here (PEP 562)."""
    if name != "Concept":
        raise AttributeError(f"module 'crp.concepts' has no attribute {name!r}")
    return import_module("crp.legacy.concepts").Concept


class ConceptKind(Protocol):
    """The interface that mining, explanation and attribution ask of a kind of concept."""

    def size(self, shape: Sequence[int]) -> int: ...

    def masked(self, relevance: Tensor, ids: Sequence[Sequence[int]]) -> Tensor: ...

    def at_positions(self, relevance: Tensor, ids: Tensor, positions: Tensor) -> Tensor: ...

    def total(self, values: Tensor) -> Tensor: ...

    def peak(self, values: Tensor) -> tuple[Tensor, Tensor]: ...


class ChannelConcept:
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

    def size(self, shape: Sequence[int]) -> int:
        """Number of concepts in a layer's output of shape `[C, *S]` (without the samples' axis)."""
        return shape[0]

    def masked(self, relevance: Tensor, ids: Sequence[Sequence[int]]) -> Tensor:
        """Keep only the chosen channels, once per condition.

        Parameters
        ----------
        relevance
            Relevance that arrives at the layer, `[N, C, *S]`.
        ids
            For each of the `K` conditions the channels that may pass.

        Returns
        -------
        Tensor
            `[K, N, C, *S]`, a new tensor.

        Raises
        ------
        InputError
            If a channel is not one of `0 .. C - 1`.
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
            Position of each sample, counted along the flattened space, int64 `[N]` (all 0 for a linear layer).

        Returns
        -------
        Tensor
            `[1, N, C, *S]`, zero everywhere but in `N` entries.
        """
        flat = relevance.flatten(2) if relevance.ndim > 2 else relevance[..., None]
        samples = torch.arange(len(flat), device=flat.device)
        kept = torch.zeros_like(flat)
        kept[samples, ids, positions] = flat[samples, ids, positions]
        return kept.view_as(relevance)[None]

    def total(self, values: Tensor) -> Tensor:
        """Sum over space, `[N, C, *S]` -> `[N, C]`; of bfloat16 in float32, which keeps the digits there are."""
        if values.dtype != torch.bfloat16:
            return values.flatten(2).sum(-1) if values.ndim > 2 else values
        if values.ndim == 2:
            return values.float()
        # a sample at a time, for a sum into another type makes a copy in that type first
        return torch.stack([sample.flatten(1).sum(-1, dtype=torch.float32) for sample in values])

    def peak(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Largest signed value of each channel and its flat position, `[N, C, *S]` -> two of `[N, C]`.

        Of equal values the first position counts.
        """
        return _extreme(values, largest=True)

    def trough(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Smallest signed value of each channel and its flat position, as `peak` finds the largest."""
        return _extreme(values, largest=False)

    # -- the names of zennit-crp -------------------------------------------------------------------------------

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
        """Positions that an output of shape `[C, *S]` has, for `mask_rf`."""
        return np.arange(prod(output_shape[1:]))

    def attribute(
        self,
        relevance: Tensor,
        mask: Tensor | None = None,
        layer_name: str | None = None,
        abs_norm: bool = True,
    ) -> Tensor:
        """Relevance of every concept, `[N, C, *S]` -> `[N, C]`.

        Parameters
        ----------
        relevance
            `[N, C, *S]`.
        mask
            What to multiply relevance with before it is added up: 1 inside a region of the layer, 0 outside.
        layer_name
            Without effect; kinds of concept that differ from layer to layer need it.
        abs_norm
            Whether to divide by the sum over concepts of the absolute value.
        """
        totals = self.total(relevance if mask is None else relevance * mask)
        return _divided(totals) if abs_norm else totals

    def reference_sampling(
        self,
        relevance: Tensor,
        layer_name: str | None = None,
        max_target: str = "sum",
        abs_norm: bool = True,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sort the samples of a batch by how much they count for each concept.

        Parameters
        ----------
        relevance
            Relevance or activation, `[N, C, *S]`.
        layer_name
            Without effect, as in `attribute`.
        max_target
            `"sum"` over space, or `"max"`, the largest signed value.
        abs_norm
            As in `attribute`.

        Returns
        -------
        tuple of three Tensors
            `[N, C]` each, best first: the place in the batch (of equal scores the first), the score, and the flat
            position of the largest signed value.
        """
        peak, positions = self.peak(relevance)
        if max_target not in ("sum", "max"):
            raise InputError(f"max_target is 'sum' or 'max', given {max_target!r}.")
        scores = self.total(relevance) if max_target == "sum" else peak
        scores, samples = (_divided(scores) if abs_norm else scores).sort(dim=0, descending=True, stable=True)
        return samples, scores, positions.gather(0, samples)


def _divided(scores: Tensor) -> Tensor:
    """Scores `[N, C]` divided by their absolute sum; 1e-10 keeps a layer without any at zero."""
    return scores / (scores.abs().sum(1, keepdim=True) + 1e-10)


def trough(concept: ConceptKind, values: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest signed value of each concept and its position, `[N, ...]` -> two of `[N, concepts]`."""
    if hasattr(concept, "trough"):
        return concept.trough(values)
    highest, positions = concept.peak(-values)
    return -highest, positions


def _extreme(values: Tensor, largest: bool) -> tuple[Tensor, Tensor]:
    """Largest or smallest value of each channel and its first flat position, `[N, C, *S]` -> two of `[N, C]`."""
    if values.ndim == 2:
        return values, torch.zeros_like(values, dtype=torch.int64)
    if values.ndim == 4 and not values.is_contiguous():
        # channels last, where this is the fastest; it takes the first of equal values, too
        best, places = nn.functional.adaptive_max_pool2d(values if largest else -values, 1, return_indices=True)
        return (best if largest else -best).flatten(1), places.flatten(1)
    flat = values.detach().flatten(2)
    size, width = flat.shape[2], _line_width(flat.shape[2])
    if width == size:
        place = _first(flat, largest)
        return flat.gather(2, place[..., None])[..., 0], place
    # The best line first, then the best place in it: the largest value is found at the speed of memory, and only one
    # line of each channel is looked at twice.
    lines = flat.unflatten(2, (-1, width))
    line = _first(lines.amax(-1) if largest else lines.amin(-1), largest)
    best = lines.gather(2, line[..., None, None].expand(*line.shape, 1, width))[:, :, 0]
    place = _first(best, largest)
    return best.gather(-1, place[..., None])[..., 0], line * width + place


def _line_width(size: int) -> int:
    """Values of a line, a part of a channel of that size; all of them where lines are of no use."""
    width = max(width for width in range(1, _LONG_LINE + 1) if size % width == 0) if size > _SMALL_PLANE else 0
    return width if width >= _SHORT_LINE else size


def _first(values: Tensor, largest: bool) -> Tensor:
    """First place of the largest or smallest value along the last axis; torch does not promise which of equal ones."""
    if values.device.type == "cpu" and values.dtype != torch.bfloat16:
        return torch.from_numpy(values.numpy().argmax(-1) if largest else values.numpy().argmin(-1))
    extreme = values.amax(-1, keepdim=True) if largest else values.amin(-1, keepdim=True)
    return (values == extreme).to(torch.uint8).argmax(-1)


def _named(layer: str | None) -> str:
    return f"layer '{layer}'" if layer else "the layer"
