"""Workers started, watched and summed up."""

import json
import selectors
import subprocess
import sys
import tempfile
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

from .subject import make

ROOT = Path(__file__).resolve().parent.parent.parent
_STORY = """
{count} libraries were made from a small sound one, each changed at one random place (`tests/mutants`, with a seed). All
were opened, read completely, described (`crp info`) and verified. For every fifth, an atlas page was made, patches were
added and scores computed again. Half of them got new checksums, as from an attacker. Each use must end in a result or
in one sentence (a `CrpError`). Failures are: a traceback; a process that dies, hangs or needs more than 1 GiB of
additional memory; HTML from the library that reaches a page unescaped; a control character that reaches a terminal; a
sentence of more than 2,000 characters; a change outside the library; a change that `verify` does not detect although
the checksums are the old ones.
"""
_BEFORE = """
Before these tests (commit f0305d1, without checksums and `verify`), 6 of the first 300 libraries of a similar run
failed: a manifest that was a link to /dev/zero filled the memory, a class without a name broke the page, control
characters reached the terminal, a sentence had 30,000 characters. And 46 of 67 tables with changed numbers were read
without an error.
"""
HANGS = 180.0  # seconds without a line: on a busy machine, importing torch takes half a minute


def run(count: int, seed: int = 0, every: int = 5, first: int = 0) -> list[dict[str, Any]]:
    """Change and use libraries `first` to `first + count`; a worker that dies or hangs is a failure of its mutant."""
    told: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / "base.crp")
        index, end = first, first + count
        while index < end:
            lines, ended = _watched([f"{folder}/base.crp", seed, index, end, every])
            told += lines
            index += len(lines)
            if index < end:
                told.append({"index": index, "kind": "?", "outcomes": {}, "failed": [ended], "seconds": 0, "memory": 0})
                index += 1
    return told


def _watched(words: list[Any]) -> tuple[list[dict[str, Any]], str]:
    """The lines of one worker, and how it ended."""
    command = [sys.executable, "-m", "tests.mutants.worker", *map(str, words)]
    lines, ended = [], ""
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
        selectors.DefaultSelector() as waiting,
    ):
        waiting.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not waiting.select(HANGS):
                process.kill()
                ended = f"no answer within {HANGS:.0f} seconds"
                break
            line = process.stdout.readline()
            if not line:
                break
            lines.append(json.loads(line))
        process.wait()
        errors.seek(0)
        return lines, ended or f"the process ended with code {process.returncode}: {errors.read()[-3000:]}"


def summary(told: list[dict[str, Any]], command: str) -> str:
    """The evidence as a page of text."""
    kinds = sorted({line["kind"] for line in told})
    rows = []
    for kind in kinds:
        of_kind = [line for line in told if line["kind"] == kind]
        ends = Counter("failed" if line["failed"] else _end(line["outcomes"]) for line in of_kind)
        rows.append(f"| {kind} | {len(of_kind)} | {ends['refused']} | {ends['read']} | {ends['failed']} |")
    deep = [line for line in told if "page" in line["outcomes"]]
    pages = Counter(line["outcomes"]["page"] for line in deep)
    silent = [line for line in told if not line["failed"] and _end(line["outcomes"]) == "read"]
    start = told[0]["memory"] if told else 0
    sentences = {}
    for line in told:
        if line.get("sentence"):
            sentences.setdefault(line["kind"], line["sentence"])
    return "\n".join(
        [
            "# Mutated libraries",
            "",
            *textwrap.wrap(_STORY.format(count=len(told)).strip(), 120),
            "",
            f"    {command}",
            "",
            "| what was changed | libraries | refused in a sentence | read, shown as plain text | failed |",
            "| --- | ---: | ---: | ---: | ---: |",
            *rows,
            f"| all | {len(told)} | {' | '.join(str(_count(told, end)) for end in ('refused', 'read', 'failed'))} |",
            "",
            f"Pages: {pages['read']} made, {pages['refused']} refused. The slowest library took "
            f"{max((line['seconds'] for line in told), default=0):.1f} s; the process grew by "
            f"{(max((line['memory'] for line in told), default=0) - start) / 1e6:.0f} MB.",
            f"Of the {len(silent)} that could be read, {sum(line.get('resealed', False) for line in silent)} had new "
            "checksums. Their changes were numbers within the valid range, or text that is only displayed.",
            "",
            *textwrap.wrap(_BEFORE.strip(), 120),
            "",
            "One sentence of each kind:",
            "",
            *(f"- *{kind}*: {_shown(sentence)}" for kind, sentence in sorted(sentences.items())),
            "",
        ]
    )


def _count(told: list[dict[str, Any]], end: str) -> int:
    return sum(("failed" if line["failed"] else _end(line["outcomes"])) == end for line in told)


def _end(outcomes: dict[str, str]) -> str:
    return "refused" if "refused" in (outcomes.get("read"), outcomes.get("info")) else "read"


def _shown(sentence: str) -> str:
    """Without the folder, which is another in every run."""
    place = sentence.find("a.crp")
    start = sentence.rfind("'", 0, place)
    return f"`{sentence[: start + 1]}{sentence[place:]}`" if 0 <= start < place else f"`{sentence}`"
