"""A worker process, and messages to it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


class WorkerError(Exception):
    """A worker failed or died; the message ends with its output."""


class Process:
    """A worker in one of the environments; it ends with the `with` block.

    Parameters
    ----------
    python
        Interpreter of the environment.
    side
        `ours` or `theirs`.
    setup
        Arguments of `Worker.setup`.
    """

    def __init__(self, python: str, side: str, setup: dict[str, Any]) -> None:
        self.side = side
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed in close)
        self._process = subprocess.Popen(
            [python, "-I", str(HERE / "worker.py"), side],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            # waiting threads that spin would take the cores from threads with work
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
        )
        try:
            self.facts = self.ask("setup", **setup)
        except BaseException:
            self.close()
            raise

    def ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Send a message and wait for its answer.

        Raises
        ------
        WorkerError
            If the work failed or the process died.
        """
        try:
            self._process.stdin.write(json.dumps({"do": what, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._log.seek(0)
            raise WorkerError(f"The worker of {self.side} ended:\n{self._log.read()[-2000:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{what} failed in the worker of {self.side}:\n{answer['error']}")
        return answer

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):  # closing flushes what was not sent yet
            self._process.stdin.close()
        self._process.stdout.close()
        self._log.close()
