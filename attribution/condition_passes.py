"""Heatmaps of many conditions, no more in memory at a time than share a backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from crp.attribution.flow import RelevanceFlow

Item = TypeVar("Item")


def conditional_heatmaps(
    flow: RelevanceFlow, conditions: Sequence[Item], arriving: Callable[[Sequence[Item]], Tensor]
) -> Tensor:
    """Compute the heatmap of each condition for the first sample of a flow.

    Parameters
    ----------
    flow
        The flow.
    conditions
        Such as ids of concepts, at least one.
    arriving
        From some of them to the relevance that arrives at the input, `[K, N, c, *S]`.

    Returns
    -------
    Tensor
        `[K, *S]`, the sum over the input's channels.
    """
    return torch.cat([arriving(some)[:, 0].sum(1) for some in in_passes(flow, conditions)])


def in_passes(flow: RelevanceFlow, conditions: Sequence[Item]) -> list[Sequence[Item]]:
    """Divide conditions into those that share a backward pass: the relevance of the others need not exist yet."""
    return [conditions[first : first + flow.chunk] for first in range(0, len(conditions), flow.chunk)]
