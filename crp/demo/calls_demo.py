"""The calls of `crp demo`: one whose third harmonic trills, as a sound file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from crp.media.sound import wav_bytes

from .calls import RATE, Calls, Waveforms
from .example import Example
from .planted import story as told

CHOSEN = 1


def data(network: str, samples: int) -> Calls:
    """Return the calls to mine, as samples for the network that takes these."""
    return (Waveforms if network == "waveform" else Calls)("train", samples)


def example(folder: Path) -> Example:
    """Write the call that is explained."""
    file = folder / "call.wav"
    file.write_bytes(wav_bytes(Calls("test", 3).waveform(CHOSEN), RATE))
    return Example(file)


def story(model: nn.Module, explanation: Any) -> tuple[str, ...]:
    """Describe the atlas with the numbers of this run."""
    calls = (Calls if explanation.heatmap.ndim == 2 else Waveforms)("test", 3)
    return told(calls.sample(CHOSEN), explanation, "The call has a planted third harmonic, which trills.")
