"""The label of a sample: the classes that a data set says it shows.

===============================================  ==================================================================
a whole number, a tensor or array of one         that class; True is class 1, False class 0
a list, tuple or set of whole numbers            those classes
booleans, in a list or an array                  a vector with one entry for each class: the classes that are True
an array or tensor of 0 and 1, of any dtype      likewise: the classes that are 1
a list or tuple of 0 and 1 with repetitions      likewise
`[0, 1]` or `[1, 0]` of a model with 2 classes   refused: it may be both classes, or a vector
===============================================  ==================================================================

A vector whose length is not the number of classes is refused, and so are fractions.
"""

from __future__ import annotations

from crp.errors import InputError, shortened
from crp.indices import as_array, plain_number

# The classes of a sample: one, or any number of them.
Label = int | tuple[int, ...]


def read_label(label: object, classes: int | None = None) -> Label:
    """Read the label of one sample, in any form of the table above.

    Parameters
    ----------
    label
        What the data set has.
    classes
        Number of the model's classes. None if it is not known yet; lengths are not checked then.

    Returns
    -------
    int or tuple of int
        A tuple where a sample may have several labels. Whether the model has such classes is not checked.

    Raises
    ------
    InputError
        If it is none of these forms. The message has no subject: it begins with "has the label".

    Examples
    --------
    >>> read_label(3), read_label([3, 0]), read_label([0, 0, 1], 3)
    (3, (3, 0), (2,))
    """
    values, is_vector = _entries(label)
    if not isinstance(values, list):
        return _whole(values, label)
    booleans = [isinstance(value, bool) for value in values]
    if any(booleans) and not all(booleans):
        raise InputError(f"has the label {shortened(label)}, which mixes booleans and numbers.")
    zeros_and_ones = bool(values) and all(isinstance(value, int | float) and value in (0, 1) for value in values)
    repeated = zeros_and_ones and len(set(values)) < len(values)
    if is_vector or any(booleans) or repeated or (zeros_and_ones and any(isinstance(v, float) for v in values)):
        return _hot(values, label, classes)
    if isinstance(label, list | tuple) and zeros_and_ones and len(values) == classes == 2:
        raise InputError(
            f"has the label {shortened(label)}, which may be two classes or a vector of 0 and 1 for 2 classes: give a "
            "set of classes, or a vector of booleans."
        )
    return tuple(_whole(value, label) for value in values)


def _entries(label: object) -> tuple[object, bool]:
    """Turn a label into a list of plain values, or a single one; and whether it must be a vector of 0 and 1."""
    if isinstance(label, list | tuple | set | frozenset):
        return [plain_number(value) for value in label], False
    array = as_array(label)
    if array is None or array.ndim == 0:
        return plain_number(label), False
    if array.ndim > 1:
        raise InputError(f"has a label of shape {list(array.shape)}; it must be a class, or a single row of classes.")
    is_class = array.size == 1 and array.dtype.kind in "iu"
    return (array.item(), False) if is_class else (array.tolist(), True)


def _hot(values: list, label: object, classes: int | None) -> tuple[int, ...]:
    """Read a one-hot or multi-hot vector."""
    if any(value not in (0, 1) for value in values):
        raise InputError(
            f"has the label {shortened(label)}, an array that is not a vector of 0 and 1: give a list of classes."
        )
    if classes is not None and len(values) != classes:
        raise InputError(
            f"has the label {shortened(label)}, a vector of length {len(values)}, but the model has {classes} "
            "classes: give one entry for each class, or a set of classes."
        )
    return tuple(place for place, value in enumerate(values) if value)


def _whole(value: object, label: object) -> int:
    if isinstance(value, str):
        raise InputError(
            f"has the label {shortened(label)}, which is a name: give the number of the class instead, such as "
            f"class_names.index({shortened(value)})."
        )
    if not isinstance(value, int):
        raise InputError(
            f"has the label {shortened(label)}, which is not a whole number, a list of them, or a vector of 0 and 1."
        )
    return int(value)
