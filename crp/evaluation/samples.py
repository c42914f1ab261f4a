"""Samples to evaluate on."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from crp.attribution.flow import RelevanceFlow
from crp.evaluation.subject import is_right
from crp.mining.block_stream import SampleReader
from crp.mining.labels import Label
from crp.models import PreparedModel

# Samples that are predicted at a time.
_BATCH = 8


class Chosen(NamedTuple):
    """Samples in the order of a data set.

    Attributes
    ----------
    data
        `[N, c, *S]`.
    labels
        Their labels; None if the data set has none.
    indices
        Their numbers in the data set.
    """

    data: Tensor
    labels: list[Label] | None
    indices: list[int]


def chosen_samples(model: PreparedModel, dataset: object, count: int, *, labelled: bool) -> Chosen:
    """Choose samples spread over a data set; if it has labels, until enough are predicted correctly.

    Parameters
    ----------
    model
        The model.
    dataset
        Map-style, of model inputs, with labels or without.
    count
        How many samples, if there are as many. With labels, how many that are predicted correctly, and at most how many
        that are not.
    labelled
        Whether items have labels.

    Returns
    -------
    Chosen
    """
    reader = SampleReader(dataset, labelled, without_label="give a label to every sample, or to none")
    order = reader.spread(len(reader))
    right: dict[int, tuple[Tensor, Label]] = {}
    wrong: dict[int, tuple[Tensor, Label]] = {}
    for first in range(0, len(order), _BATCH):
        tried = {index: reader[index] for index in order[first : first + _BATCH]}
        with RelevanceFlow(model.replica, None, torch.stack([data for data, _ in tried.values()])) as flow:
            predicted = flow.prediction.argmax(1).tolist() if labelled else [None] * len(tried)
        for (index, sample), best in zip(tried.items(), predicted, strict=True):
            found = right if not labelled or is_right(sample[1], best) else wrong
            if len(found) < count:
                found[index] = sample
        if len(right) == count:
            break
    chosen = dict(sorted((right | wrong).items()))
    labels = [label for _, label in chosen.values()] if labelled else None
    return Chosen(torch.stack([data for data, _ in chosen.values()]), labels, list(chosen))
