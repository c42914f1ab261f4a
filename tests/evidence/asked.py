"""What scripts that measure several networks are asked on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path


def networks_asked(**counts: int) -> argparse.Namespace:
    """Read the folder of real data, `--only` for some networks, and numbers such as `--samples` with their defaults."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name, default in counts.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", help="Part of the name of one network.", default="")
    return parser.parse_args()
