"""The guide names a test for every bug, and every such test is in the guide."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAME = r"test_bug_\w+"


def test_every_bug_has_its_test_and_its_line():
    guide = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("migrating*.md")))
    tests = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests" / "legacy").glob("test_*.py")))
    named = set(re.findall(f"`({NAME})`", guide))
    assert len(named) > 20
    assert named == set(re.findall(rf"^def ({NAME})\(", tests, re.M))
    for line in guide.splitlines():
        if "**bug**" in line and line.startswith("|"):
            assert re.search(f"`{NAME}`", line), line


def test_every_line_of_a_table_is_marked():
    guide = (ROOT / "docs" / "migrating-from-zennit-crp.md").read_text(encoding="utf-8")
    lines = guide.partition("## The bugs, one by one")[2].splitlines()
    rows = [line for line in lines if re.match(r"\| \w.*:?\d* \|", line)]
    rows = [row for row in rows if not row.startswith("| where")]
    assert len(rows) > 30
    unmarked = [row for row in rows if not re.search(r"\*\*(bug|old default kept|does not arise)\*\*", row)]
    assert unmarked == []
