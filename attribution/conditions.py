"""Conditions: which relevance may pass at which layer.

A condition is a dict `{layer: concept ids, "y": classes}`. Users name the layers in any order, and `"y"` in some
conditions only. Here a list of such dicts becomes `Condition` values, whose layers are sorted from the output down,
and a `Grid` that says which condition applies to which sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from crp.attribution.flow import RelevanceFlow
from crp.concepts import ChannelConcept, ConceptKind, weights_of
from crp.errors import InputError, listed, shortened

# A kind of concept, or a function `(row, concept_ids, layer)` that returns a function `relevance -> relevance`.
MaskMap = ConceptKind | Callable[[int, Any, str], Callable[[Tensor], Tensor]]

# Concepts that are named in a sentence.
_NAMED = 8


@dataclass(frozen=True)
class Condition:
    """One condition.

    Attributes
    ----------
    targets
        Classes whose relevance starts at the output, as the caller gave them; None for all classes.
    masks
        Pairs of layer and concept ids, from the output down. The ids are as the caller gave them.
    number
        Position in the caller's list, for messages.
    """

    targets: Any
    masks: tuple[tuple[str, Any], ...]
    number: int

    @property
    def layers(self) -> tuple[str, ...]:
        """Masked layers, from the output down."""
        return tuple(layer for layer, _ in self.masks)


def read_conditions(conditions: Sequence[Mapping[str, Any]], output_name: str) -> list[Condition]:
    """Check that conditions are a list of dicts.

    Parameters
    ----------
    conditions
        List of dicts; keys are layer names or `output_name`.
    output_name
        The key of the model's output, `"y"`.

    Returns
    -------
    list of Condition
        In the given order. The layers of each are not sorted yet.

    Raises
    ------
    InputError
        If `conditions` is not a list of dicts, or is empty.
    """
    if isinstance(conditions, Mapping) or not isinstance(conditions, Sequence) or not len(conditions):
        given = "an empty list" if isinstance(conditions, list) else type(conditions).__name__
        raise InputError(f"Conditions are a list of one dict or more, given {given}.")
    found = []
    for number, condition in enumerate(conditions):
        if not isinstance(condition, Mapping):
            raise InputError(f"Condition {number} is a {type(condition).__name__}, not a dict of layer names to ids.")
        masks = tuple((layer, ids) for layer, ids in condition.items() if layer != output_name)
        found.append(Condition(condition.get(output_name), masks, number))
    return found


def ordered(condition: Condition, flow: RelevanceFlow, *, start: str, chain: bool) -> Condition:
    """Sort the layers of a condition from the output down.

    Parameters
    ----------
    condition
        With its layers in any order.
    flow
        The forward pass, which knows the order of the layers.
    start
        Where relevance starts. No layer may be above it.
    chain
        Whether relevance must pass the layers one after the other, with no path around them.

    Raises
    ------
    InputError
        If no relevance of one layer reaches the next.
    """
    rank = {layer: index for index, layer in enumerate(reversed(flow.layers))}
    masks = tuple(sorted(condition.masks, key=lambda mask: rank[mask[0]]))
    above = start
    for layer, _ in masks:
        if layer == start:
            continue
        if not flow.reaches(above if chain else start, layer):
            raise InputError(
                f"Condition {condition.number}: no relevance of '{above if chain else start}' reaches '{layer}'."
                + (" Parallel layers in one condition need exclude_parallel=False." if above != start else "")
            )
        above = layer
    return Condition(condition.targets, masks, condition.number)


def targets_of(conditions: Sequence[Condition]) -> list[Any] | None:
    """Return the classes of each condition, None for one without; None if no condition has any."""
    if all(condition.targets is None for condition in conditions):
        return None
    return [condition.targets for condition in conditions]


def mask_function(mask_map: MaskMap | Mapping[str, MaskMap], layer: str) -> MaskMap:
    """Look up what masks a layer: `mask_map` itself, or its entry.

    Raises
    ------
    InputError
        If `mask_map` is a dict without the layer.
    """
    if isinstance(mask_map, Mapping):
        if layer not in mask_map:
            raise InputError(f"mask_map has no entry for layer '{layer}': it has {listed(mask_map)}.")
        mask_map = mask_map[layer]
    # the channels of a layer, wherever its layout has them
    return ChannelConcept() if mask_map is ChannelConcept.mask else mask_map


def described(condition: Condition, flow: RelevanceFlow, mask_map: MaskMap | Mapping[str, MaskMap]) -> str:
    """Say in a sentence which relevance passes under a condition, whose layers are sorted."""
    start = "all outputs" if condition.targets is None else f"output {shortened(condition.targets)}"
    steps = [f"Condition {condition.number}: relevance starts at {start}"]
    for layer, ids in condition.masks:
        mask = mask_function(mask_map, layer)
        if not isinstance(mask, ConceptKind):
            steps.append(f"'{layer}' masks it with a function, given {shortened(ids)}")
            continue
        size, layout = flow.parts(layer, mask).size, flow.layout(layer)
        weights = weights_of(ids, size, f"layer '{layer}'").tolist()
        passing = [index for index, weight in enumerate(weights) if weight]
        named = [
            " ".join([str(index), *([f"({name})"] if (name := mask.name(index, layout)) else [])])
            + ("" if weights[index] == 1 else f" times {weights[index]:g}")
            for index in passing[:_NAMED]
        ]
        more = f" and {len(passing) - _NAMED} more" if len(passing) > _NAMED else ""
        found = f"{', '.join(named)}{more}" if named else "no concept"
        steps.append(f"'{layer}' lets {found} of {size} pass")
    return "; then ".join(steps) + "."


@dataclass(frozen=True)
class Grid:
    """Which condition applies to which sample.

    As in zennit-crp, `N` samples and `N` conditions are paired. Any other numbers give all pairs, sample by sample.

    Attributes
    ----------
    cells
        `[K][N]` conditions. Paired samples and conditions form a single row.
    paired
        Whether they are paired.
    """

    cells: tuple[tuple[Condition, ...], ...]
    paired: bool

    @classmethod
    def of(cls, conditions: Sequence[Condition], samples: int) -> Grid:
        """Pair or multiply conditions and samples."""
        if len(conditions) == samples:
            return cls((tuple(conditions),), True)
        return cls(tuple((condition,) * samples for condition in conditions), False)

    def ordered(self, flow: RelevanceFlow, *, start: str, chain: bool) -> Grid:
        """Sort the layers of each condition, as `ordered` does."""
        cells = [tuple(ordered(cell, flow, start=start, chain=chain) for cell in row) for row in self.cells]
        return Grid(tuple(cells), self.paired)

    def row(self, k: int, n: int) -> int:
        """Return the position of cell `(k, n)` in the results."""
        return n if self.paired else n * len(self.cells) + k

    def in_order(self) -> list[tuple[int, int]]:
        """List the cells `(k, n)` in the order of the results."""
        cells = [(k, n) for k in range(len(self.cells)) for n in range(len(self.cells[0]))]
        return sorted(cells, key=lambda cell: self.row(*cell))


def frozen(ids: Any) -> Any:
    """Turn concept ids into a dict key. Equal keys mean equal masks."""
    if isinstance(ids, Mapping):
        return tuple((key, frozen(value)) for key, value in ids.items())
    if isinstance(ids, list | tuple | set | range):
        return tuple(frozen(item) for item in ids)
    if isinstance(ids, bool):
        return str(ids)  # True is equal to 1, but a mask of booleans is not a list of ids
    if isinstance(ids, int | str | float):
        return ids
    if hasattr(ids, "tolist"):
        return frozen(ids.tolist())
    return ("object", id(ids))
