"""What a kind of concept is: `ConceptKind`, the base class that divides a layer's output into parts.

Axes: `N` samples, `K` conditions, `n` concepts, `P` flat positions of the layer, `*shape` the layer's output without
its samples' axis.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from crp.errors import InputError
from crp.layout import Layout

# Bytes of the parts that are held at the same time.
_LARGEST = 2**26


class ConceptKind(ABC):
    r"""A kind of concept: it divides a layer's output into one part per concept and a rest.

    .. math:: a = \sum_j part_j(a) + rest(a)

    A subclass says how many concepts a layer has (`size`) and what their parts are (`parts`). Everything else follows,
    once for all kinds (`crp.concepts.Parts`): the relevance of concept j is :math:`R \cdot part_j(a) / a`, summed over
    the layer; a condition on j carries that down; the model without j continues with :math:`a - part_j(a)`. Where an
    activation is 0, its relevance belongs to the rest. Relevance, activation and patches of a concept have a position,
    one of the layer's.

    `values`, `places` and `name` have defaults. `weighted` and `by_position` may be overridden for speed; they must
    compute what the defaults compute. `averages` and `mean_parts` may be overridden for compactness, both together.

    Attributes
    ----------
    masks
        Whether every part is the activation times a constant factor (channels, tokens, heads). Relevance is then
        multiplied by the same factor, also where the activation is 0.
    local
        Whether the part at a position depends on the activation at this position alone, and is no mask (directions).
        Patches then need the parts of single positions only.
    averages_values
        Whether `averages` is the mean of `values` over positions, so that values at hand need not be computed again.
    """

    masks: bool = False
    local: bool = False
    averages_values: bool = False

    @abstractmethod
    def size(self, layout: Layout) -> int:
        """Return the number of concepts in a layer.

        Raises
        ------
        InputError
            If the layer has no concepts of this kind.
        """

    @abstractmethod
    def parts(self, activation: Tensor, ids: Sequence[int], layout: Layout) -> Tensor:
        """Return the parts of some concepts.

        Parameters
        ----------
        activation
            Output of the layer, `[N, *shape]`.
        ids
            Which concepts, each in `0 .. size - 1`.
        layout
            What its axes mean.

        Returns
        -------
        Tensor
            `[len(ids), N, *shape]`.
        """

    def values(self, activation: Tensor, layout: Layout) -> Tensor:
        """Return how active every concept is at every position, `[N, n, P]`; by default the length of its part."""
        return torch.cat(
            [
                torch.linalg.vector_norm(layout.split(self.checked_parts(activation, ids, layout)), dim=2).movedim(0, 1)
                for ids in self._chunks(activation, layout)
            ],
            dim=1,
        )

    def places(self, layout: Layout) -> Tensor | None:
        """Return at which positions each concept can be, bool `[n, P]`; None if every one can be anywhere.

        A concept's strongest position is searched among these.
        """
        return None

    def name(self, concept: int, layout: Layout) -> str:
        """Return the name of a concept, for people; empty if it has only its number."""
        return ""

    # -- means over a data set ---------------------------------------------------------------------------------

    def averages(self, activation: Tensor, layout: Layout) -> Tensor:
        """Return the numbers of each sample whose means over samples make the mean parts, `[N, m]`.

        Means are taken over positions, too, except for concepts that have a place of their own (`places`). If `masks`,
        the numbers are the mean activation of each channel, `m = C`, or the activation, `m = C * P`, of which
        the mean parts are parts. Otherwise they are the part of each concept, averaged over its positions, `m = n * C`.
        """
        places = self.places(layout)
        if self.masks:
            split = layout.split(activation)
            return split.mean(2) if places is None else split.flatten(1)
        share = activation.new_ones(self.size(layout), layout.positions) if places is None else places.to(activation)
        share = share / share.sum(1, keepdim=True)
        found = [
            torch.einsum("kncp,kp->nkc", layout.split(self.checked_parts(activation, ids, layout)), share[list(ids)])
            for ids in self._chunks(activation, layout)
        ]
        return torch.cat(found, dim=1).flatten(1)

    def mean_parts(self, numbers: Tensor, weights: Tensor, layout: Layout) -> Tensor:
        """Return weighted sums of mean parts, made of the means of `averages`: `[m]`, `[K, n]` -> `[K, *shape]`."""
        places = self.places(layout)
        if self.masks:
            whole = numbers.unflatten(0, (layout.channels, -1)).expand(-1, layout.positions)
            return self.weighted(layout.joined(whole)[None], weights, layout)[:, 0]
        means = numbers.unflatten(0, (weights.shape[1], layout.channels))
        if places is None:
            return layout.joined((weights @ means)[..., None].expand(-1, -1, layout.positions))
        return layout.joined(torch.einsum("kn,nc,np->kcp", weights, means, places.to(numbers)))

    def checked_parts(self, activation: Tensor, ids: Sequence[int], layout: Layout) -> Tensor:
        """Return `parts`; `InputError` if their shape or dtype is another than that of parts of the activation."""
        found, shape = self.parts(activation, ids, layout), (len(ids), *activation.shape)
        if found.shape != shape or found.dtype != activation.dtype:
            raise InputError(
                f"{type(self).__name__}.parts must return {list(shape)} of {activation.dtype}, one part for each of "
                f"{len(ids)} concepts, and returned {list(found.shape)} of {found.dtype}."
            )
        return found

    # -- derived from the parts --------------------------------------------------------------------------------

    def weighted(self, activation: Tensor, weights: Tensor, layout: Layout) -> Tensor:
        """Return weighted sums of parts: activation `[N, *shape]` and weights `[K, n]` -> `[K, N, *shape]`."""
        total = activation.new_zeros(len(weights), *activation.shape)
        used = weights.any(0).nonzero().flatten().tolist()
        for ids in self._chunks(activation, layout, used):
            parts = self.checked_parts(activation, ids, layout)
            total += torch.tensordot(weights[:, list(ids)].to(activation), parts, 1)
        return total

    def by_position(self, factor: Tensor, activation: Tensor, layout: Layout) -> Tensor:
        """Sum factor times part over channels, for every concept: two of `[N, *shape]` -> `[N, n, P]`."""
        return torch.cat(
            [
                layout.split(factor * self.checked_parts(activation, ids, layout)).sum(2).movedim(0, 1)
                for ids in self._chunks(activation, layout)
            ],
            dim=1,
        )

    def _chunks(
        self, activation: Tensor, layout: Layout, ids: Sequence[int] | None = None
    ) -> Sequence[Sequence[int]]:
        ids = range(self.size(layout)) if ids is None else ids
        step = max(1, _LARGEST // max(1, activation.nbytes))
        return [ids[first : first + step] for first in range(0, len(ids), step)]
