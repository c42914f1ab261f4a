"""What is explained of a forward pass: the start that the caller named, its value, and the classes beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from crp.attribution import RelevanceFlow
from crp.attribution.final_activation import class_probabilities
from crp.attribution.named_starts import Target, output_names, start_of
from crp.attribution.starts import Logit, Start, held, starts_at_classes
from crp.class_names import class_name
from crp.errors import InputError, shortened
from crp.values import ClassScore, StartScore

if TYPE_CHECKING:
    from crp.library import Library

_CLASSES = 5  # an explanation lists the best ones


@dataclass(frozen=True)
class Explained:
    """A start, and the class or name and value that an explanation shows for it."""

    start: Start
    score: ClassScore | StartScore


def explained_of(flow: RelevanceFlow, library: Library, target: Target | None) -> Explained:
    """Look up what is explained of the only sample of a flow.

    Parameters
    ----------
    flow
        The forward pass of one sample.
    library
        Names the classes.
    target
        A class by index or name, an expression of classes, or a start; None for the predicted class.

    Raises
    ------
    InputError
        If there is no such class, the output does not fit the start, or has no predicted class, or no relevance starts.
    """
    prediction, names = flow.prediction, library.output_names
    if target is None:
        target = _predicted(flow, library)
    # what is measured without a concept is measured at the same positions
    start = held(start_of(target, names, prediction), prediction)
    started = flow.output_relevance(start)
    if started.shape[1:] != prediction.shape or not started.isfinite().all():
        raise InputError(
            f"{start.name(names)!r} starts relevance of shape {list(started.shape[1:])}; finite relevance of the "
            f"output's shape {list(prediction.shape)} is needed."
        )
    if isinstance(start, Logit):
        return Explained(start, _class_score(flow, library, start.target))
    name = start.name(output_names(names, prediction))
    if not started.any():
        raise InputError(
            f"No relevance starts for {name!r}: the model's output is zero there, or the class is predicted nowhere."
        )
    return Explained(start, _start_score(name, started[0], prediction))


def probabilities_of(flow: RelevanceFlow, library: Library) -> str:
    """Return how the logits of classes become probabilities: "softmax" or "sigmoid".

    The caller says it (`crp.prepared`), or the activation that ends the model, or the library: the caller of `crp.mine`
    said it, or the labels of its data set did. Otherwise it is a softmax.
    """
    if flow.replica.probabilities is not None:
        return flow.replica.probabilities
    if flow.independent is not None:
        return "sigmoid" if flow.independent else "softmax"
    return library.manifest.get("probabilities", "softmax")


def best_classes(flow: RelevanceFlow, library: Library, explained: Sequence[Explained]) -> tuple[ClassScore, ...]:
    """Return the best classes of the only sample, best first; none if nothing that is explained is made of classes."""
    if flow.prediction.ndim != 2 or not any(starts_at_classes(one.start) for one in explained):
        return ()
    ranked = flow.prediction[0].double().argsort(descending=True, stable=True)[:_CLASSES].tolist()
    return tuple(_class_score(flow, library, index) for index in ranked)


def same(flow: RelevanceFlow, first: Start, second: Start) -> bool:
    """Return whether two starts are one."""
    if isinstance(first, Logit) and isinstance(second, Logit):
        return first == second
    return torch.equal(flow.output_relevance(first), flow.output_relevance(second))


def _predicted(flow: RelevanceFlow, library: Library) -> int:
    if library.manifest["settings"]["start"] == "start":
        raise InputError(
            f"The library was mined with {shortened(library.class_names[0])} as its start, so no class is explained by "
            "default: give what is to be explained as target=."
        )
    if flow.prediction.ndim != 2:
        raise InputError(
            f"The model's output is {list(flow.prediction.shape)} and not [N, classes], so it has no predicted class: "
            "give as target= a class of a segmentation, or a start (crp.attribution.starts)."
        )
    return int(flow.prediction[0].argmax())


def _start_score(name: str, started: Tensor, prediction: Tensor) -> StartScore:
    places = started != 0
    whole = torch.equal(started, prediction * places)
    return StartScore(name, float(started.double().sum()), int(places.sum()) if whole else None)


def _class_score(flow: RelevanceFlow, library: Library, index: int) -> ClassScore:
    """Return one class of the prediction; for a model with one output, its value without a probability."""
    scores = flow.prediction[0].double()
    independent = probabilities_of(flow, library) == "sigmoid"
    probability = None if len(scores) == 1 else float(class_probabilities(scores, independent)[index])
    return ClassScore(index, class_name(library.output_names, index, len(scores)), float(scores[index]), probability)
