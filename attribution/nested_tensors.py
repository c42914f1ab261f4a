"""Tensors among arguments or results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor


def tensors_in(values: Iterable[object]) -> Iterator[Tensor]:
    """Iterate over the tensors among arguments or results, also inside lists and tuples."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_in(value)
