"""Sounds like the calls of whales, in which the class is a planted harmonic.

Every call is a gliding tone with its second harmonic, in noise with clicks. Two classes have one more harmonic: the
third one, which trills (its frequency is modulated), or the fifth one, which is pulsed (its amplitude is).
"""

from __future__ import annotations

import numpy as np

from crp.media.medium import Medium
from crp.media.stft import Stft

from .planted import Planted, PlantedSample

RATE = 2000
SAMPLES = 4000
STFT = Stft(RATE, window=128, hop=32)
NOISE = 0.03


class Calls(Planted):
    """Calls as spectrograms, float32 `[1, 64, 122]`: 0 to 984 Hz, low frequencies first, 2 seconds.

    `Waveforms` has the same calls as samples.

    Examples
    --------
    >>> calls = Calls("test", 3)
    >>> sample = calls.sample(1)
    >>> calls.class_names[sample.label], sample.values.shape, calls.waveform(1).shape
    ('trill', (1, 64, 122), (1, 4000))
    """

    class_names = ("plain", "trill", "pulsed")
    preprocessing = Medium.spectrogram(STFT)
    noise = NOISE * (6 / STFT.window) ** 0.5  # of magnitudes (RMS): a Hann window whose sum is 2

    def waveform(self, index: int) -> np.ndarray:
        """Return the samples of a call, float32 `[1, T]`."""
        return _call(*self._random(index))[0]

    def _made(self, rng: np.random.Generator, label: int) -> tuple[np.ndarray, np.ndarray]:
        samples, planted = _call(rng, label)
        return STFT(samples), STFT(planted)


class Waveforms(Calls):
    """The same calls as samples, float32 `[1, 4000]`; the mask says when the planted harmonic sounds."""

    preprocessing = Medium.audio(RATE)

    def sample(self, index: int) -> PlantedSample:
        """Make a sample, with its truth."""
        rng, label = self._random(index)
        samples, planted = _call(rng, label)
        return PlantedSample(samples, label, planted[0] != 0)

    def _random(self, index: int) -> tuple[np.random.Generator, int]:
        return Calls._random(Calls(self.split, self.count, seed=self.seed), index)


def _call(rng: np.random.Generator, label: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a call and its planted harmonic alone, float32 `[1, T]` each."""
    time = np.arange(SAMPLES) / RATE
    length = rng.uniform(0.7, 1.2)
    start = rng.uniform(0.1, 1.9 - length)
    within = (time - start) / length
    sounding = (within > 0) & (within < 1)
    envelope = np.where(sounding, np.sin(np.pi * within.clip(0, 1)) ** 0.5, 0)
    pitch = rng.uniform(135, 170) + rng.uniform(-15, 15) * within

    def tone(harmonic: int, amplitude: float, bend: np.ndarray | float = 0.0) -> np.ndarray:
        phase = 2 * np.pi * np.cumsum(harmonic * pitch + bend) / RATE
        return amplitude * envelope * np.sin(phase + rng.uniform(0, 2 * np.pi))

    planted = np.zeros(SAMPLES)
    if label == 1:
        speed = rng.uniform(6, 8)
        planted = tone(3, rng.uniform(0.15, 0.25), 35 * np.sin(2 * np.pi * speed * time))
    elif label == 2:
        beat = np.sin(2 * np.pi * rng.uniform(7, 9) * time)
        planted = tone(5, rng.uniform(0.2, 0.3)) * (0.5 + 0.5 * np.tanh(4 * beat))
    noise = rng.normal(0, NOISE, SAMPLES)
    for place in rng.integers(0, SAMPLES - 20, rng.integers(0, 4)):
        noise[place : place + 6] += rng.normal(0, 0.5, 6)
    samples = tone(1, rng.uniform(0.3, 0.5)) + tone(2, rng.uniform(0.15, 0.25)) + planted + noise
    return samples[None].astype(np.float32), planted[None].astype(np.float32)
