"""What taking out filters does to predictions: `measure_pruning`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from crp.correction.compared_predictions import ChangedPredictions, changed_predictions, share_of
from crp.correction.corrections import Correction, copied
from crp.correction.pruning import SHARES, filters_removed, predicted, pruning_curve
from crp.correction.reruns import checked_samples


@dataclass(frozen=True)
class PruningFigures(ChangedPredictions):
    """Figures of a model and of a pruned one, beside the predictions that changed.

    Attributes
    ----------
    share
        Which part of the filters was to be taken out, 0 to 1.
    before, after
        How many of the samples are right (0 to 1).
    layers
        By layer: its name, the number of its filters, and how many of them were taken out.
    curve
        The same model with more and more filters taken out: which part of them, and how many samples are right.
    """

    share: float
    before: float
    after: float
    layers: tuple[tuple[str, int, int], ...]
    curve: tuple[tuple[float, float], ...]


def measure_pruning(
    model: nn.Module,
    pruned: Correction,
    data: Tensor,
    scores: Mapping[str, np.ndarray],
    share: float,
    *,
    labels: Tensor | None = None,
    progress: bool = True,
) -> PruningFigures:
    """Measure what `prune` did, and what it would do at other shares.

    Parameters
    ----------
    model, scores, share
        As `prune` was given them.
    pruned
        What it returned.
    data
        Samples `[N, c, *S]`, best others than those that the scores were found on.
    labels
        Class of each sample, int64 `[N]`; None for what the whole model predicts.
    progress
        Whether to show a progress bar.
    """
    checked_samples(data, labels)
    first, second = predicted(copied(model), data), predicted(pruned.model, data)
    right = first if labels is None else labels.to(first.device)
    removed, before = filters_removed(scores, share), share_of(first == right)
    others = pruning_curve(model, data, scores, labels=right, shares=SHARES[1:], progress=progress)
    return PruningFigures(
        **vars(changed_predictions(first, second, right, labels is not None)),
        share=share,
        before=before,
        after=share_of(second == right),
        layers=tuple((layer, len(values), len(removed[layer])) for layer, values in scores.items()),
        curve=((SHARES[0], before), *others),
    )
