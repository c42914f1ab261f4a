"""Runs in either environment and answers messages: `python -I benchmarks/worker.py ours` (or `theirs`).

A message is a line of JSON on standard input, the answer a line on standard output. `-I` keeps the checkout's `crp/`
off the path in the environment of zennit-crp; whatever libraries print goes to standard error.
"""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent


class Worker:
    """Holds the work that was last prepared; each public method answers the message of its name.

    Parameters
    ----------
    side
        `ours` or `theirs`.
    """

    def __init__(self, side: str) -> None:
        self._rows = importlib.import_module("benchmarks.rows")
        self._side = importlib.import_module(f"benchmarks.{side}")
        self._gpu = False
        self._device = "cpu"
        self._work: Any = None
        self._after_import = _peak_resident()

    def setup(self, device: str, threads: int) -> dict[str, Any]:
        """Set device and threads; return versions, threads and GPU."""
        self._device, self._gpu = device, device.startswith("cuda")
        if threads:
            torch.set_num_threads(threads)
        # rows that want TF32 switch it on
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        versions = {name: importlib.metadata.version(name) for name in ("torch", "zennit")}
        return {
            "python": platform.python_version(),
            **versions,
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if self._gpu else None,
        }

    def prepare(self, row: dict[str, Any], dtype: str, folder: str, scratch: str) -> dict[str, Any]:
        """Make network and pictures; return a digest of both."""
        self._work = None
        gc.collect()
        row = self._rows.Row(**row)
        kind = getattr(self._side, row.kind)
        self._work = kind(row, getattr(torch, dtype), self._device, Path(folder), Path(scratch))
        return {"digest": self._work.digest()}

    def run(self, units: int, batch: int) -> dict[str, Any]:
        """Do the work once."""
        gc.collect()
        self._work.synchronize()
        start = time.perf_counter()
        self._work.run(units, batch)
        self._work.synchronize()
        return {"seconds": time.perf_counter() - start}

    def floor(self, units: int, batch: int) -> dict[str, Any]:
        """Take plain gradients."""
        gc.collect()
        return {"seconds": self._work.floor(units, batch)}

    def memory(self) -> dict[str, Any]:
        """Return the peak memory in bytes so far: of the process, beyond its imports, or of the GPU."""
        peak = torch.cuda.max_memory_allocated() if self._gpu else _peak_resident() - self._after_import
        return {"peak": peak}

    def figures(self, batch: int) -> dict[str, Any]:
        """Return what this kind of work measures itself."""
        return {"figures": self._work.figures(batch)}

    def check(self, path: str) -> dict[str, Any]:
        """Write results to compare."""
        from safetensors.torch import save_file

        save_file({name: value.detach().cpu().contiguous() for name, value in self._work.check().items()}, path)
        return {}

    def compare(self, path: str, reference: str) -> dict[str, Any]:
        """Return the largest difference between two files, relative to the largest absolute value in each row."""
        from safetensors.torch import load_file

        found, expected = load_file(path), load_file(reference)
        if found.keys() != expected.keys():
            raise ValueError(f"{sorted(found)} are compared with {sorted(expected)}.")
        worst = 0.0
        for name, rows in found.items():
            for one, other in zip(rows.double(), expected[name].double(), strict=True):
                difference, largest = float((one - other).abs().max()), float(other.abs().max())
                # two all-zero maps are equal; and a NaN must not pass for a small difference
                relative = difference / largest if largest else difference
                worst = relative if relative != relative else max(worst, relative)
        return {"difference": worst}

    def profile(self, units: int, batch: int) -> dict[str, Any]:
        """Profile the work."""
        self._work.run(units, batch)
        with torch.profiler.profile() as profile:
            self._work.run(units, batch)
            self._work.synchronize()
        key = "self_cuda_time_total" if self._gpu else "self_cpu_time_total"
        return {"table": profile.key_averages().table(sort_by=key, row_limit=25, max_name_column_width=60)}


def _peak_resident() -> int:
    """Return the peak memory of this process in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _loaded(name: str, path: Path, **options: Any) -> Any:
    """Load a module from its file, without its folder on the path."""
    specification = importlib.util.spec_from_file_location(name, path, **options)
    sys.modules[name] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def main() -> None:
    """Answer messages until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # PyPI's torchvision cannot be imported with a CPU build of torch; zennit-crp needs the same workaround as we do.
    _loaded("benchmarks_compat", HERE.parent / "crp" / "compat.py").import_zennit_safely()
    _loaded("benchmarks", HERE / "__init__.py", submodule_search_locations=[str(HERE)])
    worker = Worker(sys.argv[1])
    for line in sys.stdin:
        message = json.loads(line)
        try:
            answer = getattr(worker, message.pop("do"))(**message)
        except Exception:
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
