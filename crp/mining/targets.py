"""What is explained for each sample: one class, several, or whatever a function starts relevance at.

A *question* is one way down for a block of samples, with at most one target for each of them. A rule makes a sequence
of questions of the model's output; what samples count in each of them counts for its own (sample, target). A sample
with two labels has two questions, and a concept's references hold it at most once, with the target for which it scores
most. Activation knows no target: it is counted once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crp.errors import InputError, SampleError, nearest

TargetRule = str | Callable[[Tensor, Tensor], object]

_TOP = re.compile(r"top([1-9]\d*)")


@dataclass(frozen=True)
class Question:
    """One way down for a block of `N` samples.

    Attributes
    ----------
    targets
        What is explained for each sample, int64 `[N]`: a class, or any other number by which statistics are kept; -1
        for samples that are not asked about.
    relevance
        What starts at the model's output, of its shape `[N, ...]`; taken as zero for samples that are not asked about.
    """

    targets: np.ndarray
    relevance: Tensor


def check_rule(rule: TargetRule) -> None:
    """Refuse what is neither `"label"`, `"prediction"`, `"top3"` nor callable.

    Raises
    ------
    InputError
    """
    if not callable(rule) and not named_rule(rule):
        raise InputError(
            f"There is no target rule {rule!r}: {nearest(str(rule), ['label', 'prediction', 'top3'])} "
            "A function of (prediction [N, classes], label [N]) that returns N classes is a rule, too."
        )


def named_rule(rule: object) -> bool:
    """Whether a rule is known by its name alone: `"label"`, `"prediction"`, or `"top3"` and the like."""
    return isinstance(rule, str) and (rule in ("label", "prediction") or _TOP.fullmatch(rule) is not None)


def rule_name(rule: TargetRule) -> str:
    """How the manifest calls the rule: its name, or where the function stands."""
    if isinstance(rule, str):
        return rule
    named = rule if hasattr(rule, "__qualname__") else type(rule)
    return f"{named.__module__}:{named.__qualname__}"


def questions(
    rule: TargetRule, prediction: Tensor, labels: Tensor, samples: Tensor, classes: int | None = None
) -> list[Question]:
    """The questions of a block.

    Parameters
    ----------
    rule
        `"label"` (every label of a sample), `"prediction"` (the largest output), `"top3"` (the three largest), or a
        function of `(prediction, labels)`: see `crp.mine`.
    prediction
        The model's output, `[N, classes]`; of any shape `[N, ...]` if a function answers with questions.
    labels
        int64 `[N]`, -1 where the data set has none; `[N, L]`, filled up with -1, where samples have several.
    samples
        Indices in the data set, for messages, int64 `[N]`.
    classes
        Targets are below it; by default `prediction.shape[1]`.

    Raises
    ------
    SampleError
        If a class is out of range; names the sample.
    InputError
        If a function returns something else, or the output is not `[N, classes]` and the rule asks for classes.
    """
    classes = classes or prediction.shape[1]
    answer = answered(rule, prediction, labels) if callable(rule) else None
    if asks(answer):
        return [_checked(rule, question, prediction, samples, classes) for question in answer]
    if prediction.ndim != 2:
        raise InputError(
            f"The rule {rule_name(rule)!r} explains classes of an output [N, classes], and the model's is "
            f"{list(prediction.shape)}: give targets= a function that returns crp.mining.Question(targets, relevance)."
        )
    targets = _named(rule, prediction, labels) if answer is None else _returned(rule, answer, prediction)
    if targets.ndim == 1:
        targets = targets[:, None]
        _check_range(rule, targets, samples, classes, least=0)
    _check_range(rule, targets, samples, classes, least=-1)
    columns = [_without_repetition(targets)[:, place] for place in range(targets.shape[1])]
    asked = [column for column in columns if (column >= 0).any()]
    return [Question(column, logits(prediction, column)) for column in asked]


def answered(rule: Callable[[Tensor, Tensor], object], prediction: Tensor, labels: Tensor) -> object:
    """What a function answers; one question, or those that it yields, as a list."""
    answer = rule(prediction, labels)
    if isinstance(answer, Question):
        return [answer]
    return list(answer) if isinstance(answer, Iterator) else answer


def asks(answer: object) -> bool:
    """Whether an answer is a list of questions (of none, where a block has no targets)."""
    return isinstance(answer, list | tuple) and all(isinstance(question, Question) for question in answer)


def explained_classes(rule: TargetRule, prediction: Tensor, labels: Tensor, samples: Tensor) -> np.ndarray:
    """Class explained for each sample of a block, int64 `[N]`, where that is one; errors as in `questions`."""
    (question,) = questions(rule, prediction, labels, samples)
    return question.targets


def logits(prediction: Tensor, targets: np.ndarray) -> Tensor:
    """The output `[N, classes]` at the targets, with its sign, zero elsewhere: what starts if nothing else is said."""
    columns = torch.arange(prediction.shape[1], device=prediction.device)
    return prediction * (columns == torch.as_tensor(targets, device=prediction.device)[:, None]).to(prediction)


def _named(rule: str, prediction: Tensor, labels: Tensor) -> np.ndarray:
    if rule == "label":
        return labels.numpy()
    if rule == "prediction":
        return prediction.argmax(1).cpu().numpy()
    count = int(_TOP.fullmatch(rule)[1])
    return prediction.argsort(dim=1, descending=True, stable=True)[:, :count].cpu().numpy()


def _returned(rule: Callable, answer: object, prediction: Tensor) -> np.ndarray:
    try:
        answer = torch.as_tensor(answer).cpu()
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"The target rule {rule_name(rule)} returned a {type(answer).__name__}; whole numbers, one or several for "
            "each sample, or questions are needed (crp.mining.Question)."
        ) from None
    whole = not (answer.is_floating_point() or answer.is_complex() or answer.dtype == torch.bool)
    if answer.ndim not in (1, 2) or len(answer) != len(prediction) or not whole:
        raise InputError(
            f"The target rule {rule_name(rule)} returned {answer.dtype} of shape {list(answer.shape)}; "
            f"{len(prediction)} whole numbers are needed, one for each sample."
        )
    return answer.long().numpy()


def _check_range(rule: TargetRule, targets: np.ndarray, samples: Tensor, classes: int, least: int) -> None:
    wrong = np.argwhere((targets < least) | (targets >= classes))
    if len(wrong):
        row, place = wrong[0]
        origin = "has label" if rule == "label" else "is to be explained for class"
        raise SampleError(
            int(samples[row]), f"{origin} {targets[row, place]}, but the model has the classes 0 to {classes - 1}."
        )


def _without_repetition(targets: np.ndarray) -> np.ndarray:
    """Each class of a sample once: later ones become -1."""
    unique = targets.copy()
    for place in range(1, targets.shape[1]):
        repeated = (targets[:, :place] == targets[:, place : place + 1]).any(1)
        unique[repeated, place] = -1
    return unique


def _checked(rule: Callable, question: Question, prediction: Tensor, samples: Tensor, classes: int) -> Question:
    targets, relevance = np.asarray(question.targets), question.relevance  # a list will do
    if targets.dtype.kind not in "iu" or targets.shape != (len(prediction),):
        raise InputError(
            f"A question of the target rule {rule_name(rule)} has targets {targets.dtype} of shape "
            f"{list(targets.shape)}; {len(prediction)} whole numbers are needed, one for each sample."
        )
    _check_range(rule, targets[:, None], samples, classes, least=-1)
    if not isinstance(relevance, Tensor) or relevance.shape != prediction.shape or not relevance.isfinite().all():
        raise InputError(
            f"A question of the target rule {rule_name(rule)} starts no finite relevance of the output's shape "
            f"{list(prediction.shape)}."
        )
    asked = torch.as_tensor(targets >= 0, device=prediction.device).view(-1, *[1] * (prediction.ndim - 1))
    return Question(targets.astype(np.int64), relevance.detach().to(prediction) * asked)
