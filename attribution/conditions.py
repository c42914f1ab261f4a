"""Conditions, checked at the door and put in order.

A condition is a dict `{layer: concept ids, "y": classes}`: which relevance may pass at which layer. Users give the
layers in any order, and `"y"` in some conditions only. Here a list of them becomes `Condition` values whose layers
stand from the output down, and a `Grid` that says which condition meets which sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from crp.attribution.flow import RelevanceFlow, check_class
from crp.errors import InputError, listed

# A function `(row, concept_ids, layer)` that makes a function `relevance -> relevance`.
MaskMap = Callable[[int, Any, str], Callable[[Tensor], Tensor]]


@dataclass(frozen=True)
class Condition:
    """One condition.

    Attributes
    ----------
    targets
        Classes whose relevance starts at the output; None for all of them.
    masks
        Pairs of layer and concept ids, from the output down.
    number
        Its place in the caller's list, for messages.
    """

    targets: tuple[int, ...] | None
    masks: tuple[tuple[str, Any], ...]
    number: int

    @property
    def layers(self) -> tuple[str, ...]:
        """Masked layers, from the output down."""
        return tuple(layer for layer, _ in self.masks)


def read_conditions(conditions: Sequence[Mapping[str, Any]], output_name: str) -> list[Condition]:
    """Check the shape of a caller's conditions.

    Parameters
    ----------
    conditions
        List of dicts; keys are layer names or `output_name`.
    output_name
        The key of the model's output, `"y"`.

    Returns
    -------
    list of Condition
        In the order given; the layers of each not yet in order.

    Raises
    ------
    InputError
        If it is not a list of dicts, or is empty.
    """
    if isinstance(conditions, Mapping) or not isinstance(conditions, Sequence) or not len(conditions):
        given = "an empty list" if isinstance(conditions, list) else type(conditions).__name__
        raise InputError(f"Conditions are a list of one dict or more, given {given}.")
    found = []
    for number, condition in enumerate(conditions):
        if not isinstance(condition, Mapping):
            raise InputError(f"Condition {number} is a {type(condition).__name__}, not a dict of layer names to ids.")
        masks = tuple((layer, ids) for layer, ids in condition.items() if layer != output_name)
        targets = None
        if output_name in condition:
            targets = condition[output_name]
            targets = tuple(int(target) for target in (targets if hasattr(targets, "__len__") else [targets]))
        found.append(Condition(targets, masks, number))
    return found


def ordered(condition: Condition, flow: RelevanceFlow, *, start: str, chain: bool) -> Condition:
    """Put the layers of a condition in order, from the output down.

    Parameters
    ----------
    condition
        With its layers in any order.
    flow
        The forward pass that knows the order.
    start
        Where relevance starts: no layer may stand above it.
    chain
        Whether relevance must flow through the layers one after the other (no parallel ways).

    Raises
    ------
    InputError
        If no relevance of one layer reaches the next, or a class does not exist.
    """
    rank = {layer: index for index, layer in enumerate(reversed(flow.layers))}
    masks = tuple(sorted(condition.masks, key=lambda mask: rank[mask[0]]))
    if condition.targets and flow.prediction.ndim == 2:
        for target in condition.targets:
            check_class(target, flow.prediction.shape[1])
    above = start
    for layer, _ in masks:
        if layer == start:
            continue
        if not flow.reaches(above if chain else start, layer):
            raise InputError(
                f"Condition {condition.number}: no relevance of '{above if chain else start}' reaches '{layer}'. "
                + ("Layers side by side go together only with exclude_parallel=False." if above != start else "")
            )
        above = layer
    return Condition(condition.targets, masks, condition.number)


def targets_of(conditions: Sequence[Condition]) -> list[list[int] | None] | None:
    """Classes of each condition, None for one that names none; None if no condition names any."""
    if all(condition.targets is None for condition in conditions):
        return None
    return [None if condition.targets is None else list(condition.targets) for condition in conditions]


def mask_function(mask_map: MaskMap | Mapping[str, MaskMap], layer: str) -> MaskMap:
    """What masks a layer: `mask_map` itself, or its entry.

    Raises
    ------
    InputError
        If it is a dict without the layer.
    """
    if not isinstance(mask_map, Mapping):
        return mask_map
    if layer not in mask_map:
        raise InputError(f"mask_map has no entry for layer '{layer}': it has {listed(mask_map)}.")
    return mask_map[layer]


@dataclass(frozen=True)
class Grid:
    """Which condition meets which sample.

    As in zennit-crp, `N` samples and `N` conditions are paired; any other numbers make every pair, sample by sample.

    Attributes
    ----------
    cells
        `[K][N]` conditions. Paired samples and conditions make one row.
    paired
        Whether they were paired.
    """

    cells: tuple[tuple[Condition, ...], ...]
    paired: bool

    @classmethod
    def of(cls, conditions: Sequence[Condition], samples: int) -> Grid:
        """Pair, or multiply, conditions and samples."""
        if len(conditions) == samples:
            return cls((tuple(conditions),), True)
        return cls(tuple((condition,) * samples for condition in conditions), False)

    def row(self, k: int, n: int) -> int:
        """Place of a cell among the results."""
        return n if self.paired else n * len(self.cells) + k

    @property
    def rows(self) -> int:
        """Number of results."""
        return len(self.cells) * len(self.cells[0])


def frozen(ids: Any) -> Any:
    """Make a key of concept ids, equal only for ids that mask the same."""
    if isinstance(ids, Mapping):
        return tuple((key, frozen(value)) for key, value in ids.items())
    if isinstance(ids, list | tuple | set | range):
        return tuple(frozen(item) for item in ids)
    if isinstance(ids, int | str | float):
        return ids
    if hasattr(ids, "tolist"):
        return frozen(ids.tolist())
    return ("object", id(ids))
