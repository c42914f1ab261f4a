"""What is given to a `RelevanceFlow`, checked."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from crp.errors import InputError


def check_relevance(relevance: Tensor, source: Tensor, start: str) -> None:
    """Refuse relevance that does not have the shape of the layer `start`, whose output is `source`.

    Raises
    ------
    InputError
    """
    if relevance.shape[1:] != source.shape:
        raise InputError(
            f"Relevance at '{start}' must be [K, {', '.join(map(str, source.shape))}], given {list(relevance.shape)}."
        )


def full_regions(regions: Tensor, shape: Sequence[int]) -> Tensor:
    """Return regions `[R, *S]` or `[R, N, c, *S]` of an input `[N, c, *S]` as `[R, N, c, *S]`.

    Raises
    ------
    InputError
        If they have another shape.
    """
    if regions.shape[1:] == shape[2:]:
        return regions[:, None, None].expand(-1, *shape)
    if regions.shape[1:] != shape:
        raise InputError(
            f"Regions of this input must be [R, {', '.join(map(str, shape[2:]))}] or "
            f"[R, {', '.join(map(str, shape))}], given {list(regions.shape)}."
        )
    return regions
