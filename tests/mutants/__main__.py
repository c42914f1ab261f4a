"""Runs the mutants and writes the evidence: `python -m tests.mutants --count 1000 --write FILE`."""

import argparse
import sys
from pathlib import Path

from .running import run, summary

parser = argparse.ArgumentParser()
parser.add_argument("--count", type=int, default=100)
parser.add_argument("--first", type=int, default=0)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--write", type=Path)
given = parser.parse_args()
told = run(given.count, given.seed, first=given.first)
for line in told:
    for failure in line["failed"]:
        sys.stderr.write(f"{line['index']} {line['kind']} {line.get('done')}\n{failure}\n")
text = summary(told, f"python -m tests.mutants --count {given.count} --seed {given.seed}")
sys.stdout.write(text)
if given.write:
    given.write.parent.mkdir(parents=True, exist_ok=True)
    given.write.write_text(text)
sys.exit(any(line["failed"] for line in told))
