"""What is said about a pass of which a part has no rule, no gradient, or fewer digits."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor

from crp.attribution.backward_graph import graph_below
from crp.attribution.functions.function_calls import FunctionRules
from crp.errors import listed


def notes_of(functions: FunctionRules, output: Tensor, dtype: torch.dtype) -> Iterator[str]:
    """Say what relevance that starts at the model's output meets, of a pass on input of some dtype, in sentences."""
    reached = set(graph_below(output))
    if found := functions.reached_without_rule(output, reached):
        yield f"Without a rule, run by their gradient: {_named(found)}."
    if found := functions.reached_reading_cut(reached):
        yield (
            "Values that depend on the input but have no gradient (detach, torch.no_grad) count as constants. "
            f"They are read by {_named(found)}."
        )
    if functions.leaving:
        yield (
            "Values that depend on the input become numbers outside of torch, and what is computed from these counts "
            f"as constants: {_named(functions.leaving)}."
        )
    yield from _lost_digits(functions.converted, dtype)


def _named(found: Mapping[str, Collection[str]]) -> str:
    """Name functions, and the modules that called them."""
    return "; ".join(f"{name} in {listed(sorted(modules))}" if modules else name for name, modules in found.items())


def _lost_digits(converted: Mapping[torch.dtype, Collection[str]], dtype: torch.dtype) -> list[str]:
    """Say which modules compute with fewer digits than the input has: rules and sums are only as exact."""
    return [
        f"Computed in {str(lower).removeprefix('torch.')}, whatever the dtype of the model, and relevance is only as "
        f"exact: {listed(sorted(name or 'the model itself' for name in modules))}."
        for lower, modules in converted.items()
        if lower.is_floating_point and torch.finfo(lower).eps > torch.finfo(dtype).eps
    ]
