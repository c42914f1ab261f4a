"""The short-time Fourier transform as a convolution, so that relevance passes through it to the samples.

`torch.stft` returns complex numbers, for which there are no rules of relevance. A convolution with windowed cosines and
sines gives the same real and imaginary parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from crp.errors import InputError


@dataclass(frozen=True)
class Stft:
    """Magnitudes of the short-time Fourier transform with a Hann window, without padding.

    A sine of amplitude 1 whose frequency is that of a bin has the magnitude 1 there.

    Parameters
    ----------
    rate
        Samples per second.
    window
        Samples of one frame, even.
    hop
        Samples from one frame to the next.

    Raises
    ------
    InputError
        If a number is not positive, or the window is odd.

    Examples
    --------
    >>> stft = Stft(rate=2000, window=128, hop=32)
    >>> tone = np.sin(2 * np.pi * 250 * np.arange(4000) / 2000)[None].astype(np.float32)
    >>> magnitude = stft(tone)
    >>> magnitude.shape, float(stft.frequencies[magnitude[0, :, 60].argmax()]), round(float(magnitude[0, 16, 60]), 3)
    ((1, 64, 122), 250.0, 1.0)
    """

    rate: float
    window: int
    hop: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.rate <= 0 or self.window <= 0 or self.window % 2 or self.hop <= 0:
            raise InputError(
                "a short-time Fourier transform has a positive rate and hop and an even window, given the rate "
                f"{self.rate}, the window {self.window} and the hop {self.hop}."
            )

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Transform float `[c, T]` into magnitudes, float32 `[c, F, frames]`, low frequencies first.

        Raises
        ------
        InputError
            If there are fewer samples than a window has.
        """
        if samples.ndim != 2 or samples.shape[1] < self.window:
            raise InputError(
                f"a spectrogram with windows of {self.window} samples is made from samples [c, T] with "
                f"T >= {self.window}, not from shape {list(samples.shape)}."
            )
        frames = np.lib.stride_tricks.sliding_window_view(samples, self.window, axis=1)[:, :: self.hop]
        spectrum = np.fft.rfft(frames * self._hann, axis=2)[..., :-1]
        return np.abs(spectrum).transpose(0, 2, 1).astype(np.float32)

    def samples(self, magnitude: np.ndarray, rounds: int = 24) -> np.ndarray:
        """Find samples, float32 `[T]`, whose transform has about the magnitudes `[F, frames]`.

        The phases are not known; they are found by going back and forth (Griffin and Lim, "Signal estimation from
        modified short-time Fourier transform", 1984). The result is always the same.
        """
        wanted = np.concatenate([magnitude, np.zeros((1, magnitude.shape[1]))])
        phases = np.exp(2j * np.pi * np.random.default_rng(0).random(wanted.shape))
        for _ in range(rounds):
            found = self._inverse(wanted * phases)
            frames = np.lib.stride_tricks.sliding_window_view(found, self.window)[:: self.hop]
            phases = np.exp(1j * np.angle(np.fft.rfft(frames * self._hann, axis=1).T))
        return self._inverse(wanted * phases).astype(np.float32)

    def _inverse(self, spectrum: np.ndarray) -> np.ndarray:
        """Overlap and add the frames of a spectrum `[F + 1, frames]`: the samples with the nearest transform."""
        frames = np.fft.irfft(spectrum, self.window, axis=0) * self._hann[:, None]
        count = frames.shape[1]
        found, weight = np.zeros((2, self.window + (count - 1) * self.hop))
        for index in range(count):
            place = slice(index * self.hop, index * self.hop + self.window)
            found[place] += frames[:, index]
            weight[place] += self._hann**2
        return found / np.maximum(weight, weight.max() * 1e-3)

    @property
    def bins(self) -> int:
        """Number of frequencies `F`: from 0 to below half the rate."""
        return self.window // 2

    @property
    def frequencies(self) -> np.ndarray:
        """The frequency of each bin in Hz, float64 `[F]`."""
        return np.arange(self.bins) * self.rate / self.window

    @property
    def _hann(self) -> np.ndarray:
        window = np.hanning(self.window + 1)[:-1]
        return window / (window.sum() / 2)

    def layer(self) -> StftLayer:
        """Return the transform as the first layer of a model."""
        return StftLayer(self)


class StftLayer(nn.Module):
    """The transform as a convolution: samples `[N, 1, T]` -> magnitudes `[N, 1, F, frames]`.

    It has no trained weights. Relevance passes through it like through any convolution: a magnitude's relevance is
    shared by real and imaginary part as their squares are, and each part's by the samples.

    Parameters
    ----------
    stft
        Rate, window and hop.
    """

    def __init__(self, stft: Stft) -> None:
        super().__init__()
        self.stft = stft
        angle = 2 * np.pi * np.arange(stft.bins)[:, None] * np.arange(stft.window) / stft.window
        waves = np.concatenate([np.cos(angle), -np.sin(angle)]) * stft._hann
        self.waves = nn.Conv1d(1, 2 * stft.bins, stft.window, stride=stft.hop, bias=False)
        self.waves.weight = nn.Parameter(torch.from_numpy(waves[:, None].astype(np.float32)), requires_grad=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Transform a batch."""
        real, imaginary = self.waves(samples).chunk(2, dim=1)
        return (real.square() + imaginary.square()).sqrt()[:, None]
