"""Measure one row. What is compared runs in turn: ours, the plain gradient, theirs, ours, ..."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import Process
from benchmarks.rows import Row

# Rounds per row: ROUNDS, but more while they took less than FEW_SECONDS, and fewer once they took MANY_SECONDS.
ROUNDS, MOST_ROUNDS, FEW_SECONDS, MANY_SECONDS = 3, 15, 20.0, 150.0


@dataclass(frozen=True)
class Spread:
    """Median and range of some figures."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        """Compute median and range of `figures`, at least one.

        >>> Spread.of([3.0, 1.0, 2.0, 10.0])
        Spread(median=2.5, low=1.0, high=10.0)
        """
        return cls(statistics.median(figures), min(figures), max(figures))


def ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Ratio of two medians, with the range of the ratios within one round.

    The two sides of a round run one after the other, so that other load on the machine affects both.

    >>> ratio([8.0, 9.0, 30.0], [2.0, 3.0, 5.0])
    Spread(median=3.0, low=3.0, high=6.0)
    """
    rounds = [one / other for one, other in zip(above, below, strict=True)]
    return Spread(statistics.median(above) / statistics.median(below), min(rounds), max(rounds))


def slope(places: Sequence[float], values: Sequence[float]) -> float:
    """Slope of the least-squares line.

    >>> slope([10, 20, 30], [105.0, 125.0, 145.0])
    2.0
    """
    return statistics.linear_regression(places, values).slope


@dataclass(frozen=True)
class Sides:
    """The workers of a run.

    Attributes
    ----------
    start
        Starts the worker of a side.
    ours, theirs
        The workers of the whole run; `theirs` is None if only our side runs.
    data
        Folder of trained weights and photos.
    """

    start: Callable[[str], Process]
    ours: Process
    theirs: Process | None
    data: str

    def both(self) -> dict[str, Process]:
        """Return the existing workers by name."""
        return {"ours": self.ours} | ({} if self.theirs is None else {"theirs": self.theirs})


def measured(sides: Sides, row: Row, *, repeats: int | None = None, parts: Sequence[str] = ()) -> dict[str, Any]:
    """Measure all figures of a row.

    Parameters
    ----------
    sides
        The workers.
    row
        What to measure.
    repeats
        Rounds; by default 3, up to 15 within 20 seconds, fewer after 150 seconds.
    parts
        `"memory"` and `"differences"`, to measure these for a timed row too.

    Returns
    -------
    dict
        Plain values, for the raw figures.
    """
    with tempfile.TemporaryDirectory() as scratch:
        if row.measure == "slope":
            return {"figures": _memory_slope(sides, row, scratch)}
        if row.measure == "sweep":
            return {"figures": _sweep(sides, row, scratch, repeats)}
        if row.measure == "figures":
            prepare({"ours": sides.ours}, row, sides.data, scratch)
            batch = _best_batch(sides.ours, "run", row.trial_units, row.batches)
            return {"batches": {"ours": batch}, **sides.ours.ask("figures", batch=batch)}
        prepare(sides.both(), row, sides.data, scratch)
        result = _timings(sides, row, repeats)
        if "memory" in parts and row.memory_batch:
            result["memory"] = _peaks(sides, row, scratch)
        if "differences" in parts and row.check_units and sides.theirs is not None:
            result["differences"] = _differences(sides, row, scratch)
        return result


def prepare(workers: dict[str, Process], row: Row, data: str, scratch: str, dtype: str = "float32") -> None:
    """Have workers make the same network and pictures; ours goes first and may leave files for theirs.

    Raises
    ------
    ValueError
        If they are not the same.
    """
    arguments = dict(row=asdict(row), dtype=dtype, folder=data, scratch=scratch)
    digests = {worker.ask("prepare", **arguments)["digest"] for worker in workers.values()}
    if len(digests) > 1:
        raise ValueError(f"{row.name}: the two sides have different weights or pictures.")


def rounds(repeats: int | None) -> Iterator[int]:
    """Count rounds until there are enough: `repeats`, or depending on how long they take."""
    start = time.monotonic()
    for number in range(repeats or MOST_ROUNDS):
        took = time.monotonic() - start
        enough = (number >= ROUNDS and took > FEW_SECONDS) or (number >= 1 and took > MANY_SECONDS)
        if repeats is None and enough:
            return
        yield number


def _best_batch(worker: Process, what: str, units: int, batches: Sequence[int]) -> int:
    """Return the fastest batch size, with one run each after a warm-up; 0 if there is none to choose."""

    def seconds(batch: int) -> float:
        tried = max(units, batch)
        return worker.ask(what, units=tried, batch=batch)["seconds"] / tried

    batches = batches or (0,)
    seconds(batches[0])
    return batches[0] if len(batches) == 1 else min(batches, key=seconds)


def _timings(sides: Sides, row: Row, repeats: int | None) -> dict[str, Any]:
    """Measure seconds per unit for all runs; return them with the batch sizes used."""
    # what is timed: worker, message, units of a run, units of a trial, batch sizes
    work = {"ours": (sides.ours, "run", row.units, row.trial_units, row.batches)}
    if row.floor_batches:
        work["gradient"] = (sides.ours, "floor", row.trial_units, row.trial_units, row.floor_batches)
    if sides.theirs is not None:
        units = row.their_units or row.units
        work["theirs"] = (sides.theirs, "run", units, min(row.trial_units, units), row.their_batches)
    batches = {
        name: _best_batch(worker, what, trial, choice) for name, (worker, what, _, trial, choice) in work.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in rounds(repeats):
        for name, (worker, what, units, _, _) in work.items():
            seconds[name].append(worker.ask(what, units=units, batch=batches[name])["seconds"] / units)
    return {"seconds": seconds, "batches": batches}


def _differences(sides: Sides, row: Row, scratch: str) -> dict[str, float]:
    """Largest relative differences: in float64, in float32, and from each side in float32 to theirs in float64."""

    def path(name: str, dtype: str) -> str:
        return str(Path(scratch) / f"{name}-{dtype}.safetensors")

    for dtype in ("float32", "float64"):
        prepare(sides.both(), row, sides.data, scratch, dtype)
        for name, worker in sides.both().items():
            worker.ask("check", path=path(name, dtype))
    exact = path("theirs", "float64")
    pairs = {
        "float64": (path("ours", "float64"), exact),
        "float32": (path("ours", "float32"), path("theirs", "float32")),
        "ours from float64": (path("ours", "float32"), exact),
        "theirs from float64": (path("theirs", "float32"), exact),
    }
    return {
        name: sides.ours.ask("compare", path=one, reference=other)["difference"] for name, (one, other) in pairs.items()
    }


def _peaks(sides: Sides, row: Row, scratch: str) -> dict[str, int]:
    """Measure each side's peak memory in bytes, in a fresh process, over two batches of equal size."""
    peaks = {}
    for side in sides.both():
        units = min(row.their_units or row.units, 2 * row.memory_batch)
        peaks[side] = _peak(sides, side, row, scratch, units, row.memory_batch)
    return peaks


def _peak(sides: Sides, side: str, row: Row, scratch: str, units: int, batch: int) -> int:
    with sides.start(side) as worker:
        prepare({side: worker}, row, sides.data, scratch)
        worker.ask("run", units=units, batch=batch)
        return worker.ask("memory")["peak"]


def _sweep(sides: Sides, row: Row, scratch: str, repeats: int | None) -> dict[str, float]:
    """Measure our milliseconds per unit, by number of units."""
    prepare({"ours": sides.ours}, row, sides.data, scratch)
    (batch,) = row.batches
    sides.ours.ask("run", units=row.sweep[0], batch=batch)
    figures = {}
    for units in row.sweep:
        seconds = [sides.ours.ask("run", units=units, batch=batch)["seconds"]]
        while len(seconds) < (repeats or ROUNDS) and sum(seconds) < FEW_SECONDS / 2:
            seconds.append(sides.ours.ask("run", units=units, batch=batch)["seconds"])
        figures[f"ms a {row.unit}, {units:,} {row.unit}s"] = 1000 * statistics.median(seconds) / units
    first, *_, last = figures.values()
    return {**figures, "last over first": last / first}


def _memory_slope(sides: Sides, row: Row, scratch: str) -> dict[str, float]:
    """Measure our peak memory by number of units, in a fresh process each, and the slope of the line through them."""
    (batch,) = row.batches
    peaks = [_peak(sides, "ours", row, scratch, units, batch) for units in row.sweep]
    megabytes = {f"MB, {units:,} {row.unit}s": peak / 1e6 for units, peak in zip(row.sweep, peaks, strict=True)}
    return {**megabytes, f"bytes a {row.unit}": slope(row.sweep, peaks)}
