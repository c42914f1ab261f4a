"""Spectrograms: dark where it is loud, low frequencies at the bottom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crp.explanations import Patch
from crp.media.medium import Axis, Medium
from crp.media.sound import loud_wav
from crp.visualization.inputs.page_renderer import Plain, Tick, around, enlarged, steps

# Larger than what pages show pixel by pixel.
_SIDE, _PATCH_SIDE = 336, 72


@dataclass(frozen=True)
class SpectrogramPages(Plain):
    """Spectrograms, uint8 `[F, T, 3]` with low frequencies first.

    Parameters
    ----------
    medium
        The axes of frequency and time.
    """

    medium: Medium

    def picture(self, values: np.ndarray) -> np.ndarray:
        """Draw the spectrogram upside down and dark on white."""
        return enlarged(255 - values[::-1], _SIDE)

    def relevance(self, heatmap: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Turn the heatmap likewise."""
        return enlarged(heatmap[::-1], _SIDE)

    def patch(self, patch: Patch) -> tuple[np.ndarray, np.ndarray]:
        """Draw the patch in the same way."""
        return enlarged(255 - patch.picture[::-1], _PATCH_SIDE), enlarged(patch.heatmap[::-1], _PATCH_SIDE)

    def arranged(self, cells: np.ndarray, blank: int) -> np.ndarray:
        """Turn the rows of cells likewise."""
        return cells[::-1]

    def where(self, heatmap: np.ndarray) -> str:
        """Say at which frequency and time."""
        return around(heatmap, self.medium.axes)

    def axes(self) -> tuple[Axis, ...]:
        """Return the axes of frequency and time."""
        return self.medium.axes

    def ticks(self, space: Sequence[int]) -> tuple[Tick, ...]:
        """Return times at the bottom and frequencies at the left."""
        frequency, time = self.medium.axes
        left = [Tick(0.0, 1 - y, text, "left") for y, text in steps(frequency, space[0]) if 0.08 < y < 0.95]
        bottom = [Tick(x, 1.0, text, "bottom") for x, text in steps(time, space[1]) if x > 0.08]
        for ticks, axis in ((left, frequency), (bottom, time)):
            if ticks and axis.unit:
                ticks[-1] = Tick(ticks[-1].x, ticks[-1].y, f"{ticks[-1].text} {axis.unit}", ticks[-1].side)
        return (*left, *bottom)

    def sound(self, values: np.ndarray, box: Sequence[int] = ()) -> bytes:
        """Return a sound with about this spectrogram as WAV; a patch with its frequencies alone."""
        stft = self.medium.stft
        if stft is None:
            return b""
        top, left, bottom, right = box or (0, 0, *values.shape[:2])
        # a large patch is stored smaller than it is
        rows = np.arange(bottom - top) * len(values) // (bottom - top)
        columns = np.arange(right - left) * values.shape[1] // (right - left)
        magnitude = np.zeros((stft.bins, right - left))
        magnitude[top:bottom] = values.mean(axis=2)[rows][:, columns]
        return loud_wav(stft.samples(magnitude)[None], stft.rate)
