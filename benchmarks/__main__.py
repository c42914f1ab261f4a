"""`python -m benchmarks`: run this package and zennit-crp in turn and print a table.

Environments are made in `.bench/` on first use; BENCH_OURS_PYTHON and BENCH_THEIRS_PYTHON name existing ones.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine, report
from benchmarks.environments import ROOT, browsing, interpreter
from benchmarks.measuring import Sides, measured, prepare
from benchmarks.processes import Process, WorkerError
from benchmarks.rows import Row, chosen

PARTS = ("memory", "differences")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = os.environ.get("CRP_TEST_DATA", str(ROOT.parent / "shared" / "data"))
    parser.add_argument("--quick", action="store_true", help="smaller pictures and fewer concepts, as a quick check")
    parser.add_argument("--rows", metavar="A,B", default="", help="only these rows; --list prints their names")
    parser.add_argument("--list", action="store_true", help="print the names of the rows and exit")
    parser.add_argument("--profile", metavar="ROW", help="profile our side of a row and exit")
    parser.add_argument("--repeats", type=int, help="rounds per row; by default 3, up to 15 for fast rows")
    parser.add_argument("--skip", metavar="A,B", default="", help=f"parts to leave out: {','.join(PARTS)}")
    parser.add_argument("--only-ours", action="store_true", help="do not run zennit-crp")
    parser.add_argument("--threads", type=int, default=0, help="threads of both sides; default: torch's own choice")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--data", default=data, help="weights and photos (CRP_TEST_DATA); default: %(default)s")
    parser.add_argument("--write", action="store_true", help="write the rows into docs/performance.md and .json")
    return parser


def main(given: Sequence[str] | None = None) -> int:
    """Measure and print; return 0 if every row could be measured."""
    parser = _parser()
    arguments = parser.parse_args(given)
    if arguments.write and (arguments.quick or arguments.skip or arguments.only_ours):
        parser.error("--write needs the full form: it does not work with --quick, --skip or --only-ours.")
    gpu = arguments.device.startswith("cuda")
    try:
        rows = chosen([name for name in (arguments.profile or arguments.rows).split(",") if name])
    except ValueError as error:
        parser.error(str(error))
    if arguments.list:
        print("\n".join(f"{row.name:24}{row.title}" for row in rows))
        return 0
    rows = [row.in_form(quick=arguments.quick, gpu=gpu) for row in rows]
    pythons = {side: interpreter(side) for side in (["ours"] if arguments.only_ours else ["ours", "theirs"])}

    def start(side: str) -> Process:
        return Process(pythons[side], side, {"device": arguments.device, "threads": arguments.threads})

    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(start("ours"))
        if arguments.profile:
            print(_profile(ours, rows[0], arguments.data))
            return 0
        theirs = None if arguments.only_ours else stack.enter_context(start("theirs"))
        sides = Sides(start, ours, theirs, arguments.data)
        facts = machine.facts() | ours.facts
        results = [_result(sides, row, arguments) | machine.moment() for row in rows]
    print(report.text(results, rows, facts))
    if arguments.write:
        report.write(results, facts, ROOT / "docs", "cuda" if gpu else "cpu")
    return int(any(result.get("failed", False) for result in results))


def _result(sides: Sides, row: Row, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of a row, or a note that says why there are none."""
    start = time.monotonic()
    result: dict[str, Any] = {"row": row.name}
    try:
        note = _why_not(row, arguments)
        if note:
            result["note"] = note
        else:
            parts = [part for part in PARTS if part not in arguments.skip.split(",")]
            result |= measured(sides, row, repeats=arguments.repeats, parts=parts)
    except Exception as error:  # what the rows before took half an hour to measure is not lost
        result |= {"note": "failed", "failed": True}
        print(error if isinstance(error, WorkerError) else traceback.format_exc(), file=sys.stderr)
    result["took"] = time.monotonic() - start
    print(f"{row.name}, {result['took']:.0f} s: {report.sentence(result, row)}", file=sys.stderr, flush=True)
    return result


def _why_not(row: Row, arguments: argparse.Namespace) -> str:
    """Say what a row lacks here; empty if nothing."""
    if row.needs_gpu and not arguments.device.startswith("cuda"):
        return "no GPU"
    if row.needs_browser and browsing().find_browser() is None:
        return "skipped: no Chromium (CRP_TEST_BROWSER)"
    if row.data and not Path(arguments.data).is_dir():
        return f"skipped: no folder {Path(arguments.data).name} of trained weights (CRP_TEST_DATA)"
    return ""


def _profile(ours: Process, row: Row, data: str) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        prepare({"ours": ours}, row, data, scratch)
        return ours.ask("profile", units=row.units, batch=max(row.batches, default=0))["table"]


if __name__ == "__main__":
    sys.exit(main())
