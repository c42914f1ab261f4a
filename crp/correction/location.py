"""How much relevance of a concept lies outside what samples are known to show: `relevance_outside`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crp.attribution import RelevanceFlow, composite_for, prepare
from crp.concepts import ConceptKind
from crp.correction.reruns import BATCH
from crp.errors import InputError
from crp.places import divided_relevance

# Samples of the class that are read at most.
_MOST = 100


def relevance_outside(
    model: nn.Module, data: Tensor, masks: Tensor, layer: str, concept: int, target: int, kind: ConceptKind
) -> tuple[float, float] | None:
    """Measure how much of a concept's supporting relevance for a class lies outside masks.

    Of relevance that is spread evenly, as that of a channel is which is active everywhere, as much lies outside as of
    the input. So both are measured, on the same samples.

    Parameters
    ----------
    model
        The model; it is not changed.
    data
        Samples `[N, c, *S]`; the first 100 that are predicted as the class are read.
    masks
        bool `[N, *S]`: where the object of each sample is.
    layer, concept, kind
        The layer, the id of the concept, and its kind.
    target
        The class.

    Returns
    -------
    tuple of two floats, or None
        Positive relevance in the concept's conditional heatmaps outside the masks, divided by all of it, and the mean
        share of the input outside the masks, 0 to 1; None if no sample is predicted as the class, or the concept has no
        positive relevance.

    Raises
    ------
    InputError
        If masks do not have the samples' shape.
    """
    if masks.shape != (len(data), *data.shape[2:]):
        raise InputError(f"Masks of these samples are {[len(data), *data.shape[2:]]}, given {list(masks.shape)}.")
    replica = prepare(model, composite_for(model, data[:1]).composite)
    inside = outside = area = 0.0
    seen = 0
    for first in range(0, len(data), BATCH):
        rows = slice(first, first + BATCH)
        with RelevanceFlow(replica, None, data[rows], [layer]) as flow:
            own = flow.prediction.argmax(1) == target
            seen += int(own.sum())
            area += float((~masks[rows][own.to(masks.device)]).flatten(1).double().mean(1).sum())
            if own.any():
                start = flow.output_relevance(target) * own[:, None]
                arriving = flow.down(start, to=layer)[0]
                carried = flow.parts(layer, kind).carried(arriving, [concept])
                heatmaps = flow.down(carried, start=layer)[0].sum(1).double()
                there, elsewhere = divided_relevance(heatmaps, masks[rows].to(heatmaps.device))
                inside, outside = inside + float(there.sum()), outside + float(elsewhere.sum())
        if seen >= _MOST:
            break
    return (outside / (inside + outside), area / seen) if inside + outside else None


def object_masks(dataset: object, indices: tuple[int, ...]) -> Tensor | None:
    """Return where the objects of samples are, bool `[N, *S]`, from the data set's `object_mask`; None without it."""
    mask = getattr(dataset, "object_mask", None)
    return None if mask is None else torch.stack([torch.as_tensor(mask(index)) for index in indices]).bool()
