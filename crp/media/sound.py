"""Sounds as WAV."""

from __future__ import annotations

import io
import wave

import numpy as np


def wav_bytes(samples: np.ndarray, rate: float) -> bytes:
    """Encode samples, float `[c, T]` in -1..1 (others are clipped), as WAV of 16 bits."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(len(samples))
        file.setsampwidth(2)
        file.setframerate(round(rate))
        file.writeframes(np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").T.tobytes())
    return buffer.getvalue()


def loud_wav(samples: np.ndarray, rate: float) -> bytes:
    """Encode samples as `wav_bytes`, the loudest one as loud as possible."""
    loudest = float(np.abs(samples).max())
    return wav_bytes(samples / loudest if loudest else samples, rate)
