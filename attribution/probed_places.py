"""What a function that is not followed does to values, as NaN in its arguments shows: `origins`.

A result is NaN if it is computed of a value that is. So values are numbered, and the function runs twice for each bit
of the numbers: with NaN where the bit is set, and where it is not. What is NaN in one of the two runs, for each bit, is
computed of values of one number.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crp.attribution.moved_places import Places, SeenCall, differ, in_memory
from crp.attribution.nested_tensors import tensors_in


def origins(call: SeenCall, values: Tensor, numbers: Tensor) -> list[Tensor]:
    """Find of which number the values are that each result of a call is computed of.

    Parameters
    ----------
    call
        The call, which must not change its arguments.
    values
        One of its arguments, of floating point or complex numbers.
    numbers
        A whole number, 0 or more, for each of its values.

    Returns
    -------
    list of Tensor
        For each result, int64 of its shape; -1 where it is computed of none of the values, or of several numbers. Empty
        if the function does not run with NaN, or if the values decide on shapes.
    """
    try:
        return [torch.where(single, number, -1) for number, single in _read_bits(call, values, numbers)]
    except (RuntimeError, ValueError, TypeError, IndexError):
        return []


def _read_bits(call: SeenCall, values: Tensor, numbers: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the number for each result, and whether it has a single one."""
    results: list[tuple[Tensor, Tensor]] = []
    for bit in range(max(1, int(numbers.max()).bit_length())):
        chosen = (numbers >> bit & 1).bool()
        runs = []
        for missing in (chosen, ~chosen):
            given = call.replacing(values, values.masked_fill(missing, torch.nan))
            runs.append([one.isnan() for one in tensors_in([given.run()])])
        bits = [(one.long() << bit, one ^ other) for one, other in zip(*runs, strict=True)]
        results = [
            (number | more, single & alone)
            for (number, single), (more, alone) in zip(results or bits, bits, strict=True)
        ]
    return results


def places_of_origins(call: SeenCall, values: Tensor, places: Places) -> list[Places]:
    """Return the places of the results: those of the values that each is computed of, if these lie at one place."""
    numbers, tables = torch.zeros(1, dtype=torch.int64, device=values.device), []
    for each in map(in_memory, places.along):
        table, own = each.nan_to_num(nan=-torch.inf).unique(return_inverse=True)
        numbers = numbers * len(table) + own
        tables.append(table.masked_fill(table.isinf(), torch.nan))
    results = []
    for found in origins(call, values, numbers.expand(values.shape)):
        along, rest = [], found.clamp(min=0)
        for table in reversed(tables):
            along.insert(0, table[rest % len(table)].masked_fill(found < 0, torch.nan))
            rest = rest // len(table)
        results.append(Places(tuple(along)))
    return results


def channels_of(values: Tensor, axis: int) -> Places:
    """Return the number of each value's channel, as the one coordinate of places."""
    shape = [-1 if place == axis else 1 for place in range(values.ndim)]
    numbers = torch.arange(values.shape[axis], dtype=torch.float32, device=values.device)
    return Places((numbers.view(shape).expand(values.shape),))


def axis_of(channels: Places) -> int | None:
    """Return the axis along which the numbers of channels differ; None if there is none, or several."""
    numbers = channels.along[0][:1]  # in all samples alike
    if not differ(numbers):
        return None
    most, least = numbers.nan_to_num(nan=-torch.inf), numbers.nan_to_num(nan=torch.inf)
    for axis in range(1, numbers.ndim):
        others = [place for place in range(numbers.ndim) if place != axis]
        if bool((most.amax(others) <= least.amin(others)).all()):
            return axis
    return None


def axis_without_places(places: Places) -> int | None:
    """Return the only axis along which values have one place; None if there is none, or several."""
    sizes = enumerate(places.along[0].shape)
    constant = [axis for axis, size in sizes if axis and size > 1 and places.equal_along([axis])]
    return constant[0] if len(constant) == 1 and not places.nowhere else None
