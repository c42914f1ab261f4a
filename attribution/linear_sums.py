"""Rows of a batch that are sums of other rows, computed as such where a module is linear.

Two concepts that are removed together change a layer's output by the sum of what each of them changes. If a convolution
or a linear module reads that output, the same holds for its own, so it runs for the single concepts alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

# Their outputs are linear in what they are given, whatever their options, but for the bias.
_LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
# How many times as large as a sum what it adds up may be: rounding errors are about as many times larger, too.
_LARGEST = 4
# How often rounding may count in a sum.
_ROUNDING = 8
# Coarser numbers are not added up.
_PRECISE = (torch.float32, torch.float64)


class LinearSums:
    """Runs modules that read a layer's output, without the rows that are sums.

    Parameters
    ----------
    replaced
        `[K, N, *layer]`, what stands in the place of the layer's output in each of `K` conditions.
    unchanged
        `[N, *layer]`, the layer's output.
    sums
        For each condition, two earlier ones whose changes it may add up, `replaced[k] = replaced[i] + replaced[j] -
        unchanged`, or None. Whether it does is checked: a kind of concept may be anything.
    """

    def __init__(self, replaced: Tensor, unchanged: Tensor, sums: Sequence[tuple[int, int] | None]) -> None:
        self._sums = [None] * len(replaced)
        if replaced.dtype in _PRECISE:
            sizes = torch.linalg.vector_norm(replaced.flatten(1), dim=1)
            whole = torch.linalg.vector_norm(unchanged)
            rounding = _ROUNDING * torch.finfo(replaced.dtype).eps
            for condition, pair in enumerate(sums):
                if pair:
                    first, second = pair
                    largest = max(sizes[first], sizes[second], whole)
                    off = replaced[first] + (replaced[second] - unchanged) - replaced[condition]
                    is_sum = torch.linalg.vector_norm(off) <= rounding * largest
                    # where nearly all cancels, few digits of the sum would be right
                    if is_sum and largest <= _LARGEST * sizes[condition]:
                        self._sums[condition] = pair
        self._needed = {condition for pair in self._sums if pair for condition in pair}
        self._outputs: dict[str, dict[int, Tensor]] = {}
        self._samples = len(unchanged)

    def run(self, name: str, call: partial[Tensor], conditions: range) -> Tensor:
        """Return the output of a module's call for a batch of conditions, with the unchanged one as the last.

        Parameters
        ----------
        name
            Of the module.
        call
            The call, with the rows of the whole batch as its argument.
        conditions
            Those of the batch. Batches come in order.
        """
        own = [place for place, condition in enumerate(conditions) if self._sums[condition] is None]
        rows = call.args[0].unflatten(0, (-1, self._samples))
        *outputs, unchanged = call.func(rows[[*own, -1]].flatten(0, 1)).split(self._samples)
        found = self._outputs.setdefault(name, {})
        each = {conditions[place]: output for place, output in zip(own, outputs, strict=True)}
        found |= {condition: output for condition, output in each.items() if condition in self._needed}
        for condition in conditions:
            if pair := self._sums[condition]:
                each[condition] = found[pair[0]] + (found[pair[1]] - unchanged)
        return torch.cat([*(each[condition] for condition in conditions), unchanged])


def is_linear(call: partial[Tensor]) -> bool:
    """Whether a call is that of a module whose output is linear in its only argument; a subclass may do anything."""
    module = getattr(call.func, "__self__", None)
    return type(module) in _LINEAR and call.func.__func__ is type(module).forward and len(call.args) == 1
