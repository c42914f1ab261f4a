"""Which concepts a condition keeps, and with which weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from crp.errors import InputError, shortened
from crp.indices import concept_ids


@dataclass(frozen=True)
class AllBut:
    """All concepts of a layer except some; made by `all_but`."""

    ids: Any


def all_but(ids: Any) -> AllBut:
    """Choose all concepts of a layer except `ids`, which may have any form that `crp.indices` reads.

    What belongs to no concept (the rest) is not chosen either.
    """
    return AllBut(ids)


def others_of(chosen: Any, count: int, where: str = "the layer") -> Any:
    """Return the condition on what another one leaves out: each concept with 1 minus its weight there.

    Examples
    --------
    >>> others_of([1], 3), others_of({0: 1.0, 2: -0.5}, 3)
    (AllBut(ids=[1]), {0: 0.0, 1: 1.0, 2: 1.5})
    """
    if isinstance(chosen, AllBut):
        return chosen.ids
    if isinstance(chosen, Mapping):
        return dict(enumerate((1 - weights_of(chosen, count, where, torch.zeros(0, dtype=torch.float64))).tolist()))
    return AllBut(chosen)


def weights_of(chosen: Any, count: int, where: str = "the layer", like: Tensor | None = None) -> Tensor:
    """Read the weight of every concept from what a condition names.

    Parameters
    ----------
    chosen
        Ids in any form that `crp.indices` reads (weight 1), a dict of weights by id, or `all_but(ids)`.
    count
        Number of concepts.
    where
        What they belong to, for messages.
    like
        A tensor whose dtype and device the result gets.

    Returns
    -------
    Tensor
        `[count]`.

    Raises
    ------
    InputError
        If there is no such concept, or a weight is not a finite number.

    Examples
    --------
    >>> weights_of({0: 1.0, 2: -0.5}, 3), weights_of(all_but([1]), 3), weights_of(2, 3)
    (tensor([ 1.0000,  0.0000, -0.5000]), tensor([1., 0., 1.]), tensor([0., 0., 1.]))
    """
    weights = torch.zeros(count) if like is None else like.new_zeros(count)
    if isinstance(chosen, AllBut):
        weights += 1
        weights[list(concept_ids(chosen.ids, count, where))] = 0
    elif isinstance(chosen, Mapping):
        for key, weight in chosen.items():
            try:
                value = float(weight)
            except (TypeError, ValueError):
                value = float("nan")
            if not abs(value) < float("inf"):
                raise InputError(f"The weight of concept {key} is a finite number, given {shortened(weight)}.")
            weights[list(concept_ids(key, count, where))] = value
    else:
        weights[list(concept_ids(chosen, count, where))] = 1
    return weights
