"""Models without a concept: `suppress`, `project` and `reactive`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crp.analysis.learned_directions import filter_directions, pattern_directions
from crp.concepts import ChannelConcept, ConceptKind, Parts
from crp.correction.activations import activation_after, gathered
from crp.correction.channel_maps import ChannelMap, part_matrix
from crp.correction.corrections import Correction, inserted, mapped
from crp.correction.eraser import Eraser
from crp.correction.presence import ACTIVE, REACH, find_presence, observed_layers
from crp.correction.reruns import Rerun, checked_samples
from crp.errors import InputError, nearest
from crp.indices import concept_ids
from crp.values import ConceptMeans

_CHANNELS = ChannelConcept()
FILLS = ("zero", "mean")
_DIRECTIONS = {"pattern": pattern_directions, "filter": filter_directions}


def suppress(
    model: nn.Module,
    data: Tensor,
    layer: str,
    concept: int | Sequence[int],
    *,
    kind: ConceptKind = _CHANNELS,
    fill: str = "zero",
    means: ConceptMeans | None = None,
    progress: bool = True,
) -> Correction:
    r"""Take concepts out of a layer, for every input.

    .. math:: a - \sum_j part_j(a) + fill

    Where the layer is the output of a linear layer, a convolution or a norm, the result has the same architecture and
    other weights; elsewhere a module of torch is added after the layer.

    Parameters
    ----------
    model
        The model; it is not changed.
    data
        Samples `[N, c, *S]`, on which the concept is observed.
    layer, concept
        The layer, and the ids of one or several of its concepts.
    kind
        The kind of concept.
    fill
        What takes the place of the parts: `"zero"`, or their `"mean"` over samples and positions.
    means
        With `fill="mean"`: means over the mined data set (`Library.means`), those that explanations use, instead of
        means over `data`.
    progress
        Whether to show progress bars.

    Raises
    ------
    InputError
        If there is no such concept, or weights cannot take it out.
    ModelError
        If the model cannot be changed at this layer.
    """
    checked_samples(data)
    if fill not in FILLS:
        raise InputError(f"There is no fill {fill!r}: {nearest(str(fill), FILLS)}")
    layer, layout = observed_layers(model, data, [layer])[layer]
    ids = concept_ids(concept, kind.size(layout), f"layer '{layer}'")
    rerun = Rerun(model, layer)
    rerun.run(data[:8])
    matrix = part_matrix(kind, ids, layout, rerun.activation)
    shift = matrix.new_zeros(len(matrix))
    if fill == "mean":
        if means is None:
            shift = matrix @ gathered(model, data, layer, layout, progress=progress)[0]
        else:
            filled = Parts(kind, rerun.activation, layout, layer).of_means(means).part([list(ids)])[0, 0]
            shift = layout.split(filled.cpu().double()[None])[0, :, 0]  # the same at every position, as the matrix is
    removal = ChannelMap(torch.eye(len(matrix), dtype=torch.float64) - matrix, shift)
    return mapped(model, data, layer, layout, removal, f"suppressed, {fill} in its place")


def project(
    model: nn.Module,
    data: Tensor,
    layer: str,
    concept: int | Sequence[int],
    *,
    kind: ConceptKind = _CHANNELS,
    direction: str = "pattern",
    active: float = ACTIVE,
    reach: int = REACH,
    progress: bool = True,
) -> Correction:
    r"""Take out the direction in which activations change where a concept is active.

    With the direction v of length 1 and the mean activation m where the concept is absent,

    .. math:: a - v v^\top (a - m)

    This is ClArC (Anders et al. 2022, "Finding and removing Clever Hans"); with the direction `"pattern"`
    pattern-ClArC (Pahde et al. 2022, "Navigating Neural Space"). No labels are used: positions where the concept is
    active are compared with those that are not near one. The direction is taken after an activation module that reads
    the layer and nothing else, where a concept that is absent is 0; otherwise at the layer itself.

    The parameters and errors are those of `suppress` and `find_presence`, and `direction` is `"pattern"` or `"filter"`
    (the normal of a separating plane).
    """
    checked_samples(data)
    if direction not in _DIRECTIONS:
        raise InputError(f"There is no direction {direction!r}: {nearest(str(direction), [*_DIRECTIONS])}")
    found = find_presence(model, data, layer, concept, kind, active=active, reach=reach, progress=progress)
    place = activation_after(model, data[:1], found.layer)
    absent, with_it, without_it = gathered(model, data, place, found.layout, found, progress=progress)
    directions = _DIRECTIONS[direction]({"concept": (with_it, without_it)})
    (vector,) = directions.matrix.double()
    matrix = torch.eye(len(vector), dtype=torch.float64) - torch.outer(vector, vector)
    shift = vector * (vector @ absent)
    return mapped(model, data, place, found.layout, ChannelMap(matrix, shift), f"projected, {direction} direction")


def reactive(
    model: nn.Module,
    data: Tensor,
    layer: str,
    concept: int | Sequence[int],
    *,
    kind: ConceptKind = _CHANNELS,
    active: float = ACTIVE,
    reach: int = REACH,
    progress: bool = True,
) -> Correction:
    r"""Put the usual activation around the places where a concept is active, and leave everything else as it is.

    Corrections that react to a condition were proposed by Bareeva et al. 2024 ("Reactive model correction"). The
    condition here is a position at which the concept is active; there, and at most `reach` positions away, all channels
    take their mean over positions without the concept. Inputs without the concept give exactly the output of the
    original model.

    The parameters and errors are those of `suppress` and `find_presence`. The layer needs positions: nothing would be
    left of a layer `[N, C]`.
    """
    checked_samples(data)
    found = find_presence(model, data, layer, concept, kind, active=active, reach=reach, progress=progress)
    if found.layout.positions == 1 or not found.layout.grid:
        raise InputError(f"Layer '{layer}' has no positions to react at: use suppress or project.")
    absent, *_ = gathered(model, data, found.layer, found.layout, found, progress=progress)
    eraser = Eraser(kind, found.ids, found.threshold, absent, found.layout, reach).to(data)
    return inserted(model, data, found.layer, eraser, f"erased where it is active, within {reach} positions")
