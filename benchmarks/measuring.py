"""One row measured. What is compared runs in turn: ours, the plain gradient, theirs, ours, ..."""

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

# Rounds of a row: so many, more while they took few seconds, fewer once they took many.
ROUNDS, MOST_ROUNDS, FEW_SECONDS, MANY_SECONDS = 3, 15, 20.0, 150.0


@dataclass(frozen=True)
class Spread:
    """Median and range of some figures."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        """That of `figures`, at least one.

        >>> Spread.of([3.0, 1.0, 2.0, 10.0])
        Spread(median=2.5, low=1.0, high=10.0)
        """
        return cls(statistics.median(figures), min(figures), max(figures))


def ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Ratio of two medians, with the range of the ratios within one round.

    Both sides of a round ran one after the other, so that other work on the machine weighs on both.

    >>> ratio([8.0, 9.0, 30.0], [2.0, 3.0, 5.0])
    Spread(median=3.0, low=3.0, high=6.0)
    """
    rounds = [one / other for one, other in zip(above, below, strict=True)]
    return Spread(statistics.median(above) / statistics.median(below), min(rounds), max(rounds))


def slope(places: Sequence[float], values: Sequence[float]) -> float:
    """Slope of the straight line that fits best (least squares).

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
        Starts a worker of a side.
    ours, theirs
        The two that live as long as the run; `theirs` is None where only our side runs.
    data
        Folder of trained weights and photos.
    """

    start: Callable[[str], Process]
    ours: Process
    theirs: Process | None
    data: str

    def both(self) -> dict[str, Process]:
        """Those there are, by name."""
        return {"ours": self.ours} | ({} if self.theirs is None else {"theirs": self.theirs})


def measured(sides: Sides, row: Row, *, repeats: int | None = None, parts: Sequence[str] = ()) -> dict[str, Any]:
    """All figures of a row.

    Parameters
    ----------
    sides
        The workers.
    row
        What to measure.
    repeats
        Rounds; by default 3, up to 15 while they took less than 20 seconds, fewer after 150.
    parts
        Of a timed row, `"memory"` and `"differences"` if they are wanted beside the times.

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
    """Let workers make the same network and pictures; ours first, which may leave something for theirs.

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
    """Numbers of rounds, until there are enough: `repeats`, or by the time they take."""
    start = time.monotonic()
    for number in range(repeats or MOST_ROUNDS):
        took = time.monotonic() - start
        enough = (number >= ROUNDS and took > FEW_SECONDS) or (number >= 1 and took > MANY_SECONDS)
        if repeats is None and enough:
            return
        yield number


def _best_batch(worker: Process, what: str, units: int, batches: Sequence[int]) -> int:
    """The fastest batch size by one run each, after a run to warm up; 0 where there is no choice."""

    def seconds(batch: int) -> float:
        tried = max(units, batch)
        return worker.ask(what, units=tried, batch=batch)["seconds"] / tried

    batches = batches or (0,)
    seconds(batches[0])
    return batches[0] if len(batches) == 1 else min(batches, key=seconds)


def _timings(sides: Sides, row: Row, repeats: int | None) -> dict[str, Any]:
    """Seconds per unit of all runs, and the batch sizes they ran with."""
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
    """Largest relative differences: in float64, in float32, and of each side's float32 from theirs in float64."""

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
    """Peak bytes of each side in a process of its own, at equal batch size, over two batches."""
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
    """Our milliseconds per unit, by number of units."""
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
    """Our peak memory by number of units, each in a process of its own, and the slope of the line through them."""
    (batch,) = row.batches
    peaks = [_peak(sides, "ours", row, scratch, units, batch) for units in row.sweep]
    megabytes = {f"MB, {units:,} {row.unit}s": peak / 1e6 for units, peak in zip(row.sweep, peaks, strict=True)}
    return {**megabytes, f"bytes a {row.unit}": slope(row.sweep, peaks)}
