"""Progress bars: often at a terminal, seldom in a log."""

from __future__ import annotations

import io
import sys

import pytest

from crp.progress import progress_bar


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "notebook", "seconds"), [
    (_Terminal, False, 0.1),
    (io.StringIO, True, 0.1),  # a notebook is no terminal, and replaces the line all the same
    (io.StringIO, False, 30),
])  # fmt: skip
def test_how_often_a_bar_is_drawn(monkeypatch, stream, notebook, seconds):
    monkeypatch.setattr(sys, "stderr", stream())
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    if not notebook:
        monkeypatch.delitem(sys.modules, "ipykernel")
    with progress_bar("mining", 5, shown=True) as bar:
        assert bar.mininterval == seconds


def test_a_log_gets_the_beginning_and_the_end(monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    with progress_bar("mining", 1000, shown=True) as bar:
        for _ in range(1000):
            bar.update()
    first, last = log.getvalue().strip().split("\r")
    assert first.startswith("mining:   0%")
    assert "1000/1000" in last
    assert "sample/s" in last
