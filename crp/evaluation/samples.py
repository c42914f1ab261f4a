"""Samples to evaluate on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from crp.attribution.flow import RelevanceFlow
from crp.mining.block_stream import SampleReader
from crp.models import PreparedModel

# Samples that are predicted at a time, and the step of the order in which samples are tried, of their number.
_BATCH, _GOLDEN = 8, (5**0.5 - 1) / 2


def chosen_samples(model: PreparedModel, dataset: object, count: int, *, labelled: bool) -> Tensor:
    """Choose samples spread over a data set; if it has labels, those that the model predicts rightly.

    Parameters
    ----------
    model
        The model.
    dataset
        Map-style, of model inputs, with labels or without.
    count
        How many samples, if there are as many.
    labelled
        Whether items have labels.

    Returns
    -------
    Tensor
        `[N, c, *S]`, `N <= count`, in the order of the data set.
    """
    reader = SampleReader(dataset, labelled)
    order = np.argsort(np.arange(len(reader)) * _GOLDEN % 1)
    found: dict[int, Tensor] = {}
    for first in range(0, len(order), _BATCH):
        tried = {int(index): reader[int(index)] for index in order[first : first + _BATCH]}
        with RelevanceFlow(model.replica, None, torch.stack([data for data, _ in tried.values()])) as flow:
            predicted = flow.prediction.argmax(1).tolist() if labelled else [None] * len(tried)
        for (index, (data, label)), best in zip(tried.items(), predicted, strict=True):
            if not labelled or best == label or (isinstance(label, tuple) and best in label):
                found[index] = data
        if len(found) >= count:
            break
    return torch.stack([found[index] for index in sorted(list(found)[:count])]) if found else reader.like.new_empty(0)
