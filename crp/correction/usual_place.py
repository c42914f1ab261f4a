"""A concept at its usual place, as a direction of all channels: `placed_direction`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from crp.analysis.learned_directions import filter_directions, pattern_directions
from crp.concepts import ChannelConcept, ConceptKind, Directions
from crp.concepts.encoders import SparseAutoencoder
from crp.correction.activations import gathered
from crp.correction.coincidence import MOST, Cells, mixed, same_content
from crp.correction.presence import REACH, Presence, around, find_presence
from crp.correction.reruns import BATCH, Rerun, checked_samples
from crp.errors import InputError
from crp.progress import in_batches

_CHANNELS = ChannelConcept()
# Positions around a place that belong to it, and how often the samples that show the concept are told apart again, by
# the direction found before.
_SAME, _ROUNDS = 1, 2
# Fewest samples with the concept at its place, and without it; and the part of the samples whose contents are compared.
_LEAST, _COMPARED = 3, 1 / 40


def placed_direction(
    model: nn.Module,
    data: Tensor,
    layer: str,
    concept: int | Sequence[int],
    *,
    kind: ConceptKind = _CHANNELS,
    progress: bool = True,
) -> Directions:
    """Learn to tell a concept at its usual place from everything else in the layer, without labels.

    A channel that responds to a watermark often responds to other things, too, and other channels respond to the
    watermark. So the concept is looked for at the place where samples in which it is largest show the same content, and
    where it goes along with that content (`coincidences`, with the concept's value for the relevance of a class).
    Samples are divided in two groups by its largest value there, at the border that separates the two means best (Otsu
    1979, "A threshold selection method from gray-level histograms"). A linear function of all channels is fitted that
    tells these positions from those elsewhere (`filter_directions`); its values divide the samples again, and it is
    fitted again.

    The result is a kind of concept with one direction, 0, for any function that takes one: `reactive`, `refit`,
    `measure_fix`, `export_masks`. It is active at positions where the linear function is above the value at which it
    misses as large a part of the positions with the concept as it adds of the others. The direction is the difference
    of the two means.

    Parameters
    ----------
    model
        The model; it is not changed.
    data
        Samples `[N, c, *S]`, of which some have the concept at its place and others do not.
    layer, concept, kind
        As in `suppress`.
    progress
        Whether to show progress bars.

    Raises
    ------
    InputError
        If the layer has no grid, if samples show the same content at none of its places, or if the concept has the same
        value at its place in nearly all samples.

    Examples
    --------
    >>> from crp.correction import placed_direction, reactive                                    # doctest: +SKIP
    >>> mark = placed_direction(model, data, "layer2", 27)                                       # doctest: +SKIP
    >>> fixed = reactive(model, data, "layer2", 0, kind=mark)                                    # doctest: +SKIP
    """
    checked_samples(data)
    found = find_presence(model, data, layer, concept, kind, progress=progress)
    place, values = _usual_place(model, data, found, progress)
    watched: ConceptKind = kind
    for again in range(_ROUNDS):
        if again:
            values = _values(model, data, found, watched, progress)
        here = values[:, place]  # [N, p]
        active = torch.zeros_like(found.active)
        active[:, place] = (here > _border(here.amax(1))).to(active.device)
        there = replace(found, active=active, near=around(active, found.layout, REACH))
        _, with_it, without_it = gathered(model, data, found.layer, found.layout, there, progress=progress)
        weight = filter_directions({"concept": (with_it, without_it)}).matrix[0].double()
        border = _equal_errors(with_it @ weight, without_it @ weight)
        pattern = pattern_directions({"concept": (with_it, without_it)}).matrix
        bias = weight.new_tensor([-border]).to(pattern)
        encoder = SparseAutoencoder(weight[:, None].to(pattern), bias, torch.zeros_like(pattern[0]))
        watched = Directions(pattern, encoder, (f"{layer}/{'+'.join(map(str, found.ids))} at its place",))
    return watched


def _usual_place(model: nn.Module, data: Tensor, found: Presence, progress: bool) -> tuple[Tensor, Tensor]:
    """Find the place at which the concept goes along with one content.

    Returns
    -------
    tuple of two Tensors
        The positions of the place and those around, int64 `[p]`; the largest of the concept's values at each
        position, relative to their largest ones, `[N, P]`.
    """
    cells = Cells(found.layout)
    if cells.count < 2:
        raise InputError(f"Layer '{found.layer}' has no positions, so a concept has no usual place in it.")
    rerun, contents, read = Rerun(model, found.layer), [], []
    for _, batch in in_batches(data, BATCH, "comparing places", shown=progress):
        rerun.run(batch)
        contents.append(cells.mean(found.layout.split(rerun.activation)).cpu())
        read.append(found.kind.values(rerun.activation, found.layout)[:, list(found.ids)])
    values = _relative(torch.cat(read))
    own = values.cpu()
    strength = own[:, found.layout.prefix :].amax(1, keepdim=True)
    compared = min(MOST, max(_LEAST, int(_COMPARED * len(data))))
    alike = same_content(torch.cat(contents), cells.mean(own), strength, mixed(torch.arange(len(data))), compared)[0]
    if not alike.max() > 0:
        raise InputError(
            f"The concept has no usual place: of the {len(data)} samples, those in which it is strongest do not show "
            "the same content at any place."
        )
    there = torch.zeros_like(found.active[:1])
    there[0, found.layout.prefix :] = (cells.of == alike.argmax()).to(there.device)
    return around(there, found.layout, _SAME)[0].nonzero().flatten(), values


def _values(model: nn.Module, data: Tensor, found: Presence, direction: ConceptKind, progress: bool) -> Tensor:
    """Return the values of the one concept of a kind at each position, relative to the largest one, `[N, P]`."""
    rerun, values = Rerun(model, found.layer), []
    for _, batch in in_batches(data, BATCH, "dividing samples", shown=progress):
        rerun.run(batch)
        values.append(direction.values(rerun.activation, found.layout))
    return _relative(torch.cat(values))


def _relative(every: Tensor) -> Tensor:
    """Divide values of concepts, `[N, n, P]`, by the largest of each, and take the largest at each position."""
    return (every / every.amax((0, 2))[:, None].clamp(min=1e-12)).amax(1)


def _border(values: Tensor) -> float:
    """Return the border between two groups of at least three values `[N]` whose means are best separated (Otsu 1979).

    Raises
    ------
    InputError
        If nearly all values are equal.
    """
    ordered = values.double().cpu().sort().values
    below = torch.arange(1, len(ordered))
    low = ordered.cumsum(0)[:-1]
    gap = (ordered.sum() - low) / (len(ordered) - below) - low / below
    allowed = (below >= _LEAST) & (below <= len(ordered) - _LEAST) & (ordered[1:] > ordered[:-1])
    if not allowed.any():
        raise InputError(
            f"At its usual place, the concept has the same value in nearly all of the {len(values)} samples, so those "
            "that show it cannot be told from others."
        )
    best = int(torch.where(allowed, below * (len(ordered) - below) * gap**2, -torch.inf).argmax())
    return float((ordered[best] + ordered[best + 1]) / 2)


def _equal_errors(having: Tensor, lacking: Tensor) -> float:
    """Return the border below which as large a part of `having` is as of `lacking` is above, or the middle of a gap."""
    parts = torch.linspace(0, 0.5, 501, dtype=having.dtype)
    low, high = torch.quantile(having, parts), torch.quantile(lacking, 1 - parts)
    first = int((low >= high).to(torch.uint8).argmax()) if bool((low >= high).any()) else -1
    return float((low[first] + high[first]) / 2)
