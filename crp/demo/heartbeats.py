"""Signals like those of a heart in three leads, in which the class is a planted spike or flutter."""

from __future__ import annotations

import numpy as np

from crp.media.medium import Medium

from .planted import Planted

RATE = 100
NOISE = 0.02
SAMPLES = 600
LEADS = ("I", "II", "V1")
# Waves of one beat: place in seconds after its start, width in seconds, and height in each lead.
_WAVES = (
    (0.10, 0.025, (0.12, 0.18, 0.08)),  # P
    (0.22, 0.010, (-0.10, -0.12, -0.05)),  # Q
    (0.25, 0.014, (0.80, 1.10, 0.35)),  # R
    (0.28, 0.012, (-0.20, -0.25, -0.80)),  # S
    (0.48, 0.045, (0.22, 0.32, 0.15)),  # T
)


class Heartbeats(Planted):
    """Six seconds of beats in three leads, float32 `[3, 600]`, 100 values per second.

    In the class "spike", lead V1 has one narrow spike between two beats; in the class "flutter", lead II has a short
    oscillation of 12 Hz.

    Examples
    --------
    >>> sample = Heartbeats("test", 3).sample(1)
    >>> sample.values.shape, sample.label, 0 < int(sample.mask.sum()) < 30
    ((3, 600), 1, True)
    """

    class_names = ("normal", "spike", "flutter")
    preprocessing = Medium.signal(RATE, channels=LEADS, unit="mV")
    noise = NOISE

    def _made(self, rng: np.random.Generator, label: int) -> tuple[np.ndarray, np.ndarray]:
        time = np.arange(SAMPLES) / RATE
        period = rng.uniform(0.85, 1.1)
        starts = np.arange(-1, 9) * period + rng.uniform(0, period) + rng.normal(0, 0.01, 10)
        values = np.zeros((len(LEADS), SAMPLES))
        strength = rng.uniform(0.8, 1.2, (len(LEADS), 1))
        for place, width, heights in _WAVES:
            bumps = np.exp(-(((time - starts[:, None] - place) / width) ** 2) / 2).sum(0)
            values += strength * np.array(heights)[:, None] * bumps
        drift = rng.uniform(0, 0.08, (len(LEADS), 1)) * np.sin(
            2 * np.pi * (0.3 * time + rng.uniform(0, 1, (len(LEADS), 1)))
        )
        values += drift + rng.normal(0, NOISE, values.shape)
        alone = np.zeros_like(values)
        if label:
            # between the T wave of one beat and the P wave of the next
            beat = rng.choice([start for start in starts if 0.2 < start < SAMPLES / RATE - 1.2])
            middle = beat + (0.62 + period + 0.05) / 2
            lead, planted = self._planted(rng, label, time - middle)
            alone[lead] = planted
        return values + alone, alone

    @staticmethod
    def _planted(rng: np.random.Generator, label: int, time: np.ndarray) -> tuple[int, np.ndarray]:
        if label == 1:
            return 2, rng.uniform(1.1, 1.5) * np.exp(-((time / 0.02) ** 2) / 2)
        burst = np.exp(-((time / 0.09) ** 2) / 2)
        return 1, rng.uniform(0.6, 0.8) * burst * np.sin(2 * np.pi * 12 * time + rng.uniform(0, 2 * np.pi))
