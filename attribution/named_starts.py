"""What a caller names as the target of an explanation: a class, an expression of classes, or a start.

==========================  ==================================================================
`"octagon"`, `3`            the logit of the class; of a segmentation, where it is predicted
`"octagon - disc"`          the difference of two classes
`"octagon + disc"`          the sum of two classes (more terms are allowed, with either sign)
`"octagon - others"`        the class against all others (`LogOdds`)
`"output - 3.5"`            of a model with one output, the distance from a value (`Distance`)
any start                   itself
==========================  ==================================================================
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from crp.attribution.starts import ClassInMask, Difference, Distance, Logit, LogOdds, Start, Sum
from crp.class_names import SIGNS, class_index, class_name
from crp.errors import InputError

Target = int | str | Start

_OTHERS = "others"


def start_of(target: Target, class_names: Sequence[str], prediction: Tensor) -> Start:
    """Return the start that a caller named.

    Parameters
    ----------
    target
        A class by index or name, an expression of classes in a string, or a start. A class whose name looks like an
        expression takes precedence.
    class_names
        Names of the classes by index, possibly empty.
    prediction
        The model's output, `[N, ...]`.

    Raises
    ------
    InputError
        If there is no such class, a class is named twice, or the output has no classes to name.

    Examples
    --------
    >>> import torch
    >>> names, output = ["ant", "bee", "cat"], torch.zeros(1, 3)
    >>> start_of("bee", names, output), start_of("cat - ant", names, output)
    (Logit(target=1), Difference(first=Logit(target=2), second=Logit(target=0)))
    >>> start_of("bee - others", names, output)
    LogOdds(classes=1)
    """
    if isinstance(target, Start):
        return target
    if prediction.ndim == 3 or prediction.ndim == 1:
        raise InputError(
            f"The model's output is {list(prediction.shape)}, so a class alone does not say where relevance starts: "
            "give a start, such as Token or Box (crp.attribution.starts)."
        )
    count = prediction.shape[1]
    terms = _terms(target, class_names)
    if prediction.ndim > 2:
        if len(terms) > 1:
            raise InputError(
                f"The model's output is {list(prediction.shape)}; there, one class is named, or a start is given, such "
                f"as ClassInMask (crp.attribution.starts). Given {target!r}."
            )
        return ClassInMask(class_index(class_names, target, count))
    if len(terms) == 1:
        return Logit(class_index(class_names, target, count))
    if len(terms) == 2 and terms[1] == ("-", _OTHERS):
        return LogOdds(class_index(class_names, terms[0][1], count))
    if count == 1 and len(terms) == 2 and terms[1][0] == "-" and (value := _number(terms[1][1])) is not None:
        output = terms[0][1]
        return Distance(value, 0 if output == class_name(class_names, 0, 1) else class_index(class_names, output, 1))
    classes = [(sign, class_index(class_names, name, count)) for sign, name in terms]
    if len({index for _, index in classes}) < len(classes):
        raise InputError(f"A class is named twice in {target!r}.")
    first, second = (_joined([Logit(index) for own, index in classes if own == sign]) for sign in "+-")
    return first if second is None else Difference(first, second)


def output_names(class_names: Sequence[str], prediction: Tensor) -> list[str]:
    """Name every output of a model; `class 3` where there is no name, and `output` for the only one.

    >>> import torch
    >>> output_names(["ant"], torch.zeros(1, 2)), output_names([], torch.zeros(1, 1))
    (['ant', 'class 1'], ['output'])
    """
    count = prediction.shape[-1 if prediction.ndim == 3 else 1]
    return [class_name(class_names, index, count) for index in range(count)]


def _terms(target: object, class_names: Sequence[str]) -> list[tuple[str, object]]:
    """Split an expression into signs and names; a class alone is one term."""
    if not isinstance(target, str) or target in class_names:
        return [("+", target)]
    first, *rest = SIGNS.split(target)
    signs = ["-" if sign == "\N{MINUS SIGN}" else sign for sign in rest[::2]]
    return [("+", first), *zip(signs, rest[1::2], strict=True)]


def _joined(starts: list[Logit]) -> Start | None:
    if not starts:
        return None
    return starts[0] if len(starts) == 1 else Sum(starts)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
