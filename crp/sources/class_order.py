"""Labels of a data set whose classes have another order, or fewer of them, than the model's: `ClassOrder`."""

from __future__ import annotations

from typing import Any

from crp.class_names import class_places
from crp.errors import InputError
from crp.mining.labels import read_label


class ClassOrder:
    """Which class of the model each label of a data set is.

    If the data set and the model name their classes, labels go by these names. Where there are as many, and those names
    that are in both are at the same places, the labels are the model's: one calls an automobile a car.

    Parameters
    ----------
    own
        Names of the data set's classes, by its labels; None if it has none.
    names
        Names of the model's classes, by index; None if they are not known.
    where
        The data set, for messages.

    Raises
    ------
    InputError
        If the data set has a class that is not the model's.
    """

    def __init__(self, own: tuple[str, ...] | None, names: tuple[str, ...] | None, where: str) -> None:
        self._places = None
        if own and names and not _same_classes(own, names):
            self._places = class_places(own, names, f"class {{}} of '{where}'")

    def label(self, label: Any) -> Any:
        """Return a label of the data set, in any form of `read_label`, as one of the model.

        Raises
        ------
        InputError
            If it is none of the data set's classes. The message has no subject: it begins with "has the label".
        """
        if self._places is None or label is None:
            return label
        found = read_label(label, len(self._places))
        if isinstance(found, tuple):
            return {self._place(one) for one in found}
        return self._place(found)

    def _place(self, label: int) -> int:
        if not 0 <= label < len(self._places):
            raise InputError(f"has the label {label}, but the data set names the classes 0 to {len(self._places) - 1}.")
        return self._places[label]


def _same_classes(own: tuple[str, ...], names: tuple[str, ...]) -> bool:
    return len(own) == len(names) and all(one == name or one not in names for one, name in zip(own, names, strict=True))
