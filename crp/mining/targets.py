"""Which class is explained for each sample."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from crp.errors import InputError, SampleError, nearest

TargetRule = str | Callable[[Tensor, Tensor], object]


def check_rule(rule: TargetRule) -> None:
    """Refuse what is neither `"label"`, `"prediction"` nor callable.

    Raises
    ------
    InputError
    """
    if not callable(rule) and rule not in ("label", "prediction"):
        raise InputError(
            f"There is no target rule {rule!r}: {nearest(str(rule), ['label', 'prediction'])} "
            "A function of (prediction [N, classes], label [N]) that returns N classes is a rule, too."
        )


def rule_name(rule: TargetRule) -> str:
    """How the manifest calls the rule: its name, or where the function stands."""
    if isinstance(rule, str):
        return rule
    named = rule if hasattr(rule, "__qualname__") else type(rule)
    return f"{named.__module__}:{named.__qualname__}"


def explained_classes(rule: TargetRule, prediction: Tensor, labels: Tensor, samples: Tensor) -> np.ndarray:
    """Class explained for each sample of a block.

    Parameters
    ----------
    rule
        `"label"`; `"prediction"` (the largest output); or a function of `(prediction, labels)` that returns `N` ints.
    prediction
        `[N, classes]`.
    labels
        int64 `[N]`, -1 where the data set has none.
    samples
        Indices in the data set, for messages, int64 `[N]`.

    Returns
    -------
    ndarray
        int64 `[N]`, each in `0 .. classes - 1`.

    Raises
    ------
    SampleError
        If a class is out of range; names the sample.
    InputError
        If a function returns anything but `N` whole numbers.
    """
    if rule == "label":
        classes = labels.numpy()
    elif rule == "prediction":
        classes = prediction.argmax(1).cpu().numpy()
    else:
        classes = _called(rule, prediction, labels)
    wrong = np.flatnonzero((classes < 0) | (classes >= prediction.shape[1]))
    if len(wrong):
        origin, count = "has label" if rule == "label" else "is to be explained for class", prediction.shape[1]
        raise SampleError(
            int(samples[wrong[0]]), f"{origin} {classes[wrong[0]]}, but the model has the classes 0 to {count - 1}."
        )
    return classes


def _called(rule: Callable, prediction: Tensor, labels: Tensor) -> np.ndarray:
    answer = torch.as_tensor(rule(prediction, labels)).cpu()
    if answer.shape != labels.shape or answer.is_floating_point() or answer.is_complex():
        raise InputError(
            f"The target rule {rule_name(rule)} returned {answer.dtype} of shape {list(answer.shape)}; "
            f"{len(labels)} whole numbers are needed, one for each sample."
        )
    return answer.long().numpy()
