"""The parts of one layer in one forward pass, and what follows from them: `Parts`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from crp.errors import InputError
from crp.layout import Layout
from crp.values import ConceptMeans

from .extremes import extreme
from .protocol import ConceptKind
from .selection import weights_of

# Single positions whose parts are computed at the same time.
_ROWS = 32


class Located(Protocol):
    """Values of every concept at every position of a layer, reduced to sums and extremes.

    Attributes
    ----------
    total
        Sum over positions, `[N, n]`.
    """

    total: Tensor

    def peak(self) -> tuple[Tensor, Tensor]:
        """Find the largest signed value of each concept and its first flat position, two of `[N, n]`."""

    def trough(self) -> tuple[Tensor, Tensor]:
        """Find the smallest signed value of each concept and its first flat position, two of `[N, n]`."""


class Parts:
    """The parts of a layer's output: a kind of concept, told the layer's layout and activation.

    Parameters
    ----------
    kind
        The kind of concept.
    activation
        Output of the layer in a forward pass, `[N, *shape]`.
    layout
        What its axes mean.
    layer
        Its name, for messages.
    """

    def __init__(self, kind: ConceptKind, activation: Tensor, layout: Layout, layer: str = "") -> None:
        self.kind = kind
        self.layout = layout
        self.where = f"layer {layer!r}" if layer else "the layer"
        self._activation = activation

    @cached_property
    def size(self) -> int:
        """Number of concepts."""
        return self.kind.size(self.layout)

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self._activation)

    @property
    def like(self) -> Tensor:
        """The activation, `[N, *shape]`, whose dtype and device the parts have."""
        return self._activation

    @property
    def masks(self) -> bool:
        """Whether every part is the activation times a constant factor."""
        return self.kind.masks

    def weights(self, conditions: Sequence[Any], like: Tensor) -> Tensor:
        """Read the weight of each concept in each condition (`crp.concepts.weights_of`), `[K, n]`."""
        return torch.stack([weights_of(chosen, self.size, self.where, like) for chosen in conditions])

    def of_samples(self, samples: Tensor) -> Parts:
        """Return the parts of some samples, int64 `[M]`, which may repeat."""
        found = type(self)(self.kind, self._activation[samples], self.layout)
        found.where = self.where
        return found

    def averages(self) -> Tensor:
        """Return the numbers of each sample whose means make the mean parts, `[N, m]` (`ConceptKind.averages`)."""
        if self.kind.averages_values:
            return self.activation().total / self.layout.positions
        return self.kind.averages(_exact(self._activation), self.layout)

    def means(self) -> ConceptMeans:
        """Average over the samples."""
        return ConceptMeans(self.averages().double().mean(0).cpu().numpy(), self.samples)

    def of_means(self, means: ConceptMeans) -> MeanParts:
        """Return the mean parts over a data set, which `means` holds in numbers.

        Raises
        ------
        InputError
            If these are not means of this kind of concept in this layer.
        """
        return MeanParts(self, means)

    def filled(self, numbers: Tensor, conditions: Sequence[Any]) -> Tensor:
        """Return sums of mean parts, once per condition: `[m]` -> `[K, *shape]`."""
        return self.kind.mean_parts(numbers, self.weights(conditions, numbers), self.layout)

    def part(self, conditions: Sequence[Any]) -> Tensor:
        """Return the sum of the chosen parts, each with its weight, once per condition: `[K, N, *shape]`."""
        activation = self._activation
        return self.kind.weighted(activation, self.weights(conditions, activation), self.layout)

    def carried(self, relevance: Tensor, conditions: Sequence[Any]) -> Tensor:
        r"""Keep the relevance of the chosen concepts, once per condition.

        Parameters
        ----------
        relevance
            Relevance that arrives at the layer, `[N, *shape]`.
        conditions
            For each of the `K` conditions, what `weights_of` reads.

        Returns
        -------
        Tensor
            `[K, N, *shape]`: :math:`R \cdot \sum_j w_j part_j(a) / a`.

        Raises
        ------
        InputError
            If the layer has no such concept.
        """
        weights = self.weights(conditions, relevance)
        if self.kind.masks:
            return self.kind.weighted(relevance, weights, self.layout)
        activation = self._activation.to(relevance.dtype)
        return _divided(relevance, activation) * self.kind.weighted(activation, weights, self.layout)

    def carried_each(self, relevance: Tensor, ids: Sequence[int]) -> Tensor:
        """Keep the relevance of another concept for each sample: `[N, *shape]` -> the same."""
        return torch.stack(
            [self._of(row).carried(relevance[row, None], [[index]])[0, 0] for row, index in enumerate(ids)]
        )

    def rest(self, relevance: Tensor) -> Tensor:
        """Return the relevance `[N, *shape]` that belongs to no concept; with those of all parts it is the whole."""
        return relevance - self.carried(relevance, [range(self.size)])[0]

    def at_positions(self, relevance: Tensor, ids: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Keep the relevance of one concept at one position for each sample: `[N, *shape]` -> the same."""
        if self.kind.local:
            activation, arriving = (self._here(each, positions) for each in (self._activation, relevance))
            activation = activation.to(arriving.dtype)
            return self._placed(_divided(arriving, activation) * self._local_parts(activation, ids), positions)
        return self._kept(self.carried_each(relevance, ids), positions)

    def active_at(self, ids: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Return the part of one concept at one position for each sample, `[N, *shape]`."""
        if self.kind.local:
            return self._placed(self._local_parts(self._here(self._activation, positions), ids), positions)
        rows = [self._of(row).part([[index]])[0, 0] for row, index in enumerate(ids)]
        return self._kept(torch.stack(rows), positions)

    def relevance(self, relevance: Tensor) -> Located:
        """Locate the relevance `[N, *shape]` of every concept."""
        return _LocatedByPosition(lambda: self._relevance_of_each(relevance), self._places)

    def total(self, relevance: Tensor) -> Tensor:
        """Sum the relevance of every concept, `[..., N, *shape]` -> `[..., N, n]`."""
        axes = len(self.layout.shape) + 1
        lead = relevance.shape[:-axes]
        rows = relevance.reshape(-1, *relevance.shape[-axes:])
        return torch.stack([self.relevance(row).total for row in rows]).reshape(*lead, len(self._activation), -1)

    def activation(self) -> Located:
        """Locate the activation of every concept."""
        return self._active

    @cached_property
    def _active(self) -> Located:
        return _LocatedByPosition(
            lambda: (self.kind.values(_exact(sample[None]), self.layout) for sample in self._activation), self._places
        )

    # -- internals ---------------------------------------------------------------------------------------------

    @cached_property
    def _places(self) -> Tensor | None:
        places = self.kind.places(self.layout)
        return None if places is None else places.to(self._activation.device)

    def _of(self, row: int) -> Parts:
        return type(self)(self.kind, self._activation[row, None], self.layout)

    def _here(self, values: Tensor, positions: Sequence[int]) -> Tensor:
        """Return one position of each sample, `[N, *shape]` -> `[N, C]`."""
        return self.layout.split(values)[range(len(values)), :, list(positions)]

    def _local_parts(self, activation: Tensor, ids: Sequence[int]) -> Tensor:
        """Return the part of one concept for each activation `[N, C]` of a position."""
        found, here = [], Layout((self.layout.channels,))
        for first in range(0, len(ids), _ROWS):
            some = list(ids[first : first + _ROWS])
            chosen = sorted(set(some))
            parts = self.kind.checked_parts(activation[first : first + _ROWS], chosen, here)
            found.append(parts[[chosen.index(one) for one in some], range(len(some))])
        return torch.cat(found)

    def _placed(self, values: Tensor, positions: Sequence[int]) -> Tensor:
        """Undo `_here`, with 0 at all other positions."""
        found = values.new_zeros(*values.shape, self.layout.positions)
        found[range(len(values)), :, list(positions)] = values
        return self.layout.joined(found)

    def _kept(self, values: Tensor, positions: Sequence[int]) -> Tensor:
        """Keep one position of each sample."""
        flat = self.layout.split(values)
        here = torch.arange(flat.shape[-1], device=flat.device) == torch.tensor(positions, device=flat.device)[:, None]
        return self.layout.joined(flat * here[:, None])

    def _relevance_of_each(self, relevance: Tensor) -> Iterator[Tensor]:
        """Yield relevance by concept and position of one sample after the other, `[1, n, P]`, to bound memory."""
        for arriving, sample in zip(_exact(relevance), self._activation, strict=True):
            activation = sample[None].to(arriving.dtype)
            if self.kind.masks:
                yield self.kind.by_position(torch.ones_like(activation), arriving[None], self.layout)
            else:
                yield self.kind.by_position(_divided(arriving[None], activation), activation, self.layout)


class MeanParts:
    """The mean part of each concept of a layer over a data set, the same for every sample; made by `Parts.of_means`.

    Parameters
    ----------
    parts
        The layer's parts in any pass.
    means
        What the mean parts are made of.

    Raises
    ------
    InputError
        If these are not means of this kind of concept in this layer, or of no sample.
    """

    def __init__(self, parts: Parts, means: ConceptMeans) -> None:
        if not means.samples:
            raise InputError(f"The means of {parts.where} are of no sample: all were skipped.")
        count = parts.of_samples(torch.tensor([0])).averages().shape[1]
        if len(means.numbers) != count:
            raise InputError(
                f"The mean parts of {parts.where} are made of {count} numbers for this kind of concept, given "
                f"{len(means.numbers)}: means of another layer or kind."
            )
        self._parts, self._numbers = parts, torch.from_numpy(means.numbers.copy()).to(parts.like)

    def part(self, conditions: Sequence[Any]) -> Tensor:
        """Return the sum of the chosen mean parts, each with its weight, once per condition: `[K, 1, *shape]`."""
        return self._parts.filled(self._numbers, conditions)[:, None]

    def of_samples(self, samples: Tensor) -> MeanParts:
        """Return the mean parts, which are those of any samples."""
        return self


class _LocatedByPosition:
    """Values by concept and position, `[N, n, P]`, read once in pieces along the samples."""

    def __init__(self, pieces: Callable[[], Iterator[Tensor]], places: Tensor | None) -> None:
        self._pieces, self._places = pieces, places

    @property
    def total(self) -> Tensor:
        return self._found["total"]

    def peak(self) -> tuple[Tensor, Tensor]:
        return self._found["peak"], self._found["peak_at"]

    def trough(self) -> tuple[Tensor, Tensor]:
        return self._found["trough"], self._found["trough_at"]

    @cached_property
    def _found(self) -> dict[str, Tensor]:
        names = ("total", "peak", "peak_at", "trough", "trough_at")
        rows = [
            (values.sum(2), *self._extreme(values, True), *self._extreme(values, False)) for values in self._pieces()
        ]
        return dict(zip(names, map(torch.cat, zip(*rows, strict=True)), strict=True))

    def _extreme(self, values: Tensor, largest: bool) -> tuple[Tensor, Tensor]:
        if self._places is not None:
            values = values.masked_fill(~self._places, float("-inf") if largest else float("inf"))
        return extreme(values, largest=largest)


def _divided(relevance: Tensor, activation: Tensor) -> Tensor:
    """Divide relevance by the activation; 0 where the activation is 0."""
    return torch.where(activation == 0, 0, relevance / activation)


def _exact(values: Tensor) -> Tensor:
    """Convert bfloat16 to float32, in which sums are exact enough."""
    return values.float() if values.dtype == torch.bfloat16 else values
