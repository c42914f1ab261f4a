"""The two virtual environments: ours, and that of zennit-crp 0.6.0 with the same torch and zennit.

zennit-crp owns the import name `crp`, so it needs an environment of its own.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".bench"
CONSTRAINTS = ROOT / "requirements" / "constraints.txt"

# For each side, the environment variable that names an existing interpreter.
GIVEN = {"ours": "BENCH_OURS_PYTHON", "theirs": "BENCH_THEIRS_PYTHON"}

# Resolves when the page has drawn a frame after the load event and responds. Returns the milliseconds from the start of
# the navigation to the load event, to the first paint, and to that moment.
TIMES = """
new Promise(done => requestAnimationFrame(() => setTimeout(() => {
  const [page] = performance.getEntriesByType("navigation");
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  done([page.loadEventEnd, paint ? paint.startTime : performance.now(), performance.now()]);
})))
"""


def interpreter(side: str) -> str:
    """Python of a side: the one its environment variable names, or that of an environment made on first use.

    pip gets torch from its configured index: `PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu` gives the small
    build without CUDA.

    Raises
    ------
    subprocess.CalledProcessError
        If pip fails.
    """
    given = os.environ.get(GIVEN[side])
    if given:
        return given
    folder = FOLDER / side
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists():
        print(f"making {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        for arguments in _installs(side, folder):
            pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
            subprocess.run([*pip, *arguments], check=True)
        complete.touch()
    return str(python)


def _installs(side: str, folder: Path) -> list[list[str]]:
    """Arguments of `pip install`, call by call."""
    if side == "ours":
        return [["-c", str(CONSTRAINTS), "-e", str(ROOT)]]
    # zennit-crp pins an older zennit; both sides should run with the same one, so it is replaced
    pinned = CONSTRAINTS.read_text().splitlines()
    (zennit,) = (line for line in pinned if line.startswith("zennit=="))
    others = folder / "constraints.txt"
    others.write_text("\n".join(line for line in pinned if line != zennit))
    return [["-c", str(others), "zennit-crp==0.6.0", "safetensors"], ["--no-deps", zennit]]


def browsing() -> ModuleType:
    """Load tests/browsing.py, which drives a headless Chromium."""
    name = "benchmarks_browsing"
    if name not in sys.modules:
        specification = importlib.util.spec_from_file_location(name, ROOT / "tests" / "browsing.py")
        sys.modules[name] = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(sys.modules[name])
    return sys.modules[name]
