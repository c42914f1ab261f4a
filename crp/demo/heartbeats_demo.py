"""The heartbeats of `crp demo`: a recording of three leads with a planted spike, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from .example import Example
from .heartbeats import LEADS, RATE, Heartbeats
from .planted import story as told

CHOSEN = 1


def data(network: str, samples: int) -> Heartbeats:
    """Return the recordings to mine."""
    return Heartbeats("train", samples)


def example(folder: Path) -> Example:
    """Write the recording that is explained."""
    file = folder / "heartbeat.csv"
    values = Heartbeats("test", 3).sample(CHOSEN).values
    rows = [f"{index / RATE:g},{','.join(f'{value:.9g}' for value in row)}" for index, row in enumerate(values.T)]
    file.write_text("\n".join([f"time,{','.join(LEADS)}", *rows, ""]), encoding="utf-8")
    return Example(file)


def story(model: nn.Module, explanation: Any) -> tuple[str, ...]:
    """Describe the atlas with the numbers of this run."""
    sample = Heartbeats("test", 3).sample(CHOSEN)
    return told(sample, explanation, "Between two beats, lead V1 has a planted spike.")
