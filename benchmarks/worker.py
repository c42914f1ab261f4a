"""Runs in either environment and answers messages: `python -I benchmarks/worker.py ours` (or `theirs`).

A message is a line of JSON on standard input, its answer one on standard output. `-I` keeps the checkout's `crp/` off
the path of the environment of zennit-crp; whatever libraries print goes to standard error.
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


def _loaded(name: str, path: Path, **options: Any) -> Any:
    """A module from its file, without its folder on the path."""
    specification = importlib.util.spec_from_file_location(name, path, **options)
    sys.modules[name] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def peak_bytes(device: str) -> int:
    """Most memory held at any time so far: of the process, or of the GPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Worker:
    """Holds the work that was prepared last.

    Parameters
    ----------
    side
        `ours` or `theirs`.
    """

    def __init__(self, side: str) -> None:
        from benchmarks import rows, subjects

        self.rows, self.subjects = rows, subjects
        self.side = importlib.import_module(f"benchmarks.{side}")
        self.device = "cpu"
        self.work: Any = None
        self.after_import = peak_bytes("cpu")

    def setup(self, device: str, threads: int, tf32: bool) -> dict[str, Any]:
        """Settings of the process; returns what it is."""
        self.device = device
        if threads:
            torch.set_num_threads(threads)
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cuda.matmul.allow_tf32 = tf32
        return {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "zennit": importlib.metadata.version("zennit"),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if device.startswith("cuda") else None,
            "has_gpu": torch.cuda.is_available(),
        }

    def prepare(self, row: dict[str, Any], dtype: str, folder: str) -> dict[str, Any]:
        """Make network and pictures; returns a digest of both."""
        self.work = None
        gc.collect()
        row = self.rows.Row(**row)
        self.work = getattr(self.side, row.kind)(row, getattr(torch, dtype), self.device, Path(folder))
        return {"digest": self.subjects.digest(self.work.model, self.work.samples.data)}

    def run(self, units: int, batch: int) -> dict[str, float]:
        """Do the work once."""
        gc.collect()
        self._synchronize()
        start = time.perf_counter()
        self.work.run(units, batch)
        self._synchronize()
        return {"seconds": time.perf_counter() - start}

    def floor(self, units: int, batch: int) -> dict[str, float]:
        """Take plain gradients."""
        gc.collect()
        self._synchronize()
        return {"seconds": self.work.floor(units, batch)}

    def memory(self) -> dict[str, int]:
        """Peak memory, and what of it the imports had taken."""
        before = 0 if self.device.startswith("cuda") else self.after_import
        return {"peak": peak_bytes(self.device) - before}

    def check(self, path: str) -> dict[str, Any]:
        """Write what is to be compared."""
        from safetensors.torch import save_file

        save_file({name: value.detach().cpu().contiguous() for name, value in self.work.check().items()}, path)
        return {}

    def compare(self, path: str, reference: str) -> dict[str, float]:
        """Largest difference of two files, relative to the largest absolute value of each map (or layer)."""
        from safetensors.torch import load_file

        found, expected = load_file(path), load_file(reference)
        if found.keys() != expected.keys():
            raise ValueError(f"{sorted(found)} are compared with {sorted(expected)}.")
        worst = 0.0
        for name, value in found.items():
            for one, other in zip(value.double(), expected[name].double(), strict=True):
                difference, largest = float((one - other).abs().max()), float(other.abs().max())
                worst = max(worst, difference / largest if largest else difference)
        return {"difference": worst}

    def profile(self, units: int, batch: int) -> dict[str, str]:
        """Where the time of the work goes."""
        self.work.run(units, batch)
        with torch.profiler.profile() as profile:
            self.work.run(units, batch)
            self._synchronize()
        key = "self_cuda_time_total" if self.device.startswith("cuda") else "self_cpu_time_total"
        return {"table": profile.key_averages().table(sort_by=key, row_limit=25, max_name_column_width=60)}

    def _synchronize(self) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # PyPI's torchvision does not import beside a CPU build of torch; zennit-crp needs the same cure as we do.
    _loaded("benchmarks_compat", HERE.parent / "crp" / "compat.py").import_zennit_safely()
    _loaded("benchmarks", HERE / "__init__.py", submodule_search_locations=[str(HERE)])
    worker = Worker(sys.argv[1])
    for line in sys.stdin:
        message = json.loads(line)
        try:
            answer = getattr(worker, message.pop("do"))(**message)
        except Exception as error:
            unavailable = isinstance(error, worker.side.NotAvailable)
            answer = {"unavailable": str(error)} if unavailable else {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
