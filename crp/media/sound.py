"""Sounds as WAV."""

from __future__ import annotations

import io
import math
import wave

import numpy as np

# Chromium plays nothing that has fewer samples per second (`media::limits::kMinSampleRate`).
SLOWEST = 3000


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
    """Encode samples as `wav_bytes`, as loud as possible, with at least `SLOWEST` per second, so that browsers play it.

    Where there are fewer, further ones are put between them, which adds no higher frequencies.
    """
    factor = math.ceil(SLOWEST / rate)
    if factor > 1:
        length, spectrum = samples.shape[1], np.fft.rfft(samples)
        if length % 2 == 0:
            spectrum[:, -1] /= 2  # half of the rate, which is no longer the last frequency, counts twice there
        samples, rate = np.fft.irfft(spectrum, length * factor) * factor, rate * factor
    loudest = float(np.abs(samples).max())
    return wav_bytes(samples / loudest if loudest else samples, rate)
