"""`python -m benchmarks`: both sides measured in turn, one table printed."""

from __future__ import annotations

import argparse
import os
import sys
import time
from functools import partial
from pathlib import Path

from benchmarks.measuring import Sides, differences, memory, prepare, timings
from benchmarks.processes import Process, Unavailable, WorkerError
from benchmarks.report import line, table
from benchmarks.rows import ROWS, Row, chosen

ROOT = Path(__file__).resolve().parent.parent


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition(": ")[2])
    parser.add_argument("--rows", default="", help=f"some of {','.join(row.name for row in ROWS)}; by default all")
    parser.add_argument("--quick", action="store_true", help="smaller pictures, fewer concepts, no goals")
    parser.add_argument("--repeats", type=int, help="rounds of each row; by default 3, and more of the fast ones")
    parser.add_argument("--threads", type=int, default=0, help="threads of torch; by default torch's own choice")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--only-ours", action="store_true", help="without zennit-crp")
    parser.add_argument("--skip", default="", help="parts to leave out: memory,differences")
    parser.add_argument("--data", default=os.environ.get("CRP_TEST_DATA", str(ROOT.parent / "shared" / "data")),
                        help="folder of trained weights and photos; CRP_TEST_DATA, by default ../shared/data")
    parser.add_argument("--profile", metavar="ROW", help="profile our side of a row instead")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> int:
    """Measure, print; 0 if nothing failed."""
    arguments = _arguments(given)
    names = [arguments.profile] if arguments.profile else [name for name in arguments.rows.split(",") if name]
    try:
        rows = chosen(names)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.quick:
        rows = [row.in_quick_form() for row in rows]
    pythons = {"ours": os.environ["BENCH_OURS_PYTHON"], "theirs": os.environ["BENCH_THEIRS_PYTHON"]}
    setup = {"device": arguments.device, "threads": arguments.threads, "tf32": False}

    def start(side: str) -> Process:
        return Process(pythons[side], side, setup)

    if arguments.profile:
        with start("ours") as ours:
            row = rows[0]
            prepare(Sides(ours, None, arguments.data), row)
            print(ours.ask("profile", units=row.units, batch=max(row.batches, default=0))["table"])
        return 0
    results, failed = [], False
    with start("ours") as ours:
        theirs = None if arguments.only_ours else start("theirs")
        try:
            sides = Sides(ours, theirs, arguments.data)
            for row in rows:
                began = time.monotonic()
                result = {"row": row.name}
                try:
                    result |= _measured(sides, row, arguments, start)
                except Unavailable as error:
                    result["note"] = f"not available: {error}"
                except WorkerError as error:
                    result["note"], failed = "failed", True
                    print(error, file=sys.stderr)
                result["took"] = time.monotonic() - began
                results.append(result)
                print(f"{row.name} ({result['took']:.0f} s): {line(result, row)}", file=sys.stderr)
        finally:
            if theirs is not None:
                theirs.__exit__()
    print(table(results, {row.name: row for row in rows}))
    return int(failed)


def _measured(sides: Sides, row: Row, arguments: argparse.Namespace, start: partial) -> dict:
    skipped = arguments.skip.split(",")
    prepare(sides, row)
    result = timings(sides, row, arguments.repeats)
    result["differences"] = {} if "differences" in skipped else differences(sides, row)
    both = ["ours"] if sides.theirs is None else ["ours", "theirs"]
    result["memory"] = {} if "memory" in skipped else memory(start, row, arguments.data, both)
    return result


if __name__ == "__main__":
    sys.exit(main())
