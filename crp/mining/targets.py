"""What is explained of each sample: one class, several, a start, or whatever relevance a function starts.

A target rule turns the model's output for a block of samples into `AttributionTarget`s. Each of them is one backward
pass for the whole block, with at most one target per sample. A sample with two labels therefore takes part in two.
Statistics count every pair of sample and target. A list of references holds a sample at most once, with the target for
which it scores highest. Activation does not depend on the target and is counted once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crp.attribution.starts import Logits, Start
from crp.errors import InputError, SampleError, nearest
from crp.library.fingerprints import value_fingerprint

TargetRule = str | Callable[[Tensor, Tensor], object] | Start

_TOP = re.compile(r"top([1-9]\d*)")
# What relevance that starts for a sample may differ by in a block, as a part of the largest value.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class AttributionTarget:
    """What one backward pass explains of a block of `N` samples.

    Attributes
    ----------
    targets
        Target of each sample, int64 `[N]`: a class, or any other number to keep statistics by; -1 for samples that do
        not take part.
    relevance
        Relevance that starts at the model's output, `[N, ...]` like the output; or a start (`crp.attribution.starts`),
        which computes it. It is set to zero for samples that do not take part.
    """

    targets: np.ndarray
    relevance: Tensor | Start


def check_rule(rule: TargetRule) -> None:
    """Raise an error for a rule that is neither `"label"`, `"prediction"`, `"top3"`, nor a start, nor callable.

    Raises
    ------
    InputError
    """
    if not (callable(rule) or isinstance(rule, Start) or named_rule(rule)):
        raise InputError(
            f"There is no target rule {rule!r}: {nearest(str(rule), ['label', 'prediction', 'top3'])} "
            "A function of (prediction [N, classes], labels [N]) that returns N classes is also a rule, and so is a "
            "start (crp.attribution.starts)."
        )


def named_rule(rule: object) -> bool:
    """Return whether a rule is fully described by its name: `"label"`, `"prediction"`, or `"top3"` and the like."""
    return isinstance(rule, str) and (rule in ("label", "prediction") or _TOP.fullmatch(rule) is not None)


def rule_name(rule: TargetRule) -> str:
    """Return the name of the rule in the manifest: its own, or module and qualified name of the function.

    A start is named with a fingerprint, because its name does not hold its mask or reference.
    """
    if isinstance(rule, str):
        return rule
    if isinstance(rule, Start):
        return f"{rule.name(())} [{value_fingerprint(rule)[:12]}]"
    named = rule if hasattr(rule, "__qualname__") else type(rule)
    return f"{named.__module__}:{named.__qualname__}"


def attribution_targets(
    rule: TargetRule, prediction: Tensor, labels: Tensor, samples: Tensor, classes: int | None = None
) -> list[AttributionTarget]:
    """Apply a target rule to a block.

    Parameters
    ----------
    rule
        `"label"` (every label of a sample), `"prediction"` (the largest output), `"top3"` (the three largest), a
        function of `(prediction, labels)`, or a start, whose target is 0 in every sample in which relevance starts: see
        `crp.mine`.
    prediction
        The model's output, `[N, classes]`; of any shape `[N, ...]` for a start, or if a function returns
        `AttributionTarget`s.
    labels
        int64 `[N]`, -1 where the data set has none; `[N, L]`, padded with -1, where samples have several.
    samples
        Indices in the data set, for error messages, int64 `[N]`.
    classes
        Number of targets; by default `prediction.shape[1]`.

    Raises
    ------
    SampleError
        If a class is out of range; names the sample.
    InputError
        If a function returns something else, or the rule explains classes and the output is not `[N, classes]`.
    """
    classes = classes or prediction.shape[1]
    if isinstance(rule, Start):
        return [_started(rule, prediction, samples)]
    result = rule_result(rule, prediction, labels) if callable(rule) else None
    if starts_relevance(result):
        return [_checked(rule, target, prediction, samples, classes) for target in result]
    if prediction.ndim != 2:
        raise InputError(
            f"The rule {rule_name(rule)!r} explains classes of an output [N, classes], but the model's output is "
            f"{list(prediction.shape)}: give targets= a function that returns crp.mining.AttributionTarget."
        )
    table = _named(rule, prediction, labels) if result is None else _returned(rule, result, prediction)
    if table.ndim == 1:
        table = table[:, None]
        _check_range(rule, table, samples, classes, least=0)
    _check_range(rule, table, samples, classes, least=-1)
    columns = [column for column in _without_repetition(table).T if (column >= 0).any()]
    return [AttributionTarget(column, logits(prediction, column)) for column in columns]


def check_targets_of_samples(
    rule: TargetRule,
    targets: Sequence[AttributionTarget],
    prediction: Tensor,
    labels: Tensor,
    samples: Tensor,
    classes: int | None = None,
) -> None:
    """Refuse a rule that explains something else of a sample in a block than of the sample alone.

    Compared are the first and the last sample of the block. Its scores would depend on how samples are divided.

    Parameters
    ----------
    rule, prediction, labels, samples, classes
        As for `attribution_targets`.
    targets
        What the rule explains of the block.

    Raises
    ------
    SampleError
        Names the sample.
    """
    if len(prediction) == 1 or named_rule(rule):
        return
    for place in (0, -1):
        row = slice(place, None) if place else slice(1)
        alone = attribution_targets(rule, prediction[row], labels[row], samples[row], classes)
        if not _same_relevance(_of_sample(targets, place), _of_sample(alone, 0)):
            raise SampleError(
                int(samples[place]),
                f"is explained in another way in a block of samples than alone: what the target rule {rule_name(rule)} "
                "starts may depend on one sample only.",
            )


def _of_sample(targets: Sequence[AttributionTarget], place: int) -> list[tuple[int, Tensor]]:
    """List targets and relevance of one sample, without the targets in which it does not take part."""
    return [(int(one.targets[place]), one.relevance[place]) for one in targets if one.targets[place] >= 0]


def _same_relevance(first: Sequence[tuple[int, Tensor]], second: Sequence[tuple[int, Tensor]]) -> bool:
    if [target for target, _ in first] != [target for target, _ in second]:
        return False
    return all(
        bool((one - other).abs().max() <= _ROUNDING * other.abs().max())
        for (_, one), (_, other) in zip(first, second, strict=True)
    )


def rule_result(rule: Callable[[Tensor, Tensor], object], prediction: Tensor, labels: Tensor) -> object:
    """Call a rule; a single `AttributionTarget`, or those that it yields, become a list."""
    result = rule(prediction, labels)
    if isinstance(result, AttributionTarget):
        return [result]
    return list(result) if isinstance(result, Iterator) else result


def starts_relevance(result: object) -> bool:
    """Return whether the result of a rule is a list of `AttributionTarget` (empty if a block has no targets)."""
    return isinstance(result, list | tuple) and all(isinstance(target, AttributionTarget) for target in result)


def explained_classes(rule: TargetRule, prediction: Tensor, labels: Tensor, samples: Tensor) -> np.ndarray:
    """Return the class explained for each sample of a block, int64 `[N]`, for a rule with one class per sample.

    Errors as in `attribution_targets`.
    """
    (target,) = attribution_targets(rule, prediction, labels, samples)
    return target.targets


def logits(prediction: Tensor, targets: np.ndarray) -> Tensor:
    """Return the relevance `[N, classes]` that starts at the logits of the targets; all zero for a target of -1."""
    start = Logits(np.maximum(targets, 0)).relevance(prediction)
    return start * torch.as_tensor(targets >= 0, device=prediction.device)[:, None]


def _named(rule: str, prediction: Tensor, labels: Tensor) -> np.ndarray:
    if rule == "label":
        return labels.numpy()
    if rule == "prediction":
        return prediction.argmax(1).cpu().numpy()
    count = int(_TOP.fullmatch(rule)[1])
    return prediction.argsort(dim=1, descending=True, stable=True)[:, :count].cpu().numpy()


def _returned(rule: Callable, result: object, prediction: Tensor) -> np.ndarray:
    try:
        table = torch.as_tensor(result).cpu()
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"The target rule {rule_name(rule)} returned a {type(result).__name__}; whole numbers (one or several per "
            "sample) or crp.mining.AttributionTarget are needed."
        ) from None
    whole = not (table.is_floating_point() or table.is_complex() or table.dtype == torch.bool)
    if table.ndim not in (1, 2) or len(table) != len(prediction) or not whole:
        raise InputError(
            f"The target rule {rule_name(rule)} returned {table.dtype} of shape {list(table.shape)}; "
            f"{len(prediction)} whole numbers are needed, one for each sample."
        )
    return table.long().numpy()


def _check_range(rule: TargetRule, targets: np.ndarray, samples: Tensor, classes: int, least: int) -> None:
    wrong = np.argwhere((targets < least) | (targets >= classes))
    if len(wrong):
        row, place = wrong[0]
        origin = "has label" if rule == "label" else "is to be explained for class"
        one = "one output: pass targets='prediction' to explain it"
        have = one if classes == 1 else f"the classes 0 to {classes - 1}"
        raise SampleError(int(samples[row]), f"{origin} {targets[row, place]}, but the model has {have}.")


def _without_repetition(targets: np.ndarray) -> np.ndarray:
    """Keep the first occurrence of each class of a sample; later ones become -1."""
    unique = targets.copy()
    for place in range(1, targets.shape[1]):
        repeated = (targets[:, :place] == targets[:, place : place + 1]).any(1)
        unique[repeated, place] = -1
    return unique


def _started(rule: Start, prediction: Tensor, samples: Tensor) -> AttributionTarget:
    """Start in every sample; those in which nothing starts (a class that is predicted nowhere) do not take part."""
    relevance = rule.relevance(prediction)
    targets = np.zeros(len(prediction), dtype=np.int64)
    if relevance.shape == prediction.shape:
        targets[~relevance.flatten(1).any(1).cpu().numpy()] = -1
    return _checked(rule, AttributionTarget(targets, relevance), prediction, samples, 1)


def _checked(
    rule: Callable | Start, target: AttributionTarget, prediction: Tensor, samples: Tensor, classes: int
) -> AttributionTarget:
    targets, relevance = np.asarray(target.targets), target.relevance  # a list is accepted
    if isinstance(relevance, Start):
        relevance = relevance.relevance(prediction)
    where = f"An AttributionTarget of the target rule {rule_name(rule)}"
    if targets.dtype.kind not in "iu" or targets.shape != (len(prediction),):
        raise InputError(
            f"{where} has targets {targets.dtype} of shape {list(targets.shape)}; {len(prediction)} whole numbers are "
            "needed, one for each sample."
        )
    _check_range(rule, targets[:, None], samples, classes, least=-1)
    if not isinstance(relevance, Tensor) or relevance.shape != prediction.shape or not relevance.isfinite().all():
        raise InputError(f"{where} needs finite relevance of the output's shape {list(prediction.shape)}.")
    takes_part = torch.as_tensor(targets >= 0, device=prediction.device).view(-1, *[1] * (prediction.ndim - 1))
    return AttributionTarget(targets.astype(np.int64), relevance.detach().to(prediction) * takes_part)
