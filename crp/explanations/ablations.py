"""What the model answers without some concepts of a layer, one and two at a time: `Ablations`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from crp.errors import InputError
from crp.values import finite_array, frozen, set_fields

_TABLES = ("values", "logits", "others")


@dataclass(frozen=True, eq=False)
class Ablations:
    """The model's outputs with concepts of one layer removed: something else takes the place of their parts.

    Parameters
    ----------
    removed
        The concepts that each of `R` rows removes, in ascending order; the first row, `()`, removes none.
    values
        float64 [R], the number that is explained.
    classes
        Index and name of `n` classes: those that the explanation lists, and every class that some row predicts; the
        only output of a model; none if the output does not hold logits of classes.
    logits
        float64 [R, n], their logits.
    others
        float64 [R], log of the sum of the exponentials of all other classes' logits; -inf if there are no others.
        With it, probabilities of the listed classes are exact.
    independent
        Whether the model ends with a sigmoid: each class has a probability of its own.

    Raises
    ------
    InputError
        If the arrays do not have these shapes, rows repeat, or the first row removes a concept.
    """

    removed: tuple[tuple[int, ...], ...]
    values: np.ndarray
    classes: tuple[tuple[int, str], ...]
    logits: np.ndarray
    others: np.ndarray
    independent: bool = False

    def __post_init__(self) -> None:
        """Check and convert the fields."""
        removed = tuple(tuple(int(index) for index in row) for row in self.removed)
        classes = tuple((int(index), str(name)) for index, name in self.classes)
        tables = {name: np.asarray(getattr(self, name), dtype=np.float64) for name in _TABLES}
        set_fields(self, removed=removed, classes=classes, **{name: frozen(table) for name, table in tables.items()})
        rows, columns = len(removed), len(classes)
        shapes = {"values": (rows,), "logits": (rows, columns), "others": (rows,)}
        for name, shape in shapes.items():
            if tables[name].shape != shape:
                raise InputError(f"the {name} of ablations have shape {tables[name].shape}, and must have {shape}.")
        finite_array(self.values, "what is explained without some concepts")
        finite_array(self.logits, "the output without some concepts")
        if not rows or removed[0] or len(set(removed)) < rows or any(list(row) != sorted(set(row)) for row in removed):
            raise InputError("rows of ablations differ, list ids in ascending order, and the first removes nothing.")

    def probabilities(self) -> np.ndarray:
        """Return the probabilities of the listed classes, float64 [R, n]."""
        if self.independent:
            return 1 / (1 + np.exp(-self.logits))
        every = np.concatenate([self.logits, self.others[:, None]], axis=1)
        shifted = np.exp(every - every.max(1, keepdims=True))
        return (shifted / shifted.sum(1, keepdims=True))[:, :-1]


def ablation_numbers(ablations: Ablations) -> dict[str, Any]:
    """Turn ablations into plain JSON values, without their arrays."""
    return {
        "removed": [list(row) for row in ablations.removed],
        "classes": [{"index": index, "name": name} for index, name in ablations.classes],
        "independent": ablations.independent,
    }


def ablation_arrays(ablations: Ablations, place: str) -> dict[str, np.ndarray]:
    """Collect the arrays of ablations by name; `place` is the prefix of all names."""
    return {f"{place}/{name}": getattr(ablations, name) for name in _TABLES}


def ablations_from(content: Mapping[str, Any], place: str, arrays: Mapping[str, np.ndarray]) -> Ablations:
    """Read what `ablation_numbers` and `ablation_arrays` wrote."""
    return Ablations(
        removed=content["removed"],
        classes=[(one["index"], one["name"]) for one in content["classes"]],
        independent=content["independent"],
        **{name: arrays[f"{place}/{name}"] for name in _TABLES},
    )
