"""Whether a concept lies at the same place of the input in different samples: `coincidences`."""

from __future__ import annotations

from collections.abc import Collection
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from crp.attribution import RelevanceFlow, composite_for, prepare
from crp.concepts import ConceptKind, Located
from crp.correction.reruns import BATCH
from crp.layout import Layout
from crp.progress import in_batches
from crp.relevance_shares import stabilised_shares

# Samples of a class whose places are compared: those that use the concept most. At most half of the class, because
# what it takes to be a coincidence is told from the rest.
MOST, LEAST = 20, 10
# Cells of the grid in which places are counted.
_CELLS = 64

Coincidences = dict[str, dict[int, np.ndarray]]


def coincidences(
    model: nn.Module, data: Tensor, layers: Collection[str], kind: ConceptKind, *, progress: bool = True
) -> Coincidences:
    r"""Measure how often a concept lies at the same place in two samples of a class, beyond chance.

    A feature of objects moves with them. A watermark, a frame or a date in a corner does not. The place of a concept in
    a sample is where its relevance for the predicted class is largest, on a grid of 8 x 8 cells (64 in one dimension,
    4 x 4 x 4 in three). Of the samples of a class, the 20 that use the concept most are compared (or half of them):

    .. math:: \frac{p - e}{1 - e}, \quad p = \sum_z \frac{n_z (n_z - 1)}{k (k - 1)}, \quad e = \sum_z q_z^2

    :math:`n_z` of :math:`k` samples have it in cell z, so p is how many pairs of them agree; :math:`q_z` is how often
    any concept of the layer lies there in any sample, so e is how many pairs agree by chance. This is the form of
    Cohen's kappa (Cohen 1960, "A coefficient of agreement for nominal scales"): 1 for a concept that never moves, about
    0 for one that is at any place as often as others. In data that are aligned, such as faces, features do not move
    either.

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
        By layer and class, a number for each concept, float64 `[C]`. Layers without a grid are left out, and so are
        classes that fewer than 20 samples are predicted as.
    """
    replica = prepare(model, composite_for(model, data[:1]).composite)
    cells: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    shares: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    classes, counts = [], {}
    for _, batch in in_batches(data, BATCH, "comparing places", shown=progress):
        with RelevanceFlow(replica, None, batch, list(layers), to_input=False) as flow:
            predicted = flow.prediction.argmax(1)

            def visit(layer: str, arriving: Tensor, flow: RelevanceFlow = flow) -> None:
                layout = flow.layout(layer)
                if layout.grid:
                    located = flow.parts(layer, kind).relevance(arriving)
                    shares[layer].append(stabilised_shares(located.total).cpu())
                    found, counts[layer] = _cells(located, layout)
                    cells[layer].append(found.cpu())

            flow.sweep(flow.output_relevance(predicted), list(layers), visit)
        classes.append(predicted.cpu())
    return {
        layer: _by_class(torch.cat(cells[layer]), torch.cat(shares[layer]), torch.cat(classes), count)
        for layer, count in counts.items()
    }


def _cells(located: Located, layout: Layout) -> tuple[Tensor, int]:
    """Return the cell in which each concept's relevance is largest, -1 for none, `[N, C]`; and the number of cells."""
    largest, at = located.peak()
    a_side = int(_CELLS ** (1 / len(layout.grid)) + 1e-9)
    sides = [min(a_side, extent) for extent in layout.grid]
    rest, cell, step = at - layout.prefix, torch.zeros_like(at), 1
    for extent, side in zip(reversed(layout.grid), reversed(sides), strict=True):
        cell = cell + step * ((rest % extent) * side // extent)
        rest, step = rest // extent, step * side
    return torch.where((largest > 0) & (at >= layout.prefix), cell, -1), prod(sides)


def _by_class(cells: Tensor, shares: Tensor, classes: Tensor, count: int) -> dict[int, np.ndarray]:
    found = {}
    placed = cells[cells >= 0].bincount(minlength=count).double()
    if not placed.sum():
        return found
    chance = float((placed / placed.sum()).square().sum())
    if chance == 1:
        return found
    for target in classes.unique().tolist():
        rows = (classes == target).nonzero().flatten()
        compared = min(MOST, len(rows) // 2)
        if compared < LEAST:
            continue
        users = shares[rows].argsort(dim=0, descending=True, stable=True)[:compared]  # [k, C]
        there = cells[rows].gather(0, users).T  # [C, k]
        times = torch.nn.functional.one_hot(there + 1, count + 1)[..., 1:].sum(1).double()
        agreeing = (times * (times - 1)).sum(1) / (compared * (compared - 1))
        found[target] = ((agreeing - chance) / (1 - chance)).numpy()
    return found
