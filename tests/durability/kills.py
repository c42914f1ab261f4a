"""Runs of mining, each killed with SIGKILL at random moments and restarted until it is done.

    python -m tests.durability.kills --runs 100

Each process is a fork of this one, which has torch loaded but has not used it: 100 runs take minutes, not hours.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path

# torch imports it at the first backward pass; that takes longer than a process here lives, so none would get on
import sympy  # noqa: F401

from tests.durability.subject import digest, mined


def in_a_process(path: Path, **options) -> int:
    """Start mining in a new process that leads a process group; return its id."""
    child = os.fork()
    if child:
        return child
    os.setpgid(0, 0)
    try:
        mined(path, **options)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def moments(path: Path) -> str:
    """Describe what a killed process left, for the statistics."""
    work = path.with_name(f"{path.name}.partial")
    if path.exists():
        return "library in place, cleaning up"
    if any(work.rglob(".*")):
        return "a file half written"
    if (work / "surveyed.json").exists():
        return "patches"
    return "pass over the data" if any(work.glob("parts/*")) else "nothing done yet"


def killed_run(path: Path, rng: random.Random, longest: float, seen: dict[str, int]) -> int:
    """Mine, kill and restart until done; return the number of kills."""
    kills, children = 0, []
    while not path.exists():
        # neither the time between checkpoints nor processes that read ahead change the result
        child = in_a_process(path, checkpoint=rng.choice([0.0, 0.02]), workers=rng.choice([0, 0, 0, 1]))
        children.append(child)
        # so that each is killed several times; and later and later, so that it ends on a machine that became slow
        time.sleep(rng.uniform(0, longest * 1.02**kills if kills > 1 else longest / 3))
        finished, status = os.waitpid(child, os.WNOHANG)
        if not finished:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            kills += 1
            moment = moments(path)
            seen[moment] = seen.get(moment, 0) + 1
        elif os.waitstatus_to_exitcode(status):
            sys.exit(f"mining failed after {kills} kills")
    # torch's reader waits forever if its parent was killed before it knew the parent's id
    for child in children:
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    return kills


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    told = "longest life of a process, as a share of an undisturbed run"
    parser.add_argument("--longest", type=float, default=0.4, help=told)
    options = parser.parse_args()
    rng, seen = random.Random(options.seed), {}
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.crp"
        start = time.monotonic()
        os.waitpid(in_a_process(whole), 0)
        longest = options.longest * (time.monotonic() - start)
        expected, kills, wrong = digest(whole), [], 0
        for run in range(options.runs):
            path = Path(folder) / f"{run}.crp"
            kills.append(killed_run(path, rng, longest, seen))
            wrong += digest(path) != expected
    print(f"{options.runs} runs, {sum(kills)} kills ({min(kills)} to {max(kills)} in a run)")
    for moment, count in sorted(seen.items(), key=lambda item: -item[1]):
        print(f"  killed {count} times with: {moment}")
    same = options.runs - wrong
    print(f"{same} of {options.runs} libraries equal the library of an undisturbed run, byte for byte")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
