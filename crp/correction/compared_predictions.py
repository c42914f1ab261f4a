"""What two models predict for the same samples: `ChangedPredictions`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ChangedPredictions:
    """Predictions of a model for some samples, and of a corrected one.

    Attributes
    ----------
    by_labels
        Whether "right" is the label; otherwise it is what the original model predicts.
    classes
        For each class with samples: its index, their number, and how many of them are right before and after (0 to 1).
    changes
        For each sample whose prediction changed: its row, the class that is right, the predictions before and after.
    """

    by_labels: bool
    classes: tuple[tuple[int, int, float, float], ...]
    changes: tuple[tuple[int, int, int, int], ...]

    @property
    def better(self) -> tuple[tuple[int, int, int, int], ...]:
        """Changes after which a sample is right."""
        return tuple(change for change in self.changes if change[3] == change[1])

    @property
    def worse(self) -> tuple[tuple[int, int, int, int], ...]:
        """Changes after which a sample is no longer right."""
        return tuple(change for change in self.changes if change[2] == change[1])


def changed_predictions(before: Tensor, after: Tensor, right: Tensor, by_labels: bool) -> ChangedPredictions:
    """Compare predictions, int64 `[N]`, with each other and with the classes that are right."""
    classes = tuple(
        (index, int(own.sum()), share_of((before == index)[own]), share_of((after == index)[own]))
        for index in right.unique().tolist()
        for own in [right == index]
    )
    changed = (before != after).nonzero().flatten()
    rows = torch.stack([changed, right[changed], before[changed], after[changed]], 1).tolist()
    return ChangedPredictions(by_labels, classes, tuple(map(tuple, rows)))


def share_of(which: Tensor) -> float:
    """Return how many of some samples, bool `[N]`, it is true for (0 to 1); NaN if there are none."""
    return float(which.double().mean()) if len(which) else float("nan")
