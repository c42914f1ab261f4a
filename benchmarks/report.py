"""Results as tables, as plain text and in docs/performance.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import Spread, ratio
from benchmarks.rows import ROWS, Row

TIMED = (
    "work", "ours", "zennit-crp", "theirs / ours", "goal", "gradients", "goal", "memory", "float64", "float32",
)
OTHERS = ("work", "figure", "value", "goal")

# Bounds that hold for every timed row.
MOST_MEMORY, MOST_DIFFERENCE, MOST_ERROR = 1.5, 1e-9, 2.0

Lines = list[tuple[str, ...]]


def text(results: Sequence[Mapping[str, Any]], rows: Sequence[Row], facts: Mapping[str, Any]) -> str:
    """Format both tables, the missed goals and the machine as text."""
    parts = [aligned(lines) for lines in _tables(results, rows) if len(lines) > 1]
    named = {row.name: row for row in rows}
    parts += [f"{result['row']}: {miss}" for result in results for miss in missed(result, named[result["row"]])]
    return "\n\n".join([*parts, _machine(facts)])


def sentence(result: Mapping[str, Any], row: Row) -> str:
    """One result on one line, to show progress."""
    timed, others = _tables([result], [row])
    if len(timed) > 1:
        return ", ".join(f"{head} {cell}" for head, cell in zip(timed[0][1:], timed[1][1:], strict=True) if cell)
    return ", ".join(f"{name} {value}" for _, name, value, _ in others[1:])


def aligned(lines: Lines) -> str:
    """Pad columns to the width of their widest cell.

    >>> print(aligned([("a", "b"), ("long", "c")]))
    a     b
    long  c
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def markdown(lines: Lines) -> str:
    """Format a table as Markdown.

    >>> print(markdown([("a", "b"), ("1", "2")]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    rule = tuple("---" for _ in lines[0])
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])


def missed(result: Mapping[str, Any], row: Row) -> list[str]:
    """Return a sentence for each goal that a result misses."""
    misses = []

    def require(name: str, value: float, bound: str, goal: float) -> None:
        if not (value >= goal if bound == "at least" else value <= goal):
            misses.append(f"{name} is {_number(value)}, the goal is {bound} {_number(goal)}")

    for name, (bound, goal) in row.goals.items():
        if name in result.get("figures", {}):
            require(name, result["figures"][name], bound, goal)
    seconds, memory, differences = (result.get(part, {}) for part in ("seconds", "memory", "differences"))
    if row.least_ratio and "theirs" in seconds:
        require("theirs / ours", ratio(seconds["theirs"], seconds["ours"]).median, "at least", row.least_ratio)
    if row.most_gradients and "gradient" in seconds:
        require("gradients", ratio(seconds["ours"], seconds["gradient"]).median, "at most", row.most_gradients)
    if "theirs" in memory:
        require("memory", memory["ours"] / memory["theirs"], "at most", MOST_MEMORY)
    if differences:
        require("the difference in float64", differences["float64"], "at most", MOST_DIFFERENCE)
        allowed = MOST_ERROR * differences["theirs from float64"]
        require("the error in float32", differences["ours from float64"], "at most", allowed)
    return misses


def write(results: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], folder: Path, device: str) -> None:
    """Write results into performance.json and the tables of performance.md, replacing the same rows.

    Parameters
    ----------
    results
        Rows of this run.
    facts
        The machine they ran on.
    folder
        Where both files are.
    device
        `cpu` or `cuda`; each has its own tables.
    """
    raw, page = folder / "performance.json", folder / "performance.md"
    stored = json.loads(raw.read_text()) if raw.exists() else {}
    kept = {result["row"]: result for result in stored.get(device, {}).get("results", [])}
    kept |= {result["row"]: dict(result) for result in results}
    ordered = [kept[row.name] for row in ROWS if row.name in kept]
    stored[device] = {"machine": dict(facts), "results": ordered}
    raw.write_text(json.dumps(stored, indent=1) + "\n")
    rows = [row.in_form(quick=False, gpu=device == "cuda") for row in ROWS]
    tables = [markdown(lines) for lines in _tables(ordered, rows) if len(lines) > 1]
    commits = sorted({f"{result['commit']} of {result['date']}" for result in ordered})
    body = "\n\n".join([_machine(facts) + f" Commit {', '.join(commits)}.", *tables])
    page.write_text(between_markers(page.read_text(), device, body))


def between_markers(page: str, name: str, body: str) -> str:
    """Replace the text of a page between `<!-- name -->` and `<!-- end of name -->`.

    >>> between_markers("a <!-- t --> old <!-- end of t --> z", "t", "new").split()
    ['a', '<!--', 't', '-->', 'new', '<!--', 'end', 'of', 't', '-->', 'z']
    """
    before, found, rest = page.partition(f"<!-- {name} -->")
    _, ended, after = rest.partition(f"<!-- end of {name} -->")
    if not (found and ended):
        raise ValueError(f"The page has no '<!-- {name} -->' with '<!-- end of {name} -->' after it.")
    return f"{before}{found}\n\n{body}\n\n{ended}{after}"


def _tables(results: Sequence[Mapping[str, Any]], rows: Sequence[Row]) -> tuple[Lines, Lines]:
    named = {row.name: row for row in rows}
    timed: Lines = [TIMED]
    others: Lines = [OTHERS]
    for result in results:
        row = named[result["row"]]
        if "seconds" in result:
            timed.append(_timed(result, row))
        elif "figures" in result:
            others += _figures(result, row)
        else:
            others.append((row.title, "", result["note"], ""))
    return timed, others


def _timed(result: Mapping[str, Any], row: Row) -> tuple[str, ...]:
    seconds = result["seconds"]
    memory, differences = result.get("memory", {}), result.get("differences", {})
    return (
        row.title,
        _milliseconds(seconds["ours"], row.unit),
        _milliseconds(seconds["theirs"], row.unit) if "theirs" in seconds else "",
        _spread(ratio(seconds["theirs"], seconds["ours"])) if "theirs" in seconds else "",
        f"at least {row.least_ratio:g}" if row.least_ratio else "",
        _spread(ratio(seconds["ours"], seconds["gradient"])) if "gradient" in seconds else "",
        f"at most {row.most_gradients:g}" if row.most_gradients else "",
        f"{memory['ours'] / memory['theirs']:.2f}" if "theirs" in memory else "",
        f"{differences['float64']:.0e}" if differences else "",
        f"{differences['ours from float64']:.1e} / {differences['theirs from float64']:.1e}" if differences else "",
    )


def _figures(result: Mapping[str, Any], row: Row) -> Lines:
    lines = []
    for name, value in result["figures"].items():
        bound, goal = row.goals.get(name, ("", 0))
        lines.append((row.title, name, _number(value), f"{bound} {goal:g}" if bound else ""))
    return lines


def _milliseconds(seconds: Sequence[float], unit: str) -> str:
    found = Spread.of([1000 * value for value in seconds])
    return f"{_number(found.median)} ms a {unit} ({_number(found.low)} to {_number(found.high)})"


def _spread(found: Spread) -> str:
    return f"{found.median:.2f} ({found.low:.2f} to {found.high:.2f})"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _machine(facts: Mapping[str, Any]) -> str:
    gpu = f"{facts['gpu']}; " if facts["gpu"] else ""
    return (
        f"{gpu}{facts['processor']}, {facts['cores']} cores, {facts['memory_gb']} GB, {facts['system']}; "
        f"Python {facts['python']}, torch {facts['torch']} with {facts['threads']} threads, zennit {facts['zennit']}."
    )
