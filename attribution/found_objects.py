"""The objects that a model finds in one picture: boxes of a detector, classes of a segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from crp.attribution.detectors import Detection, boxes_of, detect, is_detector
from crp.attribution.isolation import isolated_pass
from crp.attribution.replica import prepare
from crp.attribution.starts import Box, ClassInMask
from crp.errors import InputError

# Names of the class that is no object.
BACKGROUND = ("background", "__background__")
# Boxes with a smaller score, and classes with a smaller part of the picture, are left out.
LEAST_SCORE = 0.5
LEAST_PART = 0.002


@dataclass(frozen=True)
class FoundObject:
    """One object: a box, or the pixels that are predicted as one class.

    Attributes
    ----------
    target
        Its class.
    start
        Starts relevance at its logit or logits, with `FoundObjects.model`.
    score
        Of a box, the detector's score, 0..1; of a class of a segmentation None.
    part
        The part of the picture that it covers, 0..1.
    row
        Of a box, its row among the logits of all proposals or anchors; of a class None.
    """

    target: int
    start: Box | ClassInMask
    score: float | None
    part: float
    row: int | None = None


@dataclass(frozen=True)
class FoundObjects:
    """The objects of one picture.

    Attributes
    ----------
    model
        The model to explain them with.
    objects
        Boxes in the order of the detector, by score; classes by their part of the picture, the largest first.
    left_out
        Number of boxes with a score below `LEAST_SCORE`, or of classes with less than `LEAST_PART` of the picture.
    """

    model: nn.Module
    objects: tuple[FoundObject, ...]
    left_out: int


def find_objects(model: nn.Module, data: Tensor, class_names: Sequence[str] = ()) -> FoundObjects:
    """Find the objects of one picture, and the model to explain them with.

    Parameters
    ----------
    model
        A detector that `crp.attribution.detectors` knows, or a segmentation with the output `[N, classes, H, W]`.
    data
        Model input, `[1, c, H, W]`.
    class_names
        Names of the classes; one that is called background is no object.

    Raises
    ------
    InputError
        If the model is neither, or finds nothing.
    """
    boxes = is_detector(model)
    if boxes:
        found = detect(model, data)
        model, objects = found.model, [_of_box(each, data) for each in found.boxes]
    else:
        objects = _classes(model, data, class_names)
    kept = tuple(filter(_is_sure, objects))
    if not kept and boxes:
        raise InputError(
            f"No box has a score of {LEAST_SCORE} or more; the best of {len(objects)} has "
            f"{max(each.score for each in objects):.2f}. Explain it with --box 0."
        )
    if not kept:
        raise InputError("The model finds no object in this picture: it predicts nothing but background.")
    return FoundObjects(model, kept, len(objects) - len(kept))


def objects_in(model: nn.Module, data: Tensor, class_names: Sequence[str] = ()) -> tuple[FoundObject, ...]:
    """Find the objects of one picture, which may be none; the rest is as in `find_objects`."""
    if is_detector(model):
        objects = [_of_box(each, data) for each in boxes_of(model, data)]
    else:
        objects = _classes(model, data, class_names)
    return tuple(filter(_is_sure, objects))


@isolated_pass()
def _classes(model: nn.Module, data: Tensor, class_names: Sequence[str]) -> list[FoundObject]:
    with torch.no_grad():
        prediction = prepare(model, None).model(data)
    if not isinstance(prediction, Tensor) or prediction.ndim != 4:
        shape = list(prediction.shape) if isinstance(prediction, Tensor) else type(prediction).__name__
        raise InputError(
            f"Objects are boxes of a detector, or classes of a segmentation [N, classes, H, W]; this model's output is "
            f"{shape}."
        )
    parts = torch.bincount(prediction[0].argmax(0).flatten(), minlength=prediction.shape[1]) / prediction[0, 0].numel()
    named = dict(enumerate(class_names))
    order = [index for index in parts.argsort(descending=True, stable=True).tolist() if parts[index]]
    classes = [index for index in order if named.get(index) not in BACKGROUND]
    return [FoundObject(index, ClassInMask(index), None, float(parts[index])) for index in classes]


def _is_sure(found: FoundObject) -> bool:
    return found.part >= LEAST_PART if found.score is None else found.score >= LEAST_SCORE


def _of_box(each: Detection, data: Tensor) -> FoundObject:
    left, top, right, bottom = each.box
    area = max(0.0, right - left) * max(0.0, bottom - top)
    return FoundObject(each.label, each.start, each.score, area / (data.shape[2] * data.shape[3]), each.row)
