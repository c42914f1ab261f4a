"""The objects that a model finds in one picture: boxes of a detector, classes of a segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from crp.attribution.box_heads import box_head_of
from crp.attribution.detectors import Detection, boxes_of, detect
from crp.attribution.isolation import isolated
from crp.attribution.replica import prepare
from crp.attribution.starts import Box, ClassInMask
from crp.errors import InputError, ModelError

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


@isolated()
def find_objects(
    model: nn.Module, data: Tensor, class_names: Sequence[str] = (), *, needed: bool = True
) -> FoundObjects:
    """Find the objects of one picture.

    Parameters
    ----------
    model
        A detector that `crp.attribution.detectors` knows, or a segmentation with the output `[N, classes, H, W]`.
    data
        Model input, `[1, c, H, W]`.
    class_names
        Names of the classes; one that is called background is no object.
    needed
        Whether a picture without objects is an error.

    Raises
    ------
    InputError
        If the model is neither, or finds nothing.
    """
    if _is_detector(model):
        return _boxes(model, data, needed)
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
    objects = [FoundObject(index, ClassInMask(index), None, float(parts[index])) for index in classes]
    kept = tuple(each for each in objects if each.part >= LEAST_PART)
    if needed and not kept:
        raise InputError("The model finds no object in this picture: it predicts nothing but background.")
    return FoundObjects(model, kept, len(objects) - len(kept))


def _boxes(model: nn.Module, data: Tensor, needed: bool) -> FoundObjects:
    if not needed and not boxes_of(model, data):
        return FoundObjects(model, (), 0)
    found = detect(model, data)
    objects = [_of_box(each, data) for each in found.boxes]
    kept = tuple(each for each in objects if each.score >= LEAST_SCORE)
    if needed and not kept:
        raise InputError(
            f"No box has a score of {LEAST_SCORE} or more; the best of {len(objects)} has "
            f"{max(each.score for each in objects):.2f}. Explain it with --box 0."
        )
    return FoundObjects(found.model, kept, len(objects) - len(kept))


def _is_detector(model: nn.Module) -> bool:
    model = getattr(type(model), "detector", lambda: model)()
    try:
        box_head_of(model)
    except (ModelError, ImportError):
        return False
    return True


def _of_box(each: Detection, data: Tensor) -> FoundObject:
    left, top, right, bottom = each.box
    area = max(0.0, right - left) * max(0.0, bottom - top)
    return FoundObject(each.label, each.start, each.score, area / (data.shape[2] * data.shape[3]), each.row)
