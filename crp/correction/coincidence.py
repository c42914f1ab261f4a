"""Whether a class relies on the same content at the same place of the input: `coincidences`."""

from __future__ import annotations

from collections.abc import Collection
from math import prod

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from crp.attribution import RelevanceFlow, composite_for, prepare
from crp.concepts import ConceptKind
from crp.correction.reruns import BATCH
from crp.layout import Layout
from crp.progress import in_batches

# Samples whose contents are compared at most, and the fewest of a class.
MOST, LEAST = 20, 20
# Cells of the grid in which places are counted.
_CELLS = 64
# Variation of a concept's values, relative to their size, that is rounding.
_ROUNDING = 1e-6

Coincidences = dict[str, dict[int, np.ndarray]]


def coincidences(
    model: nn.Module, data: Tensor, layers: Collection[str], kind: ConceptKind, *, progress: bool = True
) -> Coincidences:
    r"""Measure how much of a concept is one content at one place, on which a class relies.

    A feature of objects varies and moves with them. A watermark, a frame or a date in a corner is the same at the same
    place. All channels of the layer are its content at a place, so a mark that many channels respond to is found, too.
    Places are the cells of an 8 x 8 grid (64 in one dimension, 4 x 4 x 4 in three).

    The samples that are predicted as a class are divided in halves. For each place z, the samples of the first half
    that have the largest part of their positive relevance there are compared (20, or half of them):

    .. math:: place_c = \max_z \; alike_z \cdot here_z \cdot r_{zc}

    - *alike* is the mean cosine similarity between the contents of two of them at z. From every content, the mean of
      all samples at that place is subtracted.
    - *here*: their mean content is looked for at all places of the samples of the second half. Of those that match it
      best, as many as were compared, it is the part that has it at z, beyond chance. What is common elsewhere, such as
      a background or a texture, is not of the place.
    - *r* is the correlation, over the samples of the class, between how well their content at z matches, and the
      largest value of concept c.

    Negative factors count as 0, and so do places with less than an even part of the relevance. Many concepts may
    respond to what is at a place; it counts for the one with the largest product only.

    Parameters
    ----------
    model
        The model; it is not changed. No labels are used.
    data
        Samples `[N, c, *S]`.
    layers
        Names of layers.
    kind
        The kind of their concepts.
    progress
        Whether to show a progress bar.

    Returns
    -------
    dict of str to dict of int to numpy.ndarray
        By layer and class, a number from 0 to 1 for each concept, float64 `[C]`. Layers with fewer than two places are
        left out, and so are classes that fewer than 20 samples are predicted as.
    """
    replica = prepare(model, composite_for(model, data[:1]).composite)
    found: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {layer: [] for layer in layers}
    classes = []
    for _, batch in in_batches(data, BATCH, "comparing places", shown=progress):
        with RelevanceFlow(replica, None, batch, list(layers), to_input=False) as flow:
            predicted = flow.prediction.argmax(1)

            def visit(layer: str, arriving: Tensor, flow: RelevanceFlow = flow) -> None:
                layout, activation = flow.layout(layer), flow.activation(layer)
                cells = Cells(layout)
                if cells.count > 1:
                    supporting = cells.total(layout.split(arriving).clamp(min=0).sum(1))  # [n, Z]
                    strength = kind.values(activation, layout)[..., layout.prefix :].amax(2)
                    kept = (cells.mean(layout.split(activation)), normalize(supporting, 1, 1), strength)
                    found[layer].append(tuple(values.cpu() for values in kept))

            flow.sweep(flow.output_relevance(predicted), list(layers), visit)
        classes.append(predicted.cpu())
    predicted = torch.cat(classes)
    return {
        layer: _by_class(*map(torch.cat, zip(*rows, strict=True)), predicted) for layer, rows in found.items() if rows
    }


class Cells:
    """The cells of a coarse grid over the positions of a layer.

    Attributes
    ----------
    of
        The cell of each position on the layer's grid, int64 `[P]`, without those in front of it.
    count
        Number of cells; 0 for a layer without a grid.
    """

    def __init__(self, layout: Layout) -> None:
        self._prefix, self.count = layout.prefix, 0
        if layout.grid:
            a_side = int(_CELLS ** (1 / len(layout.grid)) + 1e-9)
            sides = [min(a_side, extent) for extent in layout.grid]
            self.count, self.of = prod(sides), torch.zeros(1, dtype=torch.int64)
            for extent, side in zip(layout.grid, sides, strict=True):
                along = torch.arange(extent) * side // extent
                self.of = (self.of[:, None] * side + along).flatten()

    def total(self, values: Tensor) -> Tensor:
        """Add up values of positions in each cell, `[..., P] -> [..., Z]`."""
        found = values.new_zeros(*values.shape[:-1], self.count)
        return found.index_add(-1, self.of.to(values.device), values[..., self._prefix :])

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of values of positions in each cell, `[..., P] -> [..., Z]`."""
        return self.total(values) / self.of.bincount(minlength=self.count).to(values)


def same_content(contents: Tensor, by: Tensor, strength: Tensor, rows: Tensor, compared: int) -> Tensor:
    """Measure how much of some concepts is one content at one place, for each place.

    Parameters
    ----------
    contents
        Channels at each place, `[N, C, Z]`.
    by
        By what samples are chosen at each place, `[N, Z]`: those with the largest numbers.
    strength
        The concepts' values in the samples, `[N, K]`.
    rows
        The samples that are compared, int64 `[n]`, the two halves one after the other. Means are those of all.
    compared
        How many of them are compared at a place.

    Returns
    -------
    Tensor
        From 0 to 1, `[K, Z]`: the product that `coincidences` describes.
    """
    size, count = (len(rows) + 1) // 2, contents.shape[2]
    first, second = rows[:size], rows[size:]
    chosen = first[by[first].argsort(dim=0, descending=True, stable=True)[:compared]]  # [k, Z]
    places = torch.arange(count)
    there = contents[chosen, :, places]  # [k, Z, C]
    of_place = normalize(there - contents.mean(0).T, dim=2)
    alike = (of_place.sum(0).square().sum(1) - compared) / (compared * (compared - 1))
    middle = contents.mean((0, 2))
    wanted = normalize(normalize(there - middle, dim=2).sum(0), dim=1)  # [Z, C]
    match = torch.stack([wanted @ normalize(one - middle[:, None], dim=0) for one in contents[rows]])  # [n, Z, Z]
    best, at = match[size:].max(2)
    nearest = best.argsort(dim=0, descending=True, stable=True)[: min(compared, len(second))]
    here = (at.gather(0, nearest) == places).to(contents).mean(0)
    here = (here - 1 / count) / (1 - 1 / count)
    own = match.diagonal(dim1=1, dim2=2)  # [n, Z]: how well the content at the place matches
    return alike.clamp(min=0) * here.clamp(min=0) * _correlation(strength[rows], own).clamp(min=0)


def mixed(rows: Tensor) -> Tensor:
    """Return rows in an order that has nothing to do with theirs, and is always the same."""
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Return the correlation of the columns of two tables, `[n, K], [n, Z] -> [K, Z]`; 0 for those without variance."""
    units = []
    for values in (first.double(), second.double()):
        centred = values - values.mean(0)
        length = centred.norm(dim=0)
        constant = length <= _ROUNDING * values.norm(dim=0)
        units.append(torch.where(constant, 0.0, centred / length.clamp(min=1e-300)))
    return units[0].T @ units[1]


def _by_class(contents: Tensor, relevance: Tensor, strength: Tensor, classes: Tensor) -> dict[int, np.ndarray]:
    found = {}
    for target in classes.unique().tolist():
        rows = mixed((classes == target).nonzero().flatten())
        if len(rows) < LEAST:
            continue
        compared = min(MOST, len(rows) // 4)
        values = same_content(contents, relevance, strength, rows, compared)
        chosen = relevance[rows[: (len(rows) + 1) // 2]].topk(compared, 0).values
        relied = chosen.mean(0) > 1 / relevance.shape[1]
        values = torch.where(relied & (values == values.amax(0)), values, 0.0)  # each place is one concept's
        found[target] = values.amax(1).numpy()
    return found
