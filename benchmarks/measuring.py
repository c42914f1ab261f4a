"""One row measured: batch sizes chosen, then ours, the plain gradient and theirs in turn, run by run."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import Process
from benchmarks.rows import Row

# A row is repeated this often, and on while its repetitions took less than these seconds.
REPEATS, MOST_REPEATS, SECONDS = 3, 15, 20.0


@dataclass(frozen=True)
class Spread:
    """Median and range of some figures."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        """That of `figures`, at least one."""
        return cls(statistics.median(figures), min(figures), max(figures))


def ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Ratio of two medians, with the range of the ratios within one round.

    Both sides of a round ran one after the other, so that a machine busy for a while weighs on both.
    """
    rounds = [one / other for one, other in zip(above, below, strict=True)]
    return Spread(statistics.median(above) / statistics.median(below), min(rounds), max(rounds))


@dataclass(frozen=True)
class Sides:
    """The workers of a run; `theirs` is None where only our side runs."""

    ours: Process
    theirs: Process | None
    folder: str


def prepare(sides: Sides, row: Row, dtype: str = "float32") -> None:
    """Let both sides make the same network and pictures.

    Raises
    ------
    ValueError
        If they are not the same.
    """
    digests = {
        process.ask("prepare", row=asdict(row), dtype=dtype, folder=sides.folder)["digest"]
        for process in (sides.ours, sides.theirs)
        if process is not None
    }
    if len(digests) > 1:
        raise ValueError(f"{row.name}: the two sides have different weights or pictures.")


def best_batch(run: Callable[[int], float], batches: Sequence[int]) -> int:
    """The batch size whose second run is the fastest; 0 if there is none to choose.

    The first run of each warms caches and allocators up.
    """
    if len(batches) < 2:
        return batches[0] if batches else 0
    run(batches[0])
    return min(batches, key=run)


def timings(sides: Sides, row: Row, repeats: int | None = None) -> dict[str, Any]:
    """Seconds per unit of all runs, by side, and the batch sizes they ran with."""
    rows = {"ours": (sides.ours, "run", row.units, row.trial_units, row.batches)}
    if row.floor_batches:
        rows["gradient"] = (sides.ours, "floor", row.trial_units, row.trial_units, row.floor_batches)
    if sides.theirs is not None:
        units = row.their_units or row.units
        rows["theirs"] = (sides.theirs, "run", units, min(row.trial_units, units), row.their_batches)

    chosen = {}
    for side, (process, what, _, trial, batches) in rows.items():
        chosen[side] = best_batch(
            lambda batch, ask=process.ask, what=what, trial=trial: ask(what, units=max(trial, batch), batch=batch)["seconds"] / max(trial, batch),
            batches,
        )
    seconds: dict[str, list[float]] = {side: [] for side in rows}
    start = time.monotonic()
    for done in range(repeats or MOST_REPEATS):
        if repeats is None and done >= REPEATS and time.monotonic() - start > SECONDS:
            break
        for side, (process, what, units, _, _) in rows.items():
            seconds[side].append(process.ask(what, units=units, batch=chosen[side])["seconds"] / units)
    return {"seconds": seconds, "batches": chosen}


def differences(sides: Sides, row: Row) -> dict[str, float]:
    """Largest relative differences: in float64, in float32, and of each side's float32 from theirs in float64."""
    if sides.theirs is None or not row.check_units:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for dtype in ("float32", "float64"):
            prepare(sides, row, dtype)
            for name, process in (("ours", sides.ours), ("theirs", sides.theirs)):
                files[name, dtype] = str(Path(folder) / f"{name}-{dtype}.safetensors")
                process.ask("check", path=files[name, dtype])

        def difference(one: tuple[str, str], other: tuple[str, str]) -> float:
            return sides.ours.ask("compare", path=files[one], reference=files[other])["difference"]

        return {
            "float64": difference(("ours", "float64"), ("theirs", "float64")),
            "float32": difference(("ours", "float32"), ("theirs", "float32")),
            "ours from float64": difference(("ours", "float32"), ("theirs", "float64")),
            "theirs from float64": difference(("theirs", "float32"), ("theirs", "float64")),
        }


def memory(start: Callable[[str], Process], row: Row, folder: str, sides: Sequence[str]) -> dict[str, int]:
    """Peak bytes of each side, in a fresh process and at equal batch size."""
    if not row.memory_batch:
        return {}
    peaks = {}
    for side in sides:
        with start(side) as process:
            process.ask("prepare", row=asdict(row), dtype="float32", folder=folder)
            units = row.their_units if side == "theirs" and row.their_units else row.units
            process.ask("run", units=min(units, 2 * row.memory_batch), batch=row.memory_batch)
            peaks[side] = process.ask("memory")["peak"]
    return peaks
