"""Mining per object: each object of a sample is a sample of the library, explained in its own mask or box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crp.attribution.detectors import boxes_of
from crp.attribution.starts import Box, Start
from crp.dataset_items import class_names_of, read_item
from crp.errors import InputError

from .targets import AttributionTarget


@dataclass(frozen=True, eq=False)
class ObjectLabel:
    """What is explained of one object.

    Attributes
    ----------
    target
        Its class, by which statistics are kept.
    start
        Starts relevance at the object, such as `ClassInMask` or `Box` (`crp.attribution.starts`).
    """

    target: int
    start: Start


class ObjectSamples:
    """A data set of objects: sample i is the picture of object i, explained in the object's mask or box.

    Give it to `crp.mine` together with its target rule: `crp.mine(model, samples, targets=samples.targets, ...)`. A
    picture is a sample as often as it has objects.

    Parameters
    ----------
    data
        A map-style data set, of items that `crp.mine` reads; labels are ignored.
    objects
        The objects of each sample of `data`.

    Raises
    ------
    InputError
        If there is not one list of objects for each sample, or no object at all.

    Examples
    --------
    >>> from crp.attribution.starts import ClassInMask
    >>> left, right = torch.tensor([[1, 0]]), torch.tensor([[0, 1]])                       # masks [H=1, W=2]
    >>> objects = [[ObjectLabel(2, ClassInMask(2, left)), ObjectLabel(1, ClassInMask(1, right))], []]
    >>> samples = ObjectSamples([torch.zeros(3, 1, 2), torch.ones(3, 1, 2)], objects)
    >>> len(samples), samples.sample_name(1)
    (2, 'sample 0, object 1')
    """

    def __init__(self, data: Any, objects: Sequence[Sequence[ObjectLabel]]) -> None:
        if len(objects) != len(data):
            raise InputError(f"{len(data)} samples need as many lists of objects, given {len(objects)}.")
        self.data = data
        self.places = tuple((sample, number) for sample, own in enumerate(objects) for number in range(len(own)))
        self.labels = tuple(label for own in objects for label in own)
        if not self.labels:
            raise InputError("There are no objects to mine: every list is empty.")
        self.preprocessing = getattr(data, "preprocessing", None)
        self.class_names = class_names_of(data)

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return the input of the object's picture, and as its label the number of the object."""
        data, _ = read_item(self.data[self.places[index][0]], self.preprocessing)
        return data, index

    def sample_name(self, index: int) -> str:
        """Return the name of the picture, and the number of the object in it."""
        sample, number = self.places[index]
        name = self.data.sample_name(sample) if hasattr(self.data, "sample_name") else f"sample {sample}"
        return f"{name}, object {number}"

    def targets(self, prediction: Tensor, labels: Tensor) -> list[AttributionTarget]:
        """Start the relevance of each object: the target rule for `crp.mine`."""
        own = [self.labels[number] for number in labels.tolist()]
        started = [label.start.relevance(row[None]) for label, row in zip(own, prediction, strict=True)]
        return [AttributionTarget(np.array([label.target for label in own]), torch.cat(started))]


def detected_objects(model: nn.Module, data: Any, *, least_score: float = 0.5) -> list[list[ObjectLabel]]:
    """Find the objects of every sample with a detector, as labels for `ObjectSamples`.

    Parameters
    ----------
    model
        A detector that `crp.attribution.detectors` knows. What is mined is `box_logits(model)`.
    data
        The data set.
    least_score
        Boxes with a smaller score are no objects.

    Raises
    ------
    InputError, ModelError
        As `crp.attribution.detectors.detect`; but a sample without a box has an empty list.
    """
    preprocessing, found = getattr(data, "preprocessing", None), []
    for index in range(len(data)):
        boxes = boxes_of(model, read_item(data[index], preprocessing)[0])
        found.append(
            [
                ObjectLabel(each.label, Box(each.row, each.label, each.start.label, each.box))
                for each in boxes
                if each.score >= least_score
            ]
        )
    return found
