"""Every object of a picture explained: the boxes of a detector, or the classes of a segmentation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from crp.attribution.found_objects import FoundObject, find_objects
from crp.class_names import class_name
from crp.explanations.computation import explain, model_input
from crp.explanations.explanation import Explanation
from crp.library import Library
from crp.models import prepared


@dataclass(frozen=True)
class ObjectExplanation:
    """One object of a picture and its explanation.

    Attributes
    ----------
    found
        The object.
    class_name
        Name of its class.
    explanation
        Its `place` is the object's box or mask.
    """

    found: FoundObject
    class_name: str
    explanation: Explanation


@dataclass(frozen=True)
class ExplainedObjects:
    """The objects of one picture, explained one after the other.

    Attributes
    ----------
    count
        Number of objects.
    left_out
        Number of objects that are too unsure or too small (`crp.attribution.found_objects`).
    explained
        Computes them when it is read, once.
    """

    count: int
    left_out: int
    explained: Iterator[ObjectExplanation]


def explain_objects(model: nn.Module, image: Any, library: Library, **options: Any) -> ExplainedObjects:
    """Explain every object that a model finds in a picture.

    Parameters
    ----------
    model
        A segmentation with the output `[N, classes, H, W]`, or a detector: see `crp.attribution.found_objects`.
    image, library, options
        As in `crp.explain`, without `target`, `against` and `place`.

    Raises
    ------
    InputError
        If the model finds no object.
    """
    data = model_input(image, library).to(next(model.parameters()).device)
    found = find_objects(model, data, library.output_names)
    composite = options.pop("composite", None)
    ready = prepared(found.model, composite, data, library=library)

    def explained() -> Iterator[ObjectExplanation]:
        for each in found.objects:
            explanation = explain(ready, image, library, target=each.start, **options)
            yield ObjectExplanation(each, class_name(library.output_names, each.target), explanation)

    return ExplainedObjects(len(found.objects), found.left_out, explained())
