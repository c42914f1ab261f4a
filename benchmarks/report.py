"""The table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.measuring import Spread, ratio
from benchmarks.rows import Row

HEAD = ("work", "ours", "theirs", "theirs/ours", "gradients", "memory", "float64", "float32")


def table(results: Sequence[Mapping[str, Any]], rows: Mapping[str, Row]) -> str:
    """Aligned plain text, a line for each result."""
    lines = [HEAD, *(_cells(result, rows[result["row"]]) for result in results)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
                     for line in lines)


def line(result: Mapping[str, Any], row: Row) -> str:
    """One result in a sentence, for whoever waits."""
    return ", ".join(f"{name} {cell}" for name, cell in zip(HEAD, _cells(result, row), strict=True) if cell)


def _cells(result: Mapping[str, Any], row: Row) -> tuple[str, ...]:
    if "seconds" not in result:
        return (row.title, result["note"], *[""] * (len(HEAD) - 2))
    seconds, differences, memory = result["seconds"], result["differences"], result["memory"]
    return (
        row.title,
        _time(Spread.of(seconds["ours"]), row.unit),
        _time(Spread.of(seconds["theirs"]), row.unit) if "theirs" in seconds else "",
        _spread(ratio(seconds["theirs"], seconds["ours"])) if "theirs" in seconds else "",
        _spread(ratio(seconds["ours"], seconds["gradient"])) if "gradient" in seconds else "",
        f"{memory['ours'] / memory['theirs']:.2f}" if "theirs" in memory else "",
        f"{differences['float64']:.0e}" if differences else "",
        f"{differences['ours from float64']:.0e} / {differences['theirs from float64']:.0e}" if differences else "",
    )


def _time(spread: Spread, unit: str) -> str:
    return f"{1000 * spread.median:.1f} ms a {unit} ({1000 * spread.low:.1f} to {1000 * spread.high:.1f})"


def _spread(spread: Spread) -> str:
    return f"{spread.median:.2f} ({spread.low:.2f} to {spread.high:.2f})"
