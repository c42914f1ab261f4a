"""Python processes that start in milliseconds: forked from one that has imported torch and crp.

A process of its own spends seconds of processor time on these imports, several times longer than most tests need.
What a forked process does is the same: it has its own signals, exit code, limits and output.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import resource
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# torch imports the last one, and with it sympy, in the first backward pass: a second of processor time.
IMPORTED = (
    "crp.analysis",
    "crp.attribution",
    "crp.mining",
    "crp.visualization.atlases",
    "torch.fx.experimental.symbolic_shapes",
)


def wait_for_no_disk() -> None:
    """Make `os.fsync` return at once in this process.

    No test cuts the power, and a busy disk takes longer than all that some files compute. What is synced, and when, is
    asked by tests that put a function of their own in its place.
    """
    os.fsync = lambda file: None


class Forked:
    """A running process, with the part of `subprocess.Popen` that tests use; standard input is empty."""

    def __init__(self, status: int, output: tuple[Any, Any]) -> None:
        self._status = os.fdopen(status)
        self._output = output
        self.pid = int(self._status.readline())
        self.returncode: int | None = None

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def poll(self) -> int | None:
        """The exit code, or None while the process runs."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return self.wait()
        return None

    def wait(self) -> int:
        """The exit code, negative for the number of a signal."""
        if self.returncode is None:
            self.returncode = int(self._status.readline())
            self._status.close()
        return self.returncode

    def communicate(self) -> tuple[str, str]:
        """Standard output and standard error, after the end."""
        self.wait()
        texts = []
        for file in self._output:
            file.seek(0)
            texts.append(file.read())
            file.close()
        return texts[0], texts[1]


@functools.cache
def _server(imported: tuple[str, ...]) -> socket.socket:
    """The connection to a process that has imported these modules and forks. It ends with this one."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, __file__, str(theirs.fileno()), *imported]
    server = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=ROOT, stdin=subprocess.DEVNULL)
    theirs.close()

    def end() -> None:
        ours.close()
        server.wait()  # so that `time` counts the processor time of all that ran

    atexit.register(end)
    return ours


def start(
    words: Sequence[object],
    *,
    cwd: Path,
    env: Mapping[str, str] = {},
    limits: Mapping[int, int] = {},
    imported: tuple[str, ...] = IMPORTED,
) -> Forked:
    """Start `python WORDS`: `-m module`, `-c code` or a script, and its arguments.

    Parameters
    ----------
    cwd
        The working folder.
    env
        Variables beside those of this process. torch and OpenMP do not see them: they are loaded already.
    limits
        Of `resource.setrlimit`, soft and hard.
    imported
        What is imported already when the process starts.
    """
    output = tuple(tempfile.TemporaryFile("w+", encoding="utf-8") for _ in range(2))  # noqa: SIM115 (closed when read)
    status, theirs = os.pipe()
    request = {"words": [str(word) for word in words], "cwd": str(cwd), "env": dict(env), "limits": dict(limits)}
    socket.send_fds(_server(imported), [json.dumps(request).encode()], [*(file.fileno() for file in output), theirs])
    os.close(theirs)
    return Forked(status, output)


def run(words: Sequence[object], **options: Any) -> subprocess.CompletedProcess:
    """`start`, and wait for the end."""
    process = start(words, **options)
    stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)


def _serve(connection: socket.socket) -> dict[str, Any]:
    """Fork a process for each request. Returns the request in that process, and nowhere else."""
    waiting = 0
    while True:
        message, handles, _, _ = socket.recv_fds(connection, 2**20, 3)
        if not message:
            for _ in range(waiting):
                os.wait()
            os._exit(0)
        # A process in between waits for the one that is asked for, and reports its end.
        if not os.fork():
            break
        waiting += 1
        for handle in handles:
            os.close(handle)
    connection.close()
    stdout, stderr, status = handles
    if child := os.fork():
        os.write(status, f"{child}\n".encode())
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(status, f"{ended}\n".encode())
        os._exit(0)
    os.close(status)
    for handle, place in ((stdout, 1), (stderr, 2)):
        os.dup2(handle, place)
        os.close(handle)
    return json.loads(message)


def _program(request: dict[str, Any]) -> Callable[[], Any]:
    """The program asked for, to be run as the main module."""
    for name, limit in request["limits"].items():
        resource.setrlimit(int(name), (limit, limit))
    os.chdir(request["cwd"])
    os.environ.update(request["env"])
    kind, *rest = request["words"]
    sys.path.insert(0, request["cwd"] if kind in ("-m", "-c") else str(Path(kind).resolve().parent))
    if kind == "-m":
        sys.argv = rest
        return lambda: runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    if kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        return lambda: exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    sys.argv = [kind, *rest]
    return lambda: runpy.run_path(kind, run_name="__main__")


def _run(program: Callable[[], Any]) -> None:
    """Run a program and end the process as the interpreter would, without freeing each object, which takes seconds."""
    code = 0
    try:
        program()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder has a `crp` too
    for name in sys.argv[2:]:
        importlib.import_module(name)
    wait_for_no_disk()
    gc.collect()
    gc.freeze()  # so that a collection in a forked process copies no pages
    _run(_program(_serve(socket.socket(fileno=int(sys.argv[1])))))
