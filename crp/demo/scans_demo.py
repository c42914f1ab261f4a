"""The scans of `crp demo`: a volume with a planted lesion, as an array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from .example import Example
from .planted import story as told
from .scans import Scans

CHOSEN = 2


def data(network: str, samples: int) -> Scans:
    """Return the volumes to mine."""
    return Scans("train", samples)


def example(folder: Path) -> Example:
    """Write the volume that is explained."""
    file = folder / "scan.npy"
    np.save(file, Scans("test", 3).sample(CHOSEN).values)
    return Example(file)


def story(model: nn.Module, explanation: Any) -> tuple[str, ...]:
    """Describe the atlas with the numbers of this run."""
    return told(Scans("test", 3).sample(CHOSEN), explanation, "The volume has a planted lesion, a bright shell.")
