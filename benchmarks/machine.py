"""The machine that was measured on, and when."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def facts() -> dict[str, Any]:
    """Describe processor, cores, memory and system."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
    }


def moment() -> dict[str, str]:
    """Return the date and the commit that is checked out."""
    return {"date": datetime.now(UTC).date().isoformat(), "commit": _git("rev-parse", "--short", "HEAD") + _changed()}


def _processor() -> str:
    """Return the name of the processor and those of its features that matter for bfloat16."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    values = {name.strip(): value.strip() for name, value in values.items()}
    known = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in values.get("flags", "").split()]
    return f"{values.get('model name', platform.machine())} ({', '.join(known)})"


def _changed() -> str:
    """Return a mark if the measured code differs from the commit."""
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", "crp", "attribution", "benchmarks")
    return " with changes" if changes else ""


def _git(*arguments: str) -> str:
    """Return the output of git, or nothing outside a checkout."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
