"""Where relevance went in one backward pass: what arrived at the input, and what was absorbed on the way.

Biases, shifts of norms, position embeddings and stabilisers are part of an output, so part of its relevance ends in
them. A rule that leaves relevance out or adds some (the biases that z+ ignores) is an entry, too.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

# Values that are converted to double precision at a time.
_PIECE = 2**22

# Relevance divided by what started. Below, constants explain nearly all of the output; above, relevance was amplified.
RANGE = 0.1, 3.0


@dataclass(frozen=True)
class Entry:
    """Relevance that ended at one operation.

    Attributes
    ----------
    module
        Name of the module whose operation it is; empty for the model itself.
    operation
        Class of the module, or name of the function: `"Conv2d"`, `"add"`.
    absorbed
        Relevance of the output minus relevance of the inputs; negative if the operation added relevance.
    """

    module: str
    operation: str
    absorbed: float


@dataclass(frozen=True)
class Departure:
    """The first operation of a backward pass below which relevance is no longer within `RANGE`.

    Attributes
    ----------
    module
        Name of the module whose operation it is; empty for the model itself.
    operation
        Class of the module, or name of the function.
    left
        Relevance below the operation, on all paths to the input, divided by what started; negative if its sign changed.
    """

    module: str
    operation: str
    left: float


@dataclass(frozen=True)
class Ledger:
    """The balance of one backward pass from the output to the input, summed over all samples.

    Attributes
    ----------
    started
        Relevance that started.
    arrived
        Relevance that arrived at the input.
    entries
        Where the difference ended, in the order of the backward pass.
    """

    started: float
    arrived: float
    entries: tuple[Entry, ...]

    @property
    def absorbed(self) -> float:
        """Sum of all entries."""
        return math.fsum(entry.absorbed for entry in self.entries)

    @property
    def unaccounted(self) -> float:
        """What neither arrived nor ended in an entry: what functions without a rule lost or added."""
        return self.started - self.arrived - self.absorbed

    def by_module(self) -> dict[str, float]:
        """Add up the entries of each module, the largest first."""
        sums: dict[str, float] = defaultdict(float)
        for entry in self.entries:
            sums[entry.module] += entry.absorbed
        return dict(sorted(sums.items(), key=lambda item: -abs(item[1])))

    def absorbers(self, most: int, least: float) -> tuple[tuple[str, float], ...]:
        """Name the modules that absorb or add most of what started, the strongest first.

        Parameters
        ----------
        most
            How many are named.
        least
            The smallest part of what started that counts.

        Returns
        -------
        tuple of pairs
            Name, and part of what started; negative where the module adds relevance. Empty if nothing started.
        """
        if not self.started:
            return ()
        parts = {name: absorbed / self.started for name, absorbed in self.by_module().items()}
        return tuple(item for item in parts.items() if math.isfinite(item[1]) and abs(item[1]) >= least)[:most]

    def departure(self) -> Departure | None:
        """Find where relevance first leaves `RANGE` on its way down.

        An operation passes on what arrives there without what it absorbs. So the relevance on all paths below it is
        what started, without the entries so far.

        Returns
        -------
        Departure or None
            None if relevance stays within `RANGE`, or if none started.
        """
        if not self.started:
            return None
        left = self.started
        for entry in self.entries:
            left -= entry.absorbed
            if not RANGE[0] <= abs(left / self.started) <= RANGE[1]:
                return Departure(entry.module, entry.operation, left / self.started)
        return None


def balance(started: Tensor, arrived: Iterable[Tensor | None], entries: Sequence[Entry]) -> Ledger:
    """Close a ledger."""
    return Ledger(_total([started]), _total(arrived), tuple(entries))


def combined(ledgers: Sequence[Ledger]) -> Ledger:
    """Add up ledgers of several backward passes through one model.

    Entries of the same operation are added. One that some passes do not have stands behind the one before it there.
    """
    absorbed: dict[tuple[str, str, int], float] = defaultdict(float)
    order: list[tuple[str, str, int]] = []
    for ledger in ledgers:
        calls: Counter[tuple[str, str]] = Counter()
        place = 0
        for entry in ledger.entries:
            operation = entry.module, entry.operation
            key = *operation, calls[operation]
            calls[operation] += 1
            if key not in absorbed:
                order.insert(place, key)
            elif order[place : place + 1] != [key]:
                place = order.index(key)
            absorbed[key] += entry.absorbed
            place += 1
    return Ledger(
        math.fsum(ledger.started for ledger in ledgers),
        math.fsum(ledger.arrived for ledger in ledgers),
        tuple(Entry(module, operation, absorbed[module, operation, call]) for module, operation, call in order),
    )


def _total(parts: Iterable[Tensor | None]) -> float:
    return math.fsum(_sum(part) for part in parts if part is not None)


def _sum(values: Tensor) -> float:
    """Add up in double precision, in pieces: a second copy of a volume would be twice as large as the first."""
    values = torch.view_as_real(values) if values.is_complex() else values
    return math.fsum(float(piece.double().sum()) for piece in values.flatten().split(_PIECE))


class Recorder:
    """Collects entries during a backward pass while it is switched on.

    Attributes
    ----------
    entries
        None while it is off.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] | None = None

    @contextmanager
    def recording(self) -> Iterator[list[Entry]]:
        """Switch the recorder on inside the context."""
        self.entries = []
        try:
            yield self.entries
        finally:
            self.entries = None

    def record(self, module: str, operation: str, output: Tensor, inputs: Iterable[Tensor | None]) -> None:
        """Record the balance of one operation, unless the recorder is off."""
        if self.entries is None:
            return
        self.entries.append(Entry(module, operation, _total([output]) - _total(inputs)))
