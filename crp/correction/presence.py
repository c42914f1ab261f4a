"""Where a concept is active in some samples: `Presence`, found by `find_presence`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from crp.attribution import RelevanceFlow, composite_for, prepare
from crp.concepts import ConceptKind
from crp.correction.reruns import BATCH, Rerun
from crp.errors import InputError
from crp.indices import concept_ids
from crp.layout import Layout
from crp.progress import in_batches

# Part of a concept's largest value above which it counts as active, and positions around it that it also shapes.
ACTIVE, REACH = 0.2, 2


@dataclass(frozen=True, eq=False)
class Presence:
    """Where some concepts of a layer are active in some samples.

    Attributes
    ----------
    layer, layout
        The layer whose output is divided into the concepts (`observed_layers`).
    kind, ids
        The concepts.
    threshold
        The value above which each concept counts as active, `[n]`.
    near
        Which positions are active or at most `REACH` from an active one, bool `[N, P]`. Positions in front of a grid
        (class tokens) never are.
    active
        Which positions are active, bool `[N, P]`.
    strength
        The largest value of the concepts in each sample, divided by that in all samples, `[N]`.
    outputs
        The model's outputs, `[N, classes]`.
    """

    layer: str
    layout: Layout
    kind: ConceptKind
    ids: tuple[int, ...]
    threshold: Tensor
    near: Tensor
    active: Tensor
    strength: Tensor
    outputs: Tensor

    @property
    def samples(self) -> Tensor:
        """Which samples have the concept, bool `[N]`."""
        return self.active.any(1)


def find_presence(
    model: nn.Module,
    data: Tensor,
    layer: str,
    concept: int | Sequence[int],
    kind: ConceptKind,
    *,
    active: float = ACTIVE,
    reach: int = REACH,
    progress: bool,
) -> Presence:
    """Find where concepts are active.

    Parameters
    ----------
    model
        The model.
    data
        `[N, c, *S]`.
    layer, concept, kind
        The layer, the ids of one or several of its concepts, and their kind.
    active
        Part (0 to 1) of a concept's largest value in `data` above which it counts as active.
    reach
        Positions around an active one that it also shapes.
    progress
        Whether to show a progress bar.

    Raises
    ------
    InputError
        If there is no such layer or concept, or a concept is active nowhere.
    """
    layer, layout = observed_layers(model, data, [layer])[layer]
    ids = concept_ids(concept, kind.size(layout), f"layer '{layer}'")
    rerun, values, outputs = Rerun(model, layer), [], []
    for _, batch in in_batches(data, BATCH, "finding the concept", shown=progress):
        outputs.append(rerun.run(batch))
        values.append(kind.values(rerun.activation, layout)[:, list(ids)])
    found = torch.cat(values)
    largest = found.amax((0, 2))
    for index, value in zip(ids, largest.tolist(), strict=True):
        if not value > 0:
            raise InputError(f"Concept {index} of layer '{layer}' is active in none of the {len(data)} samples.")
    threshold = active * largest
    where = (found > threshold[:, None]).any(1)
    near, strength = around(where, layout, reach), (found.amax(2) / largest).amax(1)
    return Presence(layer, layout, kind, ids, threshold, near, where, strength, torch.cat(outputs))


def observed_layers(model: nn.Module, data: Tensor, layers: Collection[str]) -> dict[str, tuple[str, Layout]]:
    """Find by layer whose output is divided into its concepts, and observe what the axes of that output mean.

    It is the layer itself, or the batch norm that the rules of `composite_for` merge into it: what explanations say of
    a channel of a convolution is said of the normed channel.
    """
    replica = prepare(model, composite_for(model, data[:1]).composite)
    with RelevanceFlow(replica, None, data[:1], list(layers), to_input=False) as flow:
        return {layer: (flow.own_name(layer), flow.layout(layer)) for layer in layers}


def around(where: Tensor, layout: Layout, reach: int) -> Tensor:
    """Widen positions `[N, P]` (bool) by `reach` on the layer's grid; positions in front of it are left out."""
    if not layout.grid:
        return where
    front = where[:, : layout.prefix] & False
    grid = where[:, layout.prefix :].float().unflatten(1, (1, *layout.grid))
    pool = (nn.functional.max_pool1d, nn.functional.max_pool2d, nn.functional.max_pool3d)[len(layout.grid) - 1]
    return torch.cat([front, pool(grid, 2 * reach + 1, 1, reach).flatten(1) > 0], 1)
